"""Replace what was opened of a hidden pool, and up to a tenth of the rest, by newer text: another commitment, which names the one before.

Documents that stay keep their leaves, since the key stays. What was opened goes first; which others go follows from the old
commitment, not from a choice. Everybody can check with ``ralph.protocol.pool.verify_refresh`` that no more was replaced.

The old pool and the new text that belongs to it are in memory meanwhile.

What this does **not** promise: that the text is newer; that is the operator's to see to. The new commitment takes effect with the
rotation after the Record whose anchor names it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ralph.data.corpora import Document
from ralph.data.encode import Stretch, stretch_of
from ralph.data.layout import INDEX
from ralph.data.partition import Entry, Fractions, SubPool, document_digest, has_utf8, pool_of, shard_of, split_of
from ralph.data.pool import Contents, HiddenPool
from ralph.data.poolwriter import PoolWriter
from ralph.data.staging import PRIVATE_MODE, Staging
from ralph.data.tokenizer import Tokenizer
from ralph.errors import ConfigurationError
from ralph.protocol.canonical import digest
from ralph.protocol.data import BOS
from ralph.protocol.pool import SHARDS, PoolCommitment, ShardName, refreshed_documents

REFRESH_TAG = "recipe-net/pool/refresh/v1"


def refresh(
    out: Path,
    old: HiddenPool,
    *,
    tokenizer: Tokenizer,
    documents: Iterable[Document],
    fractions: Fractions,
    opened: frozenset[bytes] = frozenset(),
) -> PoolCommitment:
    """Write the refreshed pool to ``out`` under the key of the old one, whose directory stays as it is.

    Args:
        out: Another directory than the old pool's.
        old: The pool that is refreshed.
        tokenizer: The one that the pool was made with.
        documents: Newer text. Of it the first new documents by digest that belong into each shard are taken.
        fractions: The shares that the pool was prepared with.
        opened: Leaves of documents that everybody has seen. As many of them are replaced as there is text for.

    Raises:
        ConfigurationError: OPS-DATA, too little new text, or text of a source that the track does not have.
        CorruptStateError: OPS-DATA, the old pool does not open.
    """
    if out.absolute() == old.directory.absolute():
        raise ConfigurationError(f"write the refreshed pool to another directory than {out}: the old one is needed to check it")
    fresh = _by_shard(documents, old.commitment, fractions)
    stretches: dict[ShardName, Stretch] = {}
    for name in SHARDS:
        contents = old.contents(name)
        entries = _new(fresh[name], contents, least=refreshed_documents(contents.index.size), opened=_seen(old, name, opened))
        added = stretch_of(entries, tokenizer, old.commitment.source_names)
        stretches[name] = _merged(contents, _staying(old, name, len(entries), opened), added)
    with Staging(out, mode=PRIVATE_MODE) as staging:
        writer = PoolWriter(staging, key=old.key, source_names=old.commitment.source_names)
        for name, stretch in stretches.items():
            writer.note(name, stretch)
        commitment = writer.commit(
            tokenizer=old.commitment.tokenizer,
            vocabulary=old.commitment.vocabulary,
            sub_pool=SubPool(number=old.commitment.pool, count=old.commitment.pools),
            refresh=old.commitment.refresh + 1,
            previous=old.commitment.digest(),
        )
        for name, stretch in stretches.items():
            writer.seal(name, stretch)
        writer.close()
        staging.commit()
    return commitment


def _by_shard(documents: Iterable[Document], commitment: PoolCommitment, fractions: Fractions) -> dict[ShardName, dict[bytes, Entry]]:
    """Return the documents that belong into this pool, by shard and digest."""
    found: dict[ShardName, dict[bytes, Entry]] = {name: {} for name in SHARDS}
    for document in documents:
        if not has_utf8(document.text):
            continue
        if document.source not in commitment.source_names:
            raise ConfigurationError(f"the pool has no source {document.source!r}", code="OPS-DATA")
        name = document_digest(document.text)
        if split_of(name, fractions) == "hidden" and pool_of(name, commitment.pools) == commitment.pool:
            found[shard_of(name)][name] = Entry(digest=name, source=document.source, text=document.text)
    return found


def _seen(old: HiddenPool, name: ShardName, opened: frozenset[bytes]) -> int:
    return sum(leaf in opened for leaf in old.leaves.shard(name))


def _new(candidates: dict[bytes, Entry], contents: Contents, *, least: int, opened: int) -> list[Entry]:
    """Return the first candidates by digest that the shard does not have: as many as were opened, and at least ``least``."""
    known = {row.tobytes() for row in contents.index["digest"]}
    fresh = [candidates[name] for name in sorted(candidates) if name not in known]
    if len(fresh) < least:
        detail = f"shard {contents.shard} needs {least} new documents, the text has {len(fresh)} that belong there; add newer text"
        raise ConfigurationError(detail, code="OPS-DATA")
    return fresh[: max(least, opened)]


def _staying(old: HiddenPool, name: ShardName, leaving: int, opened: frozenset[bytes]) -> Sequence[int]:
    """Return the places of the documents that stay: opened ones leave first, then others in an order that the old commitment fixes."""
    commitment = old.commitment.digest()
    keys = [(leaf not in opened, digest(REFRESH_TAG, {"commitment": commitment, "leaf": leaf})) for leaf in old.leaves.shard(name)]
    return sorted(sorted(range(len(keys)), key=keys.__getitem__)[leaving:])


def _merged(contents: Contents, staying: Sequence[int], added: Stretch) -> Stretch:
    """Return the documents that stay and the new ones in the order of their digests."""
    rows = [(row, contents.tokens) for row in contents.index[np.asarray(staying, np.int64)]]
    rows += [(row, added.tokens) for row in added.index]
    rows.sort(key=lambda one: one[0]["digest"].tobytes())
    index = np.array([row for row, _ in rows], INDEX)
    lengths = index["tokens"].astype(np.int64)
    stream = np.full(int(lengths.sum()) + len(rows), BOS, added.tokens.dtype)
    index["offset"] = np.cumsum(lengths + 1) - lengths
    for place, (row, tokens) in enumerate(rows):
        start, length, source = int(index["offset"][place]), int(row["tokens"]), int(row["offset"])
        stream[start : start + length] = tokens[source : source + length]
    return Stretch(tokens=stream, index=index)
