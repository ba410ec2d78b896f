"""Which documents of a hidden pool are scored: public draws that nobody can steer, each from what no earlier one has used.

A rotation draws from every shard with B2 of its first round, and a crown draws the further documents that it seals with
B2 of its own round. Both beacons are later than the commitment that they draw from, and nothing else goes in but the
validator's hotkey and the name of the subset, so everybody can repeat all draws from the leaves and the beacons.
Documents are known by their leaves, which they keep when a refresh moves them to other places.

What this does **not** promise: that the beacon really was later. Who has the chain can check it, see ``ralph.auditor``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.evaluate.draw import permutation
from ralph.protocol.canonical import digest
from ralph.protocol.merkle import tree_hash
from ralph.protocol.pool import SHARDS, OpenedSubset, PoolCommitment, PoolLeaves, ShardName, Subset
from ralph.protocol.rounds import begins_rotation, rotation_of
from ralph.protocol.scoring_rules import HiddenRules

ACTIVE_TAG = "recipe-net/pool/active/v2"
ACTIVE_PART = 10
"""One document in this many is active where there is enough text: each rotation is a small part of what is committed."""


def active_count(documents: int) -> int:
    """Return how many documents of a shard a rotation uses where there is enough text."""
    return documents // ACTIVE_PART


def active_subset(*, beacon: bytes, hotkey: str, subset: Subset, places: Sequence[int], count: int) -> tuple[int, ...]:
    """Draw ``count`` of ``places`` without replacement; return them in ascending order.

    Args:
        beacon: 32 public random bytes that nobody knew when the pool was committed to.
        hotkey: Of the validator whose pool it is.
        subset: What the documents are drawn for.
        places: Of the documents that may be drawn, ascending.
        count: Documents to draw.

    Raises:
        InfrastructureError: OPS-DATA, fewer documents than are to be drawn: the round is held.
    """
    if len(beacon) != 32:
        raise ValueError(f"a beacon has 32 bytes, not {len(beacon)}")
    if not 0 < count <= len(places):
        raise InfrastructureError(_exhausted(subset.shard, len(places), count), code="OPS-DATA")
    key = digest(ACTIVE_TAG, {"beacon": beacon, "hotkey": hotkey, "subset": subset.value()})
    return tuple(sorted(places[number] for number in permutation(key, "documents", len(places))[:count]))


def _exhausted(shard: ShardName, left: int, wanted: int) -> str:
    detail = f"shard {shard} of the hidden pool has {left} documents that no rotation and no crown has used, {wanted} are needed"
    return f"{detail}; run `ralph data refresh` and name the refreshed pool in `hidden_refreshed`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The documents of one subset."""

    subset: Subset
    commitment: bytes
    """Digest of the PoolCommitment that they were drawn from."""
    places: tuple[int, ...]
    """In the shard, ascending."""
    leaves: tuple[bytes, ...] = field(repr=False)
    """In the order of ``places``."""

    @property
    def root(self) -> bytes:
        """Return the RFC 6962 root over the leaves."""
        return tree_hash(self.leaves)


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A pool as everybody sees it."""

    commitment: PoolCommitment
    leaves: PoolLeaves = field(repr=False)


class Draws:
    """Every draw of one validator's history, in its order. Validator and auditor replay it round by round.

    Args:
        hotkey: Of the validator: from the chain, never from what he publishes.
        rules: How much each draw takes.
    """

    def __init__(self, *, hotkey: str, rules: HiddenRules) -> None:
        self._hotkey, self._rules = hotkey, rules
        self._used: set[bytes] = set()
        self._drawn: dict[Subset, Drawn] = {}
        self._pool: Committed | None = None
        self._round, self._beacon = -1, b""

    def begin(self, index: int, beacon_two: bytes, pool: Committed) -> None:
        """Take in a round. The first one of a rotation draws its documents from ``pool``; later ones must name the same.

        Raises:
            InfrastructureError: OPS-DATA, a shard has too few unused documents left.
        """
        if index != self._round + 1:
            raise ValueError(f"round {index} after round {self._round}")
        if begins_rotation(self._rules, index):
            drawn = [self._draw(Subset(shard=name, rotation=rotation_of(self._rules, index)), beacon_two, pool) for name in SHARDS]
            self._pool = pool
            for one in drawn:
                self._keep(one)
        self._round, self._beacon = index, beacon_two

    def sealed(self) -> Drawn:
        """Return what a crown in the present round seals; perhaps fewer documents than the Rules say, where no more are left."""
        if self._pool is None:
            raise ValueError("no round has begun")
        subset = Subset(shard="confirm", rotation=rotation_of(self._rules, self._round), crown=self._round)
        return self._draw(subset, self._beacon, self._pool)

    def crowned(self) -> Drawn:
        """Take in that the present round crowned; return what that seals."""
        return self._keep(self.sealed())

    def find(self, subset: Subset) -> Drawn:
        """Return a draw that was made. Raises KeyError."""
        return self._drawn[subset]

    def lacking(self, leaves: PoolLeaves) -> Mapping[ShardName, str]:
        """Return the shards that have too few unused documents for the next rotation, with a sentence for each."""
        left = {name: len(self._unused(leaves.shard(name))) for name in SHARDS}
        wanted = {name: self._rules.count(Subset(shard=name, rotation=0)) for name in SHARDS}
        return {name: _exhausted(name, left[name], wanted[name]) for name in SHARDS if left[name] < wanted[name]}

    def _draw(self, subset: Subset, beacon: bytes, pool: Committed) -> Drawn:
        leaves = pool.leaves.shard(subset.shard)
        unused = self._unused(leaves)
        count = self._rules.count(subset)
        if subset.crown is not None:
            count = min(count, len(unused))
        places = active_subset(beacon=beacon, hotkey=self._hotkey, subset=subset, places=unused, count=count) if count else ()
        return Drawn(subset=subset, commitment=pool.commitment.digest(), places=places, leaves=tuple(leaves[one] for one in places))

    def _unused(self, leaves: Sequence[bytes]) -> list[int]:
        return [place for place, leaf in enumerate(leaves) if leaf not in self._used]

    def _keep(self, drawn: Drawn) -> Drawn:
        self._used.update(drawn.leaves)
        self._drawn[drawn.subset] = drawn
        return drawn


def verify_opened(opened: OpenedSubset, drawn: Drawn, pool: Committed, *, hotkey: str) -> None:
    """Check that every opening holds and that together they are exactly the documents that were drawn.

    Args:
        opened: What a validator published.
        drawn: What the draw names, recomputed.
        pool: The commitment that it was drawn from, and its leaves.
        hotkey: Of the validator who made the commitment: from the chain, never from what he published here.

    Raises:
        UntrustedInputError: OPN-SUBSET, it is of another draw; OPN-ABSENT, a drawn document is missing; OPN-EXTRA, one was not drawn, is
            there twice or out of order; OPN-POOL, one of another pool; OPN-SWAP, a committed document in another's place;
            OPN-LEAF, salt, source or tokens that were never committed to.
    """
    if (opened.hotkey, opened.subset) != (hotkey, drawn.subset):
        detail = f"opened is {opened.subset.key} of {opened.hotkey[:16]}, not {drawn.subset.key} of {hotkey[:16]}"
        raise UntrustedInputError("OPN-SUBSET", detail)
    for opening in opened.openings:
        if opening.commitment != drawn.commitment:
            raise UntrustedInputError("OPN-POOL", f"document {opening.index} is of the pool {opening.commitment.hex()[:16]}")
        if opening.shard != drawn.subset.shard:
            raise UntrustedInputError("OPN-POOL", f"document {opening.index} is of shard {opening.shard}, not of {drawn.subset.shard}")
    _refuse_other_documents([opening.index for opening in opened.openings], drawn.places)
    known = set(pool.leaves.shard(drawn.subset.shard))
    for opening, leaf in zip(opened.openings, drawn.leaves, strict=True):
        if opening.leaf() != leaf:
            swapped = opening.leaf() in known
            what = "another document of the shard in its place" if swapped else "salt, source or tokens that were not committed to"
            raise UntrustedInputError("OPN-SWAP" if swapped else "OPN-LEAF", f"document {opening.index} is opened with {what}")
        opening.verify(pool.commitment)


def _refuse_other_documents(found: Sequence[int], drawn: Sequence[int]) -> None:
    missing = sorted(set(drawn) - set(found))
    if missing:
        raise UntrustedInputError("OPN-ABSENT", f"{len(missing)} of {len(drawn)} drawn documents are not opened, the first is {missing[0]}")
    extra = sorted(set(found) - set(drawn))
    if extra:
        raise UntrustedInputError("OPN-EXTRA", f"{len(extra)} opened documents were not drawn, the first is {extra[0]}")
    if list(found) != list(drawn):
        raise UntrustedInputError("OPN-EXTRA", "documents are opened twice or out of order")
