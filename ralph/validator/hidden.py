"""The hidden documents of a validator, round by round: which pool, which draw, which rows, and what is opened when it is over.

Pools are opened into memory and only when one of their shards is scored or opened. Everything is a function of the pools,
the published history and the beacons, so a validator that was killed draws the same documents again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ralph.data.dataset import DataSet, DocumentSet, Rows
from ralph.data.pool import HiddenPool
from ralph.errors import ConfigurationError, InfrastructureError
from ralph.evaluate.active import Committed, Drawn, Draws
from ralph.interfaces import BundleStore
from ralph.judge.decide import Sealed
from ralph.protocol.pool import SHARDS, OpenedSubset, ShardName, Subset, leaves_name
from ralph.protocol.rounds import rotation_of
from ralph.protocol.rules import Rules
from ralph.records.history import Entry
from ralph.validator.facts import Archive


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pools:
    """A validator's pool and its refreshes, oldest first.

    Raises:
        ConfigurationError: OPS-DATA, one does not follow the one before it.
    """

    pools: tuple[HiddenPool, ...]
    data: DataSet
    _documents: dict[tuple[bytes, ShardName], DocumentSet] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for old, new in zip(self.pools, self.pools[1:], strict=False):
            if new.commitment.previous != old.commitment.digest():
                detail = f"{new.directory} is no refresh of {old.directory}; list every refresh in `hidden_refreshed`, oldest first"
                raise ConfigurationError(detail, code="OPS-DATA")

    @property
    def newest(self) -> HiddenPool:
        """Return the pool that the next rotation draws from."""
        return self.pools[-1]

    def find(self, commitment: bytes) -> HiddenPool:
        """Return the pool of a commitment. Raises InfrastructureError OPS-DATA where it is not configured."""
        for pool in self.pools:
            if pool.commitment.digest() == commitment:
                return pool
        detail = f"no configured hidden pool has the commitment {commitment.hex()[:16]}, whose documents are scored now"
        raise InfrastructureError(f"{detail}; name it in `hidden` or `hidden_refreshed`", code="OPS-DATA")

    def committed(self, commitment: bytes) -> Committed:
        """Return what everybody may know of a pool."""
        pool = self.find(commitment)
        return Committed(commitment=pool.commitment, leaves=pool.leaves)

    def documents(self, commitment: bytes, shard: ShardName) -> DocumentSet:
        """Return a shard, opened once."""
        key = commitment, shard
        if key not in self._documents:
            self._documents[key] = self.find(commitment).documents(shard, self.data)
        return self._documents[key]

    def rows(self, drawn: Drawn, sequence: int) -> Rows:
        """Return the drawn documents as rows of ``sequence`` + 1 tokens."""
        return self.documents(drawn.commitment, drawn.subset.shard).select(drawn.places).rows(None, sequence)

    def publish(self, store: BundleStore) -> None:
        """Publish what everybody may know of the pools, and what counts the bytes of opened documents."""
        for pool in self.pools:
            store.put(pool.commitment.to_bytes())
            store.put_named(leaves_name(pool.commitment.digest()), store.put(pool.leaves.to_bytes()))
        store.put(self.data.manifest.to_bytes())
        store.put(self.data.token_bytes.tobytes())
        store.put(self.data.tokenizer_bytes)

    def opened(self, drawn: Drawn, hotkey: str) -> OpenedSubset:
        """Return the openings of a subset that is over."""
        pool = self.find(drawn.commitment)
        return pool.opened(pool.contents(drawn.subset.shard), drawn.places, hotkey=hotkey, subset=drawn.subset)


class HiddenRound:
    """What one round may know of the hidden documents.

    Args:
        pools: Of the validator.
        rules: The Rules in force.
        hotkey: Of the validator.
        entries: Every published Record so far, oldest first.
        archive: Beacons of rounds.
        index: The round.
        beacon_two: Its B2.
    """

    def __init__(
        self, pools: Pools, rules: Rules, *, hotkey: str, entries: Sequence[Entry], archive: Archive, index: int, beacon_two: bytes
    ) -> None:
        self._pools, self._rules, self._hotkey = pools, rules, hotkey
        self._rows: dict[Subset, Rows] = {}
        self._draws = Draws(hotkey=hotkey, rules=rules.hidden)
        for number in range(index + 1):
            beacon = beacon_two if number == index else archive.past_beacon("B2", number)
            self._draws.begin(number, beacon, pools.committed(commitment_of(number, entries, rules)))
            if number < index and entries[number].signed.record.crown is not None:
                self._draws.crowned()
        self.commitment = commitment_of(index, entries, rules)

    def rows(self, subset: Subset) -> Rows:
        """Return the rows of a subset."""
        if subset not in self._rows:
            rules = self._rules
            self._rows[subset] = self._pools.rows(self._draws.find(subset), rules.rung(rules.crown.rung).sequence)
        return self._rows[subset]

    def opened(self, subset: Subset) -> OpenedSubset:
        """Return the openings of a subset of this round or an earlier one. Nobody may have them before it is over."""
        return self._pools.opened(self._draws.find(subset), self._hotkey)

    def sealed(self) -> Sealed:
        """Return what a crown of this round would seal."""
        drawn = self._draws.sealed()
        return Sealed(root=drawn.root, documents=len(drawn.places))

    def check_supply(self, index: int) -> None:
        """Hold the last round of a rotation until the newest pool has documents for the next one: it is committed to with this round.

        Raises:
            InfrastructureError: OPS-DATA with what to do.
        """
        if rotation_of(self._rules.hidden, index + 1) == rotation_of(self._rules.hidden, index):
            return
        lacking = self._draws.lacking(self._pools.newest.leaves)
        for name in SHARDS:
            if name in lacking:
                raise InfrastructureError(lacking[name], code="OPS-DATA")


def commitment_of(index: int, entries: Sequence[Entry], rules: Rules) -> bytes:
    """Return the commitment whose documents a round is scored on: named by the anchor before the rotation, or by the Rules."""
    first = rotation_of(rules.hidden, index) * rules.hidden.rotation_rounds
    return rules.data.hidden_commitment if first == 0 else entries[first - 1].anchor.hidden
