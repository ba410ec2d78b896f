"""Which documents of a hidden pool's shard are scored in a rotation: a public draw, and the check of what was opened after it.

The draw follows from a beacon that came after the commitment, the validator's hotkey, the shard and the number of the
rotation, and from nothing that the validator chooses, so everybody can repeat it from the commitment. A tenth of the
shard is active at a time where there is enough text; how many documents that are is a number in the Rules.

Only rotation 0 is drawn in this release: nothing rotates yet, and nothing is opened. What this does **not** promise: a
beacon that nobody knew when the pool was made. A development network takes the hash of its genesis block, which its
operator makes, and could try again.
"""

from collections.abc import Sequence

from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.evaluate.draw import permutation
from ralph.protocol.canonical import digest
from ralph.protocol.pool import OpenedSubset, PoolCommitment, ShardName

ACTIVE_TAG = "recipe-net/pool/active/v1"
ACTIVE_PART = 10
"""One document in this many is active where there is enough text: each rotation is a small part of what is committed."""
FIRST_ROTATION = 0


def active_count(documents: int) -> int:
    """Return how many documents of a shard a rotation uses where there is enough text."""
    return documents // ACTIVE_PART


def active_subset(*, beacon: bytes, hotkey: str, shard: ShardName, rotation: int, documents: int, count: int) -> tuple[int, ...]:
    """Draw ``count`` of ``documents`` without replacement; return their places in ascending order.

    Args:
        beacon: 32 public random bytes that nobody knew when the pool was committed to.
        hotkey: Of the validator whose pool it is.
        shard: Which shard.
        rotation: Its number; only 0 is used yet.
        documents: Of the shard, from the commitment.
        count: Documents to draw, from the Rules.

    Raises:
        ConfigurationError: OPS-DATA, the shard has fewer documents than are to be drawn.
    """
    if len(beacon) != 32:
        raise ValueError(f"a beacon has 32 bytes, not {len(beacon)}")
    if not 0 < count <= documents:
        detail = f"{count} documents of shard {shard} are to be drawn, it has {documents}; prepare a hidden pool from more text"
        raise ConfigurationError(detail, code="OPS-DATA")
    key = digest(ACTIVE_TAG, {"beacon": beacon, "hotkey": hotkey, "shard": shard, "rotation": rotation})
    return tuple(sorted(permutation(key, "documents", documents)[:count].tolist()))


def verify_opened(
    opened: OpenedSubset, commitment: PoolCommitment, *, beacon: bytes, hotkey: str, shard: ShardName, rotation: int, count: int
) -> None:
    """Check that every opening holds and that together they are exactly the documents that were drawn.

    Args:
        opened: What a validator published.
        commitment: To his pool, as it was before the beacon.
        beacon: Of the rotation.
        hotkey: Of the validator who made the commitment: from the chain, never from what he published here.
        shard: Which shard was scored.
        rotation: In which rotation.
        count: Documents that the Rules say are scored.

    Raises:
        UntrustedInputError: INT-HASH, an opening that the commitment does not contain; INT-ABSENT, a drawn document that
            is missing; INT-SCHEMA, one that was not drawn, is there twice or out of order, or the subset of another draw.
        ConfigurationError: OPS-DATA, the shard never had so many documents.
    """
    if (opened.hotkey, opened.shard, opened.rotation) != (hotkey, shard, rotation):
        detail = f"opened is rotation {opened.rotation} of {opened.shard} of {opened.hotkey[:16]}"
        raise UntrustedInputError("INT-SCHEMA", f"{detail}, not rotation {rotation} of {shard} of {hotkey[:16]}")
    size = commitment.shard(shard).documents
    drawn = active_subset(beacon=beacon, hotkey=hotkey, shard=shard, rotation=rotation, documents=size, count=count)
    _refuse_other_documents([opening.index for opening in opened.openings], drawn)
    for opening in opened.openings:
        if opening.shard != shard:
            raise UntrustedInputError("INT-SCHEMA", f"document {opening.index} is of shard {opening.shard}, not of {shard}")
        opening.verify(commitment)


def _refuse_other_documents(found: Sequence[int], drawn: Sequence[int]) -> None:
    missing = sorted(set(drawn) - set(found))
    if missing:
        raise UntrustedInputError("INT-ABSENT", f"{len(missing)} of {len(drawn)} drawn documents are not opened, the first is {missing[0]}")
    extra = sorted(set(found) - set(drawn))
    if extra:
        raise UntrustedInputError("INT-SCHEMA", f"{len(extra)} opened documents were not drawn, the first is {extra[0]}")
    if list(found) != list(drawn):
        raise UntrustedInputError("INT-SCHEMA", "documents are opened twice or out of order")
