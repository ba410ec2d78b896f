"""What only who has the tokenizer can check of opened documents: that they are text, and in the pool where they belong."""

import numpy as np

from ralph.data.partition import Fractions, document_digest, pool_of, shard_of, split_of
from ralph.data.tokenizer import Tokenizer
from ralph.errors import UntrustedInputError
from ralph.protocol.pool import OpenedSubset, PoolCommitment


def verify_places(opened: OpenedSubset, commitment: PoolCommitment, *, tokenizer: Tokenizer, fractions: Fractions) -> None:
    """Check that every document is hidden, of this pool and of this shard, tokenized as it must be, and there once.

    Two pools whose openings pass share no document. Call ``ralph.evaluate.active.verify_opened`` first.

    Raises:
        UntrustedInputError: OPN-PLACE with the place of the document that is not.
    """
    seen: set[bytes] = set()
    for opening in opened.openings:
        tokens = np.frombuffer(opening.tokens, "<u2")
        text = tokenizer.decode(tokens.tolist())
        document = document_digest(text)
        where = f"document {opening.index} of {opened.subset.shard}"
        if not np.array_equal(tokenizer.encode(text), tokens):
            raise UntrustedInputError("OPN-PLACE", f"{where} is not tokenized as its text is")
        if split_of(document, fractions) != "hidden":
            raise UntrustedInputError("OPN-PLACE", f"{where} is no hidden document")
        if pool_of(document, commitment.pools) != commitment.pool or shard_of(document) != opened.subset.shard:
            raise UntrustedInputError("OPN-PLACE", f"{where} belongs to another pool or shard")
        if document in seen:
            raise UntrustedInputError("OPN-PLACE", f"{where} is in the shard twice")
        seen.add(document)
