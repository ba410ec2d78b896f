"""What a demo shows, read from verified Records: kings, submissions, and what became of the scripted participants.

Nothing is taken from logs or from what a process says of itself. A value that nobody measured is None.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from ralph.protocol.lineage import REIGNING, Standing
from ralph.protocol.measurement import Measurement
from ralph.protocol.record import TERMINAL_STATES, CaseRow, CaseStage, OutcomeRow, State
from ralph.records.history import Entry
from ralph_devnet.attackers.cast import Role
from ralph_devnet.words import Names

RunsOf = Literal["reign", "proof"]
UNDECIDED: frozenset[State] = frozenset({"absent", "void", "queued", "deferred"})
"""States of rows that say nothing about the change itself, unless they carry a measured gain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """val_bpb over runs with different seeds."""

    mean: float
    sd: float | None
    """None for one run."""
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Level | None":
        """Summarise values; None when there are none."""
        if not values:
            return None
        return cls(mean=fmean(values), sd=stdev(values) if len(values) > 1 else None, runs=len(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class KingFact:
    """One king of the lineage."""

    tag: str
    name: str
    hotkey: str
    tree: bytes
    parent: bytes | None
    standing: Standing
    crowned_round: int | None
    """Round whose Record crowned him; None for the genesis."""
    last_round: int
    """Last round of his first stretch on the throne so far."""
    again: tuple[tuple[int, int], ...]
    """First and last rounds of each stretch on the throne after a successor was demoted."""
    gain_bpb: float | None
    """Gain over his parent at the look that crowned him."""
    standard_error_bpb: float | None
    proof_runs: int | None
    level: Level | None
    """All validator runs of his reign; before there are any, the proof runs that crowned him."""
    level_of: RunsOf | None
    change: str
    patch: bytes | None
    """SHA-256 of the diff from his parent in the store."""

    @property
    def reigns(self) -> bool:
        """Return whether he is the king now."""
        return self.standing in REIGNING

    @property
    def title(self) -> str:
        """Return his release, and that he was demoted if he was."""
        return f"{self.tag} (demoted)" if self.standing == "demoted" else self.tag


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionFact:
    """One row of one Record: what a round made of one case."""

    round: int
    name: str
    hotkey: str
    case: bytes
    stage: CaseStage
    state: State
    reason: str
    detail: str
    change: str
    normalised: bytes | None
    gain_bpb: float | None
    standard_error_bpb: float | None
    runs: int | None
    """Runs that the look was over."""
    level: Level | None
    """What validators measured of it in this round."""

    @property
    def judged(self) -> bool:
        """Return whether the change was measured and decided upon; a contest that a new king made void may have been."""
        return self.state not in UNDECIDED or self.runs is not None

    @property
    def terminal(self) -> bool:
        """Return whether the case is over."""
        return self.state in TERMINAL_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class CastFact:
    """What became of a scripted participant, and of the honest twin who did the same without the cheat."""

    role: Role
    row: SubmissionFact | None
    """The row that settles it; None while there is none."""
    twin_name: str | None
    twin_row: SubmissionFact | None

    @property
    def settled(self) -> bool:
        """Return whether the participant has a terminal row."""
        return self.row is not None

    @property
    def refused(self) -> bool:
        """Return whether a gate or a measurement refused the participant."""
        return self.row is not None and self.row.state == "rejected"

    @property
    def as_expected(self) -> bool:
        """Return whether a cheat was refused for the reason that must stop it, or a twin was judged on his merits."""
        if self.row is None:
            return False
        if self.role.expected is None:
            return not self.refused and self.row.judged
        return self.refused and self.row.reason == self.role.expected.value


def kings(entries: Sequence[Entry], names: Names) -> tuple[KingFact, ...]:
    """Return the lineage, the genesis first; empty before the first Record."""
    reigns = entries[-1].throne.lineage if entries else ()
    return tuple(_king(entries, index, names) for index in range(len(reigns)))


def submissions(entries: Sequence[Entry], names: Names) -> tuple[SubmissionFact, ...]:
    """Return every row of every Record, oldest first."""
    opened = _opened(entries)
    rows = []
    for entry in entries:
        cases = {case.case: case for case in entry.signed.record.cases}
        rows += [
            _submission(entry, opened.get(outcome.case, cases[outcome.case]), cases[outcome.case], outcome, names)
            for outcome in entry.signed.record.outcomes
        ]
    return tuple(rows)


def cast_facts(cast: Iterable[Role], rows: Sequence[SubmissionFact], hotkeys: Mapping[str, str]) -> tuple[CastFact, ...]:
    """Return what became of each scripted participant; ``hotkeys`` is node name -> hotkey."""
    facts = []
    for role in cast:
        row = _settling(role, [one for one in rows if one.hotkey == hotkeys.get(role.name)])
        twin = _original(row, rows) if role.twin is None else _settling(None, [one for one in rows if one.hotkey == hotkeys.get(role.twin)])
        name = role.twin or (twin.name if twin else None)
        facts.append(CastFact(role=role, row=row, twin_name=name, twin_row=twin))
    return tuple(facts)


def _opened(entries: Sequence[Entry]) -> dict[bytes, CaseRow]:
    """Return case -> its first row after it was opened: the rows of a proof repeat neither hypothesis nor patch."""
    found: dict[bytes, CaseRow] = {}
    for entry in entries:
        for case in entry.signed.record.cases:
            if case.hypothesis is not None:
                found.setdefault(case.case, case)
    return found


def _king(entries: Sequence[Entry], index: int, names: Names) -> KingFact:
    reigns = entries[-1].throne.lineage
    reign = reigns[index]
    outcome, case = (None, None) if index == 0 else _winner(entries, entries[reign.crowned_round])
    look = outcome.look if outcome else None
    first, *again = _stretches(entries, index)
    level = Level.of(_king_runs(entries, reign.tree))
    proof = None if index == 0 else Level.of(_proof_runs(entries[: reign.crowned_round + 1], reign.tree))
    return KingFact(
        tag=reign.tag,
        name=names.of(reign.hotkey),
        hotkey=reign.hotkey,
        tree=reign.tree,
        parent=None if reign.parent is None else reigns[reign.parent].tree,
        standing=reign.standing,
        crowned_round=None if index == 0 else reign.crowned_round,
        last_round=first[1],
        again=tuple(again),
        gain_bpb=look.gain_bpb if look else None,
        standard_error_bpb=look.standard_error_bpb if look else None,
        proof_runs=look.runs if look else None,
        level=level or proof,
        level_of="reign" if level else "proof" if proof else None,
        change=case.hypothesis.change if case and case.hypothesis else "",
        patch=case.patch if case else None,
    )


def _stretches(entries: Sequence[Entry], index: int) -> list[tuple[int, int]]:
    """Return first and last round of every stretch in which a king reigned, the first from the round after his crown."""
    seats = [0, *(entry.throne.seat for entry in entries[:-1])]
    found: list[tuple[int, int]] = []
    for number, seat in enumerate(seats):
        if seat == index and found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        elif seat == index:
            found.append((number, number))
    return found or [(len(seats) - 1, len(seats) - 1)]


def _winner(entries: Sequence[Entry], crowned: Entry) -> tuple[OutcomeRow | None, CaseRow | None]:
    outcome = next((one for one in crowned.signed.record.outcomes if one.state == "crowned"), None)
    return outcome, None if outcome is None else _opened(entries).get(outcome.case)


def _king_runs(entries: Sequence[Entry], tree: bytes) -> list[float]:
    """Return the val_bpb on ``confirm`` of every run of a king during his reign, each seed once."""
    own = (one for one in _measured(entries, tree) if one.role == "king" and one.stage in ("pool", "probation", "proof"))
    runs = {one.seed: one.score.val_bpb for one in own if one.score is not None}
    return list(runs.values())


def _proof_runs(entries: Sequence[Entry], tree: bytes) -> list[float]:
    """Return the val_bpb of the runs that a contender was proven on."""
    proof = (one for one in _measured(entries, tree) if one.role == "challenger" and one.stage == "proof")
    return [one.score.val_bpb for one in proof if one.score is not None]


def _measured(entries: Sequence[Entry], tree: bytes) -> Iterator[Measurement]:
    return (item.measurement for entry in entries for item in entry.signed.record.measurements if item.measurement.tree == tree)


def _submission(entry: Entry, opened: CaseRow, case: CaseRow, outcome: OutcomeRow, names: Names) -> SubmissionFact:
    runs = (
        [] if case.tree is None else [one for one in _measured([entry], case.tree) if one.role == "challenger" and one.stage == case.stage]
    )
    look = outcome.look
    return SubmissionFact(
        round=entry.signed.record.round,
        name=names.of(case.hotkey),
        hotkey=case.hotkey,
        case=outcome.case,
        stage=case.stage,
        state=outcome.state,
        reason=outcome.reason,
        detail=outcome.detail,
        change=opened.hypothesis.change if opened.hypothesis else "",
        normalised=case.normalised,
        gain_bpb=look.gain_bpb if look else None,
        standard_error_bpb=look.standard_error_bpb if look else None,
        runs=look.runs if look else None,
        level=Level.of([one.score.val_bpb for one in runs if one.score is not None]),
    )


def _settling(role: Role | None, rows: Sequence[SubmissionFact]) -> SubmissionFact | None:
    """Return the row that says most: the expected refusal, else any refusal, else the last row that ends a judged case."""
    over = [row for row in rows if row.terminal]
    expected = [row for row in over if role is not None and role.expected is not None and row.reason == role.expected.value]
    refused = [row for row in over if row.state == "rejected"]
    judged = [row for row in over if row.judged]
    return next((one[-1] for one in (expected, refused, judged, over) if one), None)


def _original(row: SubmissionFact | None, rows: Sequence[SubmissionFact]) -> SubmissionFact | None:
    """Return the newest row of the case that a copy repeats: same normalised tree, another hotkey, accepted before."""
    if row is None or row.normalised is None:
        return None
    same = [
        one
        for one in rows
        if one.normalised == row.normalised and one.hotkey != row.hotkey and one.state != "rejected" and one.round <= row.round
    ]
    return None if not same else [one for one in rows if one.case == same[0].case][-1]
