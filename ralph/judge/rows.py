"""What a Record says of a look and of a case: rows and sentences, from what was decided."""

from ralph.judge.sequential import Look
from ralph.protocol.reasons import Reason
from ralph.protocol.record import CaseRow, LookRow, OutcomeRow, State


def outcome_row(case: CaseRow, state: State, reason: str, detail: str, look: LookRow | None = None) -> OutcomeRow:
    """Return what became of a case."""
    return OutcomeRow(case=case.case, state=state, reason=str(reason), detail=detail, look=look)


def void_row(ended: OutcomeRow) -> OutcomeRow:
    """Return what becomes of a contest that another contender's crown ends."""
    return OutcomeRow(
        case=ended.case,
        state="void",
        reason=Reason.INT_PARENT.value,
        detail="another contender became king; rebase and announce again",
        look=ended.look,
    )


def look_row(look: Look, *, entry: int = 0) -> LookRow:
    """Return the numbers of a look; the entry is that of the proof, 0 before."""
    return LookRow(
        runs=look.estimate.n,
        gain_bpb=look.estimate.est,
        standard_error_bpb=look_error(look),
        statistic=look.statistic,
        threshold=look.threshold,
        entry=entry,
        alpha=look.alpha or 0.0,
    )


def look_sentence(look: Look) -> str:
    """Say what a look saw, measured against its threshold."""
    seen = look.estimate
    statistic = "undefined" if look.statistic is None else f"{look.statistic:.2f}"
    threshold = "no way up at this look" if look.threshold is None else f"needs more than {look.threshold:.2f}"
    letter = "t" if look.minimum_gain is not None else "z"
    gain = f"gain {seen.est:+.4f} +- {look_error(look):.4f} bpb"
    return f"{look.action.value} after {seen.n} {look.stage.value} runs: {letter} = {statistic}, {threshold}; {gain}"


def look_error(look: Look) -> float:
    """Return the standard error that belongs to the look's statistic: of t in the proof, of z before."""
    seen = look.estimate
    return seen.standard_error_t if look.minimum_gain is not None and seen.standard_error_t is not None else seen.standard_error_z
