"""The decision of a round: one pure function of the state before it, its cases and its Measurements.

Validators, miners and auditors run this same code. Nothing here reads a clock, a file or a chain, and
the same inputs give the same outcome byte for byte. With fewer measurements than the Rules require it
raises instead of guessing, and the round is held.

A round in which the king is demoted crowns nobody: whoever was compared with him is neither dropped nor crowned and may announce again on
the restored king.

Not here yet: penalties on failed proof entries, contests that survive a change of king, and decisions that pool what several executors
measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ralph.errors import CorruptStateError
from ralph.judge import succession
from ralph.judge.agreement import agreed
from ralph.judge.canary import Cause
from ralph.judge.guards import failed, named
from ralph.judge.rotation import check_subsets, turn
from ralph.judge.rows import look_row, look_sentence, outcome_row, void_row
from ralph.judge.sequential import Action, filter_look, proof_look, screen
from ralph.judge.table import Table
from ralph.protocol.lineage import Contest, KingRun, PairedRun, Reign, Throne
from ralph.protocol.measurement import GuardRow, Measurement
from ralph.protocol.reasons import Reason
from ralph.protocol.record import CaseRow, CrownRow, DemotionRow, OutcomeRow, State, WatchRow
from ralph.protocol.rounds import rotation_of
from ralph.protocol.rules import CrownRules, Rules
from ralph.protocol.seeds import draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a round decided, and the state it leaves."""

    throne: Throne
    outcomes: tuple[OutcomeRow, ...]
    crown: CrownRow | None
    demotion: DemotionRow | None = None
    watch: tuple[WatchRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """The further documents that a crown of this round would seal; which they are follows from B2 and the pool."""

    root: bytes
    documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One case after its look: the outcome, and the contest if it goes on or won."""

    outcome: OutcomeRow
    contest: Contest | None = None
    normalised: bytes | None = None
    entered_proof: bool = False


def queue_order(cases: Sequence[CaseRow], beacon_two: bytes) -> list[CaseRow]:
    """Return cases in the order that B2 draws: nobody can choose a place in the queue."""
    return sorted(cases, key=lambda case: draw(beacon=beacon_two, purpose="queue", subject=case.case))


def decide(
    throne: Throne,
    *,
    round_index: int,
    beacon_two: bytes,
    cases: Sequence[CaseRow],
    measurements: Sequence[Measurement],
    sealed: Sealed,
    rules: Rules,
) -> Decision:
    """Decide one round.

    Args:
        throne: State after the round before.
        round_index: The round being decided; must follow the throne's.
        beacon_two: B2 of this round, which fixes the queue.
        cases: Every announcement of the window and every running contest, each exactly once.
        measurements: The round's Measurements; their order is the order of runs. Those of the first executor decide; what others
            measured on sub-pools of their own must agree with them about whoever is crowned.
        sealed: What a crown would seal.
        rules: The Rules in force.

    Raises:
        CorruptStateError: The inputs do not belong together, a required measurement is missing, or one is of other documents.
    """
    if round_index != throne.round_index + 1:
        raise CorruptStateError(f"round {round_index} cannot follow round {throne.round_index}")
    if len({case.case for case in cases}) != len(cases):
        raise CorruptStateError(f"round {round_index} lists a case twice")
    check_subsets(measurements, rotation_of(rules.hidden, round_index))
    own = [item for item in measurements if item.executor == measurements[0].executor]
    throne, rescored = turn(throne, own, rules, round_index)
    watch = rescored.watch(throne, rules.hidden)
    table = Table(measurements, throne, rules)
    cause = table.cause()
    if cause is not None:
        return replace(_demote(throne, round_index, cause, queue_order(cases, beacon_two), table, rules), watch=watch)
    pool = (*throne.pool, *table.pool())
    if any(case.refusal is None for case in cases) and len(pool) + table.failed_in_pool() < rules.crown.pool_runs:
        raise CorruptStateError(f"the king's pool has {len(pool)} runs, {rules.crown.pool_runs} are required", code="OPS-HOLD")
    contests = {contest.case: contest for contest in throne.contests}
    entries = throne.entries
    judged: list[_Judged] = []
    for case in queue_order(cases, beacon_two):
        one = _judge(case, contests.get(case.case), table, pool, entries, round_index, rules)
        entries += one.entered_proof
        judged.append(one)
    after = succession.tried(throne, table.trial(), table.former_runs(), rules.crown)
    after = replace(after, pool=_unique((*pool, *table.proof_runs())), entries=entries)
    return replace(_conclude(after, round_index, judged, cases, sealed, measurements, rules), watch=watch)


def _judge(
    case: CaseRow, contest: Contest | None, table: Table, pool: tuple[KingRun, ...], entries: int, round_index: int, rules: Rules
) -> _Judged:
    out = _disqualified(case, table)
    if out is not None:
        return out
    if case.tree is None or case.normalised is None or (case.stage != "screen") != (contest is not None):
        raise CorruptStateError(f"case {case.announcement.hex()[:16]} has no tree or no contest")
    runs = table.challenger(case.tree, case.stage)
    fresh = table.pairs(runs, case.stage)
    if contest is None:
        contest = Contest(
            announcement=case.announcement,
            hotkey=case.hotkey,
            coldkey=case.coldkey,
            tree=case.tree,
            normalised=case.normalised,
            stage="filter",
            opened_round=round_index,
        )
        return _screen(case, contest, fresh, rules.crown)
    contest = replace(contest, runs=(*contest.runs, *fresh))
    if contest.stage == "filter":
        return _filter(case, contest, entries, rules.crown)
    return _proof(case, contest, pool, rules.crown, failed(runs, len(contest.runs), rules))


def _disqualified(case: CaseRow, table: Table) -> _Judged | None:
    """Return what ends a case whoever the king is: a refusal, a failed run, a claim that does not repeat."""
    if case.refusal is not None:
        state: State = {"INT-ABSENT": "absent", "INT-PARENT": "void", "STA-QUEUED": "queued", "OPS-INFRA": "deferred"}.get(
            case.refusal.reason, "rejected"
        )  # type: ignore[assignment]
        return _Judged(outcome=outcome_row(case, state, case.refusal.reason, case.refusal.detail), normalised=case.normalised)
    runs = [] if case.tree is None else table.challenger(case.tree, case.stage)
    failures = [] if case.tree is None else [table.failure(case.tree), *(run.failure for run in runs)]
    for failure in failures:
        if failure is not None:
            return _Judged(outcome=outcome_row(case, "rejected", failure.reason, failure.detail), normalised=case.normalised)
    mismatch = _replay_mismatch(case, runs)
    if mismatch is not None:
        return _Judged(outcome=outcome_row(case, "rejected", Reason.FRD_REPLAY.value, mismatch), normalised=case.normalised)
    return None


def _replay_mismatch(case: CaseRow, runs: Sequence[Measurement]) -> str | None:
    """Compare validators' re-runs with what the miner claims of the same seeds.

    A run repeats bit for bit on the same stack; where the environments differ nothing is comparable
    and nobody is accused.
    """
    claims = {(claim.rung, claim.seed): claim for claim in case.claims}
    for run in runs:
        claim = claims.get((run.rung, run.seed))
        if not run.executed or claim is None or run.environment != case.environment:
            continue
        if run.transcript_root != claim.transcript_root or run.weights != claim.weights:
            return f"run {run.rung}-{run.seed:016x} repeated with another transcript or other weights than claimed"
    return None


def _screen(case: CaseRow, contest: Contest, fresh: tuple[PairedRun, ...], rules: CrownRules) -> _Judged:
    if len(fresh) != rules.screen_runs:
        raise CorruptStateError(f"screen has {len(fresh)} runs, {rules.screen_runs} are required", code="OPS-HOLD")
    look = screen(*_values(fresh), rules)
    row, sentence = look_row(look), look_sentence(look)
    if look.action is Action.ADVANCE:
        return _Judged(
            outcome=outcome_row(case, "screened", Reason.STA_CONTINUE, sentence, row), contest=contest, normalised=case.normalised
        )
    return _Judged(outcome=outcome_row(case, "dropped", look.reason, sentence, row), normalised=case.normalised)


def _filter(case: CaseRow, contest: Contest, entries: int, rules: CrownRules) -> _Judged:
    look = filter_look(*_values(contest.runs), rules)
    row, sentence = look_row(look), look_sentence(look)
    if look.action is Action.CONTINUE:
        return _Judged(outcome=outcome_row(case, "filtering", Reason.STA_CONTINUE, sentence, row), contest=contest)
    if look.action is Action.ADVANCE:
        entered = replace(contest, stage="proof", entry=entries + 1, runs=())
        return _Judged(outcome=outcome_row(case, "proving", Reason.STA_CONTINUE, sentence, row), contest=entered, entered_proof=True)
    return _Judged(outcome=outcome_row(case, "dropped", look.reason, sentence, row))


def _proof(case: CaseRow, contest: Contest, pool: tuple[KingRun, ...], rules: CrownRules, unsafe: tuple[GuardRow, ...]) -> _Judged:
    look = proof_look(*_values(contest.runs), [run.val_bpb for run in pool], rules, entry=contest.entry)
    row, sentence = look_row(look, entry=contest.entry), look_sentence(look)
    if look.action is Action.CROWN and unsafe:
        sentence = f"{sentence}; but not shown to be safe: {named(unsafe)}"
        if look.estimate.n < rules.proof_looks[-1]:
            return _Judged(outcome=outcome_row(case, "proving", Reason.STA_CONTINUE, sentence, row), contest=contest)
        return _Judged(outcome=outcome_row(case, "dropped", Reason.STA_REGRESS, sentence, row))
    if look.action is Action.CROWN:
        return _Judged(outcome=outcome_row(case, "crowned", Reason.STA_CROWN, sentence, row), contest=contest)
    if look.action is Action.CONTINUE:
        return _Judged(outcome=outcome_row(case, "proving", Reason.STA_CONTINUE, sentence, row), contest=contest)
    return _Judged(outcome=outcome_row(case, "dropped", look.reason, sentence, row))


def _demote(throne: Throne, round_index: int, cause: Cause, cases: Sequence[CaseRow], table: Table, rules: Rules) -> Decision:
    """Put the king before back; what was compared with the demoted one is void and costs its miner nothing."""
    void = "the king that it was compared with is demoted; announce it again on the restored king"
    judged = [
        _disqualified(case, table) or _Judged(outcome=outcome_row(case, "void", Reason.STA_DEMOTED.value, void), normalised=case.normalised)
        for case in cases
    ]
    row = succession.demotion(throne, cause)
    after = succession.demote(_seen(throne, round_index, judged, cases), round_index, rules.crown)
    return Decision(throne=after, outcomes=tuple(one.outcome for one in judged), crown=None, demotion=row)


def _seen(throne: Throne, round_index: int, judged: list[_Judged], cases: Sequence[CaseRow]) -> Throne:
    """Return the state with the round's cases and patches remembered."""
    seen_patches = throne.seen_patches + tuple((one.normalised, _hotkey(cases, one)) for one in judged if one.normalised is not None)
    seen = throne.seen_cases | {case.case for case in cases if case.stage == "screen"}
    return replace(throne, round_index=round_index, seen_patches=seen_patches, seen_cases=seen)


def _conclude(
    throne: Throne,
    round_index: int,
    judged: list[_Judged],
    cases: Sequence[CaseRow],
    sealed: Sealed,
    measurements: Sequence[Measurement],
    rules: Rules,
) -> Decision:
    """Crown the largest estimate of those that won, close everything else that was made for the old king."""
    winners = [one for one in judged if one.outcome.state == "crowned" and one.outcome.look is not None]
    entered = throne.entered | {one.normalised for one in judged if one.outcome.state == "screened" and one.normalised is not None}
    common = replace(_seen(throne, round_index, judged, cases), entered=entered)
    if not winners:
        contests = tuple(one.contest for one in judged if one.contest is not None)
        return Decision(throne=replace(common, contests=contests), outcomes=tuple(one.outcome for one in judged), crown=None)
    best = max(winners, key=lambda one: one.outcome.look.gain_bpb)  # type: ignore[union-attr]
    broken_off = frozenset(one.contest.normalised for one in judged if one is not best and one.contest is not None)
    outcomes = tuple(one.outcome if one is best or one.contest is None else void_row(one.outcome) for one in judged)
    contest, look = best.contest, best.outcome.look
    if contest is None or look is None:
        raise CorruptStateError("a winner without a contest")
    tag = succession.crowned_tag(throne)
    row = CrownRow(
        tree=contest.tree,
        parent=throne.king.tree,
        hotkey=contest.hotkey,
        announcement=contest.announcement,
        gain_bpb=look.gain_bpb,
        tag=tag,
        sealed=sealed.root,
        sealed_documents=sealed.documents,
        sub_pools=agreed(measurements, contest.tree, level=rules.hidden.agreement_level),
    )
    reign = Reign(
        tree=contest.tree, hotkey=contest.hotkey, crowned_round=round_index, standing="probation", gain_bpb=look.gain_bpb, tag=tag
    )
    new_pool = tuple(KingRun(seed=run.seed, val_bpb=run.challenger, weights=run.challenger_weights) for run in contest.runs)
    after = succession.crown(common, reign, new_pool, sealed_documents=sealed.documents, broken_off=broken_off)
    return Decision(throne=after, outcomes=outcomes, crown=row)


def _values(runs: tuple[PairedRun, ...]) -> tuple[list[float], list[float]]:
    return [run.challenger for run in runs], [run.king for run in runs]


def _unique(pool: tuple[KingRun, ...]) -> tuple[KingRun, ...]:
    return tuple({run.seed: run for run in pool}.values())


def _hotkey(cases: Sequence[CaseRow], one: _Judged) -> str:
    return next(case.hotkey for case in cases if case.case == one.outcome.case)
