"""When a king is taken off the throne: pure functions of anchored Measurements.

Three causes, each from runs that selected nothing:

- **Probation.** The king and the king before him run beside each other on seeds drawn after the crown. He is rolled back when the upper
  Welch bound of his gain is below zero, or when he failed repeatedly and more often than the king before.
- **Rotation.** Stored runs of both are scored on documents drawn after the crown. He is demoted when the loss is at least a margin *and*
  the upper Welch bound of the gain is below zero.
- **Reference.** A run of his fails, or does not repeat to the same weights, and fails again, where the genesis recipe trains on the same
  seed twice to the same weights. Where the reference does not hold either, the fault is ours and the round is held.

A gain is positive where the king is better. The bounds are those of two samples with unequal variances (Welch 1947, Satterthwaite's
degrees of freedom); the pairing by seed is not used, which costs power and never validity where the two correlate positively.

Simulated in ``tests/judge/test_canary.py``, in sigma, with documents that move the difference by 0.1 at random: new documents demote a king
whose true gain is zero in at most 0.5 of 1000 rotations (8 to 192 runs a side), for a loss of 1 in 16, 59 and 84 % (16, 32, 48 runs), for
a loss of 2 in 93 and 100 % (16, 32). A probation of 48 runs with looks from 16 on rolls back a king of gain 0.5 in 0.01 %, of gain 0 in
3.7 %, of loss 1 in 99.7 %; the devnet's of 8 runs in 0.1, 1.4 and 32 %, and for a loss of 2 in 90 %.

Not promised: that the bound of a probation, which is looked at after every round, errs at its nominal rate over all looks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy.special import stdtrit

from ralph.errors import CorruptStateError
from ralph.judge.sequential import CRITICAL_DECIMALS
from ralph.judge.statistics import PoolStatistics
from ralph.protocol.lineage import KingRun, TrialRun, scored
from ralph.protocol.measurement import Measurement
from ralph.protocol.reasons import Reason
from ralph.protocol.rules import CanaryRules, Rules

EXECUTIONS = 2
"""Runs of one seed by one executor from which a failure is not called an accident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a king is demoted."""

    reason: Reason
    detail: str
    evidence: tuple[bytes, ...]
    """Digests of the Measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """The king's gain over the king before, in bpb, from two samples with unequal variances."""

    mean: float
    standard_error: float
    upper: float
    """Upper end of the one-sided interval."""
    kings: int
    formers: int


class Blame(StrEnum):
    """Whose a doubtful run of the king is."""

    KING = "king"
    OURS = "ours"
    NOBODY = "nobody"
    """It went well when it was repeated; the repeat counts."""


def welch(king: Sequence[float], former: Sequence[float], level: float) -> Gain:
    """Return the king's gain and its upper bound. Raises ValueError below two runs a side, or for a value that is not finite."""
    a, b = PoolStatistics.of(king), PoolStatistics.of(former)
    mean, parts = b.mean - a.mean, (a.sd**2 / a.count, b.sd**2 / b.count)
    error = math.sqrt(math.fsum(parts))
    if error == 0.0:
        return Gain(mean=mean, standard_error=0.0, upper=mean, kings=a.count, formers=b.count)
    freedom = math.fsum(parts) ** 2 / math.fsum((parts[0] ** 2 / (a.count - 1), parts[1] ** 2 / (b.count - 1)))
    critical = round(float(stdtrit(freedom, level)), CRITICAL_DECIMALS)
    return Gain(mean=mean, standard_error=error, upper=mean + critical * error, kings=a.count, formers=b.count)


def rollback(trial: Sequence[TrialRun], rules: CanaryRules) -> Cause | None:
    """Decide a probation from all its runs so far."""
    evidence = tuple(digest for run in trial for digest in run.evidence)
    failures, before = sum(run.king is None for run in trial), sum(run.former is None for run in trial)
    if failures >= rules.probation_failures and failures > before:
        detail = f"failed in {failures} of {len(trial)} runs on probation, the king before in {before}"
        return Cause(reason=Reason.STA_UNSTABLE, detail=detail, evidence=evidence)
    kings, formers = scored(trial)
    if min(len(kings), len(formers)) < max(2, rules.probation_minimum):
        return None
    seen = welch(kings, formers, rules.probation_level)
    if not seen.upper < 0:
        return None
    return Cause(reason=Reason.STA_ROLLBACK, detail=f"{_sentence(seen, rules.probation_level)} on probation", evidence=evidence)


def regressed(king: Sequence[Measurement], former: Sequence[Measurement], rules: Rules) -> Cause | None:
    """Decide a rotation from stored runs of the king and of the king before, all scored on the same new documents.

    Raises:
        CorruptStateError: ``OPS-HOLD``, a stored run has no score: nothing in it can have failed that was scored before.
    """
    canary, sigma = rules.canary, rules.crown.sigma
    values = [[_value(run) for run in runs] for runs in (king, former)]
    if min(map(len, values)) < max(2, canary.rotation_minimum):
        return None
    seen = welch(values[0], values[1], canary.rotation_level)
    margin = canary.rotation_margin_sigmas * sigma
    if not (seen.mean <= -margin and seen.upper < 0):
        return None
    detail = f"{_sentence(seen, canary.rotation_level)} on new documents; a loss of {margin:.4f} is material"
    return Cause(reason=Reason.STA_CANARY, detail=detail, evidence=tuple(run.digest() for run in (*king, *former)))


def unscorable(king: Sequence[Measurement], former: Sequence[Measurement]) -> Cause | None:
    """Decide on kept runs of the king that fail on new documents, beside those of the king before on the same.

    Every kept run is a sandbox of its own. One that fails alone may be an accident; several, where none of the king before fails, are not.

    Raises:
        CorruptStateError: ``OPS-HOLD``, some failed and whose fault it is does not follow.
    """
    failed = [run for run in king if run.score is None]
    if not failed:
        return None
    holds = len(former) >= EXECUTIONS and all(run.score is not None for run in former)
    if len(failed) < EXECUTIONS or not holds:
        first = failed[0]
        raise CorruptStateError(f"run {first.seed:016x} of the king has no score on {first.subset.key}", code="OPS-HOLD")
    reason = failed[0].failure.reason if failed[0].failure else "no score"
    detail = f"{len(failed)} of {len(king)} kept runs fail on new documents with {reason}, none of {len(former)} of the king before"
    return Cause(reason=Reason.RUN_KING, detail=detail, evidence=tuple(run.digest() for run in (*failed, *former)))


def doubtful(run: Measurement, pool: Sequence[KingRun]) -> bool:
    """Return whether a king's run failed, or was made before on the same stack with other weights."""
    if run.failure is not None:
        return True
    known = next((one for one in pool if one.seed == run.seed and one.environment is not None), None)
    return known is not None and known.environment == run.environment and known.weights != run.weights


def blame(seed: int, measurements: Sequence[Measurement], pool: Sequence[KingRun], rules: CanaryRules) -> Blame | None:
    """Say whose a doubtful run is; None while it has not been repeated beside the reference.

    Args:
        seed: Of the run.
        measurements: Of the round.
        pool: The king's runs of this reign before the round.
        rules: How many executors must have seen it.
    """
    here = [run for run in measurements if run.seed == seed]
    kings, references = ([run for run in here if run.role == role] for role in ("king", "reference"))
    executors = {run.executor for run in here}
    verdicts = [_seen_by(executor, kings, references, pool) for executor in sorted(executors)]
    if None in verdicts:
        return None
    if Blame.OURS in verdicts or Blame.NOBODY in verdicts:
        return Blame.OURS if Blame.OURS in verdicts else Blame.NOBODY
    return Blame.KING if len(verdicts) >= rules.executors else Blame.OURS


def unsound(seed: int, measurements: Sequence[Measurement]) -> Cause:
    """Return the cause that a king's run, which is his own fault, gives."""
    here = [run for run in measurements if run.seed == seed and run.role in ("king", "reference")]
    failure = next((run.failure for run in here if run.role == "king" and run.failure is not None), None)
    what = "trained to other weights than before" if failure is None else f"failed with {failure.reason}"
    detail = f"seed {seed:016x} {what}, and did not go well when it was repeated; the reference recipe repeats on it"
    return Cause(reason=Reason.RUN_KING, detail=detail, evidence=tuple(run.digest() for run in here))


def check(rules: Rules) -> None:
    """Refuse rules under which a demotion could never, or always, be decided. Raises ValueError naming the field."""
    canary, crown = rules.canary, rules.crown
    faults = {
        "probation_per_round must be at least 1": canary.probation_per_round < 1,
        "probation_minimum must lie between 2 and probation_runs": not 2 <= canary.probation_minimum <= crown.probation_runs,
        "rotation_minimum must lie between 2 and pool_runs": not 2 <= canary.rotation_minimum <= crown.pool_runs,
        "rotation_runs must be at least rotation_minimum": canary.rotation_runs < canary.rotation_minimum,
        "probation_level and rotation_level must lie between 0.5 and 1": not all(
            0.5 < level < 1 for level in (canary.probation_level, canary.rotation_level)
        ),
        "rotation_margin_sigmas must be above zero": not canary.rotation_margin_sigmas > 0,
    }
    for fault, found in faults.items():
        if found:
            raise ValueError(fault)


def _seen_by(executor: str, kings: Sequence[Measurement], references: Sequence[Measurement], pool: Sequence[KingRun]) -> Blame | None:
    own = [run for run in kings if run.executor == executor]
    beside = [run for run in references if run.executor == executor]
    if min(len({run.stage for run in runs}) for runs in (own, beside)) < EXECUTIONS:
        return None
    holds = all(run.failure is None for run in beside) and len({(run.weights, run.environment) for run in beside}) == 1
    if not holds:
        return Blame.OURS
    return Blame.KING if all(doubtful(run, pool) for run in own) else Blame.NOBODY


def _value(run: Measurement) -> float:
    if run.score is None:
        raise CorruptStateError(f"stored run {run.seed:016x} has no score on the new documents", code="OPS-HOLD")
    return run.score.val_bpb


def _sentence(seen: Gain, level: float) -> str:
    bound = f"at most {seen.upper:+.4f} with confidence {level:g}"
    return f"gain over the king before {seen.mean:+.4f} bpb, {bound}, over {seen.kings} and {seen.formers} runs"
