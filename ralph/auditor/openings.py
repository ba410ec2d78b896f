"""L1: are the hidden documents those that the beacons draw, and is what ended opened, in time, whole, and scored as was said?

Every draw is repeated from the published leaves, also of pools whose documents nobody may see yet. Of what is over, every
document is compared with its leaf, put where its text belongs, its bytes are counted again, and the exact losses must
give every number that a Record states of it. Whether the losses are the model's takes its weights (L2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ralph.auditor.cases import ReadOnlyStore
from ralph.auditor.decisions import HOSTILE, Decided
from ralph.auditor.facts import ValidatorFacts
from ralph.auditor.published import Reading
from ralph.auditor.report import Check, Findings
from ralph.auditor.rounds import beacon_of
from ralph.data.opened import verify_places
from ralph.data.partition import Fractions
from ralph.data.tokenizer import Tokenizer, open_tokenizer
from ralph.errors import ConfigurationError, InfrastructureError, RalphError, StoreUnavailable, UntrustedInputError
from ralph.evaluate.active import Committed, Drawn, Draws, verify_opened
from ralph.evaluate.estimator import bits_per_byte
from ralph.interfaces import BundleStore
from ralph.judge.rotation import ended
from ralph.protocol.data import MAX_MANIFEST_BYTES, DataManifest
from ralph.protocol.measurement import MAX_EXACT_BYTES, ExactScore, ExactScores, Measurement, Score
from ralph.protocol.pool import MAX_LEAVES_BYTES, MAX_OPENINGS_BYTES, OpenedSubset, PoolCommitment, PoolLeaves, leaves_name, verify_refresh
from ralph.protocol.record import OpeningRow, Record
from ralph.protocol.rounds import begins_rotation, rotation_of
from ralph.protocol.rules import Rules

ROUNDING = 1e-9
"""Sums in another order may differ by so much before they are rounded, bpb."""
MAX_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counter:
    """What counts the bytes of opened documents: the track's tokenizer, and the lengths of its tokens."""

    tokenizer: Tokenizer | None
    """None where its library is not installed."""
    token_bytes: np.ndarray[tuple[int], np.dtype[np.uint8]]

    def bytes_of(self, tokens: bytes, sequence: int) -> int:
        """Return the UTF-8 bytes of the first ``sequence`` tokens: those that are scored."""
        return int(self.token_bytes[np.frombuffer(tokens, "<u2")[:sequence]].sum(dtype=np.int64))


class PoolAuditor:
    """Follows a validator's pool through the rounds: every round is begun in order, then its openings can be checked.

    Args:
        store: Read only.
        rules: The Rules in force.
        facts: What the chain says of the validator.
        reading: What he published.
        found: Where findings go.
    """

    def __init__(self, store: BundleStore, rules: Rules, facts: ValidatorFacts, reading: Reading, found: Findings) -> None:
        self._store, self._rules, self._facts, self._reading, self._found = ReadOnlyStore(store), rules, facts, reading, found
        self._records: list[Record] = []
        self._draws: Draws | None = Draws(hotkey=facts.hotkey, rules=rules.hidden)
        self._pools: dict[bytes, Committed] = {}
        self._counter: Counter | None = None

    def begin(self, one: Decided) -> None:
        """Take in a round: repeat its draws, and compare what its crown sealed. Nothing follows once a pool cannot be read."""
        record, subject = one.record, f"round {one.record.round}"
        self._records.append(record)
        if self._draws is None:
            return
        wanted = self._commitment(record.round)
        self._found.expect(Check.POOL, subject, record.hidden == wanted, "its documents are of another pool than was committed to for them")
        beacon = beacon_of(record, "B2")
        pool = self._pool(wanted, subject)
        if pool is None or beacon is None:
            self._draws = None
            return
        if begins_rotation(self._rules.hidden, record.round):
            self._check_order(record.round, subject)
        try:
            self._draws.begin(record.round, beacon, pool)
        except RalphError as error:
            self._found.expect(Check.POOL, subject, False, f"{error.code}: {error.detail}")
            self._draws = None
            return
        if record.crown is not None:
            self._check_sealed(record, self._draws.crowned(), subject)

    def check(self, one: Decided) -> None:
        """Check that a round opened exactly what was over, and each opening."""
        record, subject = one.record, f"round {one.record.round}"
        due = ended(self._records, self._rules.hidden, record.round)
        stated = {row.subset: row for row in record.openings}
        self._found.expect(Check.OPENING, subject, len(stated) == len(record.openings), "OPN-EXTRA: a subset is opened twice")
        for subset in due:
            given = subset in stated
            self._found.expect(Check.OPENING, subject, given, f"OPN-MISSING: {subset.key} is over and was not opened")
        earlier = {subset for number in range(record.round) for subset in ended(self._records, self._rules.hidden, number)}
        for subset, row in stated.items():
            late = subset in earlier
            self._found.expect(Check.OPENING, subject, not late, f"OPN-LATE: {subset.key} was due in an earlier round")
            early = not late and subset not in due
            self._found.expect(Check.OPENING, subject, not early, f"OPN-EARLY: {subset.key} is not over, and is known to everybody now")
            if self._draws is None:
                self._found.unknown(Check.OPENING, subject, f"{subset.key} could not be compared, because its draw could not be repeated")
            elif not early:
                self._check_row(row, subject)

    def check_refresh(self, one: Decided) -> None:
        """Check that a commitment that an anchor names for the first time is a refresh of the one before."""
        index, subject = one.record.round, f"round {one.record.round}"
        before = self._rules.data.hidden_commitment if index == 0 else self._reading.records[index - 1].anchor.hidden
        after = one.published.anchor.hidden
        self._found.expect(Check.POOL, subject, True, "")
        while after != before:
            new = self._pool(after, subject)
            if new is None or new.commitment.previous is None:
                if new is not None:
                    self._found.expect(Check.POOL, subject, False, "its anchor commits to another hidden pool, which is no refresh")
                return
            old = self._pool(new.commitment.previous, subject)
            if old is None:
                return
            try:
                verify_refresh(old.commitment, old.leaves, new.commitment, new.leaves, opened=self._opened(index))
            except UntrustedInputError as error:
                self._found.expect(Check.POOL, subject, False, f"{error.code}: {error.detail}")
                return
            after = new.commitment.previous

    def _opened(self, index: int) -> frozenset[bytes]:
        """Return the leaves of everything that was over by a round."""
        if self._draws is None:
            return frozenset()
        over = [subset for number in range(index + 1) for subset in ended(self._records, self._rules.hidden, number)]
        return frozenset(leaf for subset in over for leaf in self._draws.find(subset).leaves)

    def _commitment(self, index: int) -> bytes:
        first = rotation_of(self._rules.hidden, index) * self._rules.hidden.rotation_rounds
        return self._rules.data.hidden_commitment if first == 0 else self._reading.records[first - 1].anchor.hidden

    def _check_order(self, index: int, subject: str) -> None:
        """Check that the pool was committed to on chain before the beacon that draws from it. The first one is in the Rules."""
        if index == 0:
            return
        committed = self._reading.appeared(self._facts, self._reading.records[index - 1].digest)
        drawn = next(row.block for row in self._records[index].beacons if row.name == "B2")
        early = committed is not None and committed < drawn
        self._found.expect(
            Check.POOL, subject, early, f"its pool was committed to in block {committed}, not before the beacon of block {drawn}"
        )

    def _check_sealed(self, record: Record, drawn: Drawn, subject: str) -> None:
        crown = record.crown
        same = crown is not None and (crown.sealed, crown.sealed_documents) == (drawn.root, len(drawn.places))
        self._found.expect(Check.POOL, subject, same, "its crown seals other documents than its B2 draws")

    def _pool(self, commitment: bytes, subject: str) -> Committed | None:
        """Return a commitment and its leaves."""
        if commitment not in self._pools:
            try:
                found = PoolCommitment.from_bytes(self._store.get(commitment, limit=MAX_MANIFEST_BYTES), limit=MAX_MANIFEST_BYTES)
                key = self._store.get_named(leaves_name(commitment), limit=MAX_KEY_BYTES)
                leaves = PoolLeaves.from_bytes(self._store.get(key, limit=MAX_LEAVES_BYTES), limit=MAX_LEAVES_BYTES)
                leaves.verify(found)
            except (StoreUnavailable, ValueError) as error:
                self._found.unknown(Check.POOL, subject, f"the hidden pool's commitment or leaves could not be read: {error}")
                return None
            except UntrustedInputError as error:
                self._found.expect(Check.POOL, subject, False, f"{error.code}: {error.detail}")
                return None
            self._pools[commitment] = Committed(commitment=found, leaves=leaves)
        return self._pools[commitment]

    def _check_row(self, row: OpeningRow, subject: str) -> None:
        """Check one opening and the scores with it."""
        try:
            opened = OpenedSubset.from_bytes(self._store.get(row.documents, limit=MAX_OPENINGS_BYTES), limit=MAX_OPENINGS_BYTES)
            scores = ExactScores.from_bytes(self._store.get(row.scores, limit=MAX_EXACT_BYTES), limit=MAX_EXACT_BYTES)
            counter = self._opened_counter()
        except InfrastructureError as error:
            self._found.unknown(Check.OPENING, subject, f"what opens {row.subset.key} could not be read: {error.detail}")
            return
        except UntrustedInputError as error:
            self._found.expect(Check.OPENING, subject, False, f"{error.code}: {row.subset.key}: {error.detail}")
            return
        if self._draws is None:
            return
        drawn = self._draws.find(row.subset)
        pool, rules = self._pools[drawn.commitment], self._rules.data
        try:
            verify_opened(opened, drawn, pool, hotkey=self._facts.hotkey)
            if counter.tokenizer is not None:
                fractions = Fractions(hidden=rules.hidden_fraction, validation=rules.validation_fraction)
                verify_places(opened, pool.commitment, tokenizer=counter.tokenizer, fractions=fractions)
        except UntrustedInputError as error:
            self._found.expect(Check.OPENING, subject, False, f"{error.code}: {row.subset.key}: {error.detail}")
            return
        self._found.expect(Check.OPENING, subject, True, "")
        self._check_scores(scores, opened, counter, subject)

    def _opened_counter(self) -> Counter:
        if self._counter is None:
            manifest = DataManifest.from_bytes(
                self._store.get(self._rules.data.manifest, limit=MAX_MANIFEST_BYTES), limit=MAX_MANIFEST_BYTES
            )
            data, lengths = (self._store.get(one.sha256, limit=one.size_bytes) for one in (manifest.tokenizer, manifest.token_bytes))
            try:
                tokenizer = open_tokenizer(data, vocabulary=manifest.vocabulary)
            except ConfigurationError as error:
                self._found.unknown(Check.OPENING, "tokenizer", f"whether opened texts belong there was not checked: {error.detail}")
                tokenizer = None
            self._counter = Counter(tokenizer=tokenizer, token_bytes=np.frombuffer(lengths, np.uint8))
        return self._counter

    def _check_scores(self, exact: ExactScores, opened: OpenedSubset, counter: Counter, subject: str) -> None:
        rung, key = self._rules.rung(self._rules.crown.rung), opened.subset.key
        sizes = [counter.bytes_of(one.tokens, rung.sequence) for one in opened.openings]
        sources = [one.source for one in opened.openings]
        measured = [
            item.measurement
            for record in self._records[:-1]
            for item in record.measurements
            if item.measurement.subset == opened.subset and item.measurement.score is not None
        ]
        same = exact.subset == opened.subset and [one.measurement for one in exact.scores] == [one.digest() for one in measured]
        if not self._found.expect(
            Check.SCORES, subject, same, f"OPN-SCORE: the exact scores on {key} are not of the runs that were measured"
        ):
            return
        for measurement, one in zip(measured, exact.scores, strict=True):
            detail = self._difference(measurement, one, sizes, sources)
            self._found.expect(Check.SCORES, subject, not detail, f"OPN-SCORE: run {measurement.seed:016x} on {key}: {detail}")

    def _difference(self, measurement: Measurement, exact: ExactScore, sizes: Sequence[int], sources: Sequence[str]) -> str:
        """Return what a Record says of a score that its exact losses do not give, or nothing."""
        score = measurement.score
        if score is None or len(exact.document_nats) != 8 * len(sizes):
            return f"{len(exact.document_nats) // 8} losses for {len(sizes)} documents"
        nats = np.frombuffer(exact.document_nats, "<f8").tolist()
        try:
            total = bits_per_byte(math.fsum(nats), sum(sizes))
        except HOSTILE as error:
            return f"the losses have no sum: {error}"
        if exact.val_bpb != total:
            return f"the losses give {total} bpb over {sum(sizes)} bytes, {exact.val_bpb} are stated"
        return _rounded(score, total, nats, sizes, sources, self._rules.evaluation.published_decimals)


def _rounded(score: Score, total: float, nats: Sequence[float], sizes: Sequence[int], sources: Sequence[str], decimals: int) -> str:
    """Compare a published score, which is rounded, with exact losses."""
    allowed = 0.5 * 10.0**-decimals + ROUNDING
    if not abs(score.val_bpb - total) <= allowed:
        return f"the losses give {total:.{decimals + 1}f} bpb, the record says {score.val_bpb}"
    if [part.source for part in score.sources] != sorted(set(sources)):
        return "the record scores other sources than were opened"
    for part in score.sources:
        inside = [place for place, source in enumerate(sources) if source == part.source]
        exact = bits_per_byte(math.fsum(nats[place] for place in inside), sum(sizes[place] for place in inside))
        if len(inside) != part.documents or not abs(part.val_bpb - exact) <= allowed:
            return f"source {part.source}: {len(inside)} documents give {exact:.{decimals + 1}f} bpb, the record says {part.val_bpb}"
    return ""
