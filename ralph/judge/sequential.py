"""The crown rule: screen, filter, proof.

Screen and filter compare pairs of runs on documents on which the king has no pool; they use the miner's runs, cost no error
budget and lend nothing to the crown: their data are thrown away. The proof uses validators' runs on seeds drawn afterwards, a
paired t-test whose alpha is spent per entry and per look, so that false crowns of a whole reign stay below ``alpha_reign / 2``
however many submissions try. One call is one look; which runs belong to it is the caller's business, and so are the guards
(slices, failures) that a crown needs beside this.

Every threshold is a field of ``CrownRules``. Drop thresholds belong to the first looks, advance
thresholds to the last ones (a filter look without one can only drop or continue), and the last look
of a stage never continues.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit

from ralph.judge.statistics import Estimate, estimate, pool_variance
from ralph.protocol.reasons import Reason
from ralph.protocol.rules import CrownRules

CRITICAL_DECIMALS = 6
"""Critical values are rounded to this, so that library versions which differ in the last bits agree."""

CLEARLY = 2.0
"""Standard errors below zero from which a drop says "worse" instead of "noise"; a word, not a decision."""

HINT_POWER = 0.8
HINT_LIMIT = 4096


class Action(StrEnum):
    """What a look says."""

    DROP = "drop"
    CONTINUE = "continue"
    ADVANCE = "advance"
    CROWN = "crown"


class Stage(StrEnum):
    """Which part of the rule a look belongs to."""

    SCREEN = "screen"
    FILTER = "filter"
    PROOF = "proof"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a contest: what was seen, what it had to reach, what follows."""

    stage: Stage
    action: Action
    index: int
    """Which look of the stage this is, from 0."""
    statistic: float | None
    """z in screen and filter, t in the proof; None where t is undefined, which drops."""
    estimate: Estimate
    threshold: float | None
    """What the statistic must exceed to advance or be crowned; None where this look cannot."""
    drop_below: float | None = None
    """What the statistic must reach to go on; None at the last look."""
    minimum_gain: float | None = None
    """Smallest crownable gain in bpb; proof only."""
    alpha: float | None = None
    """Error probability this look may spend; proof only."""

    @property
    def reason(self) -> Reason:
        """Return the reason code that tells the contender."""
        if self.action is Action.CROWN:
            return Reason.STA_CROWN
        if self.action is not Action.DROP:
            return Reason.STA_CONTINUE
        clearly_worse = self.estimate.est + CLEARLY * self.estimate.standard_error_z < 0
        return Reason.STA_WORSE if clearly_worse else Reason.STA_NOISE


def screen(challenger: Sequence[float], king: Sequence[float], rules: CrownRules) -> Look:
    """Decide from the screen runs whether a submission may enter the filter."""
    seen = estimate(challenger, king, None, rules)
    if seen.n != rules.screen_runs:
        raise ValueError(f"{seen.n} screen runs, the rule has {rules.screen_runs}")
    action = Action.ADVANCE if seen.z > rules.screen_threshold else Action.DROP
    return Look(stage=Stage.SCREEN, action=action, index=0, statistic=seen.z, estimate=seen, threshold=rules.screen_threshold)


def filter_look(challenger: Sequence[float], king: Sequence[float], rules: CrownRules) -> Look:
    """Decide from all filter runs so far whether a contest drops, continues or enters the proof."""
    seen = estimate(challenger, king, None, rules)
    index = _look_index(seen.n, rules.filter_looks, Stage.FILTER)
    last = index == len(rules.filter_looks) - 1
    threshold = filter_advance(index, rules)
    drop_below = None if last else rules.filter_drop[index]
    if threshold is not None and seen.z > threshold:
        action = Action.ADVANCE
    elif last or (drop_below is not None and seen.z < drop_below):
        action = Action.DROP
    else:
        action = Action.CONTINUE
    return Look(stage=Stage.FILTER, action=action, index=index, statistic=seen.z, estimate=seen, threshold=threshold, drop_below=drop_below)


def proof_look(challenger: Sequence[float], king: Sequence[float], pool: Sequence[float], rules: CrownRules, *, entry: int) -> Look:
    """Decide from all proof runs so far whether a contest drops, continues or takes the crown.

    ``entry`` is j: which entry into the proof this contest is in the reign, all coldkeys counted, from 1.
    """
    seen = estimate(challenger, king, pool, rules)
    index = _look_index(seen.n, rules.proof_looks, Stage.PROOF)
    last = index == len(rules.proof_looks) - 1
    threshold = critical_t(entry, index, rules)
    drop_below = None if last else rules.proof_drop[index]
    minimum_gain = rules.minimum_gain_sigmas * rules.sigma
    if seen.t is None:
        action = Action.DROP
    elif seen.t > threshold and seen.est >= minimum_gain:
        action = Action.CROWN
    elif last or (drop_below is not None and seen.t < drop_below):
        action = Action.DROP
    else:
        action = Action.CONTINUE
    return Look(
        stage=Stage.PROOF,
        action=action,
        index=index,
        statistic=seen.t,
        threshold=threshold,
        drop_below=drop_below,
        minimum_gain=minimum_gain,
        alpha=rules.proof_weights[index] * alpha(entry, rules),
        estimate=seen,
    )


def alpha(entry: int, rules: CrownRules) -> float:
    """Return what entry j of a reign may spend: alpha_reign / ((j+1)(j+2)), which sums to alpha_reign / 2."""
    if entry < 1:
        raise ValueError(f"entries count from 1, not {entry}")
    return rules.alpha_reign / ((entry + 1) * (entry + 2))


def critical_t(entry: int, look_index: int, rules: CrownRules) -> float:
    """Return what t must exceed at a proof look: the upper w a_j quantile of Student's t with n-1 degrees of freedom."""
    runs = rules.proof_looks[look_index]
    if runs < 2:
        raise ValueError(f"a proof look at {runs} runs has no t")
    spent = rules.proof_weights[look_index] * alpha(entry, rules)
    return round(-float(stdtrit(runs - 1, spent)), CRITICAL_DECIMALS)


def filter_advance(look_index: int, rules: CrownRules) -> float | None:
    """Return what z must exceed to advance at a filter look; None where the look cannot advance anyone."""
    position = look_index - (len(rules.filter_looks) - len(rules.filter_advance))
    return rules.filter_advance[position] if position >= 0 else None


def power_hint(seen: Estimate, rules: CrownRules, *, entry: int) -> int | None:
    """Return how many more runs would give 80 % power at the estimated effect.

    The bar is that of the last proof look, continued to any number of runs, and the minimum gain. Zero
    means the runs so far suffice. None means that no number up to ``HINT_LIMIT`` does: the effect is
    not positive, below the minimum gain, or within the uncertainty of the king's own pool.
    """
    runs = np.arange(max(2, seen.n), HINT_LIMIT + 1, dtype=np.float64)
    error = np.sqrt(seen.variance / runs + pool_variance(seen.pool, rules))
    bar = np.maximum(-stdtrit(runs - 1, rules.proof_weights[-1] * alpha(entry, rules)) * error, rules.minimum_gain_sigmas * rules.sigma)
    enough = np.flatnonzero(seen.est >= bar + stdtrit(runs - 1, HINT_POWER) * error)
    return int(runs[enough[0]]) - seen.n if enough.size else None


def check(rules: CrownRules) -> None:
    """Refuse rules whose tables do not fit together. Raises ValueError naming the field."""
    looks, proof = len(rules.filter_looks), len(rules.proof_looks)
    faults = {
        "filter_looks must rise from at least 1": not _rising(rules.filter_looks, 1),
        "proof_looks must rise from at least 2": not _rising(rules.proof_looks, 2),
        "filter_drop needs a value for every look but the last": len(rules.filter_drop) not in (looks - 1, looks),
        "filter_advance needs a value for the last look and no more than one per look": not 1 <= len(rules.filter_advance) <= looks,
        "proof_drop needs a value for every look but the last": len(rules.proof_drop) not in (proof - 1, proof),
        "proof_weights must be positive, one per look": len(rules.proof_weights) != proof or min(rules.proof_weights, default=0.0) <= 0,
        "proof_weights must sum to 1": not math.isclose(math.fsum(rules.proof_weights), 1.0, abs_tol=1e-12),
        "alpha_reign must lie between 0 and 1": not 0 < rules.alpha_reign < 1,
        "sigma and variance_reference must be above zero": rules.sigma <= 0 or rules.variance_reference <= 0,
        "control_weight must lie between 0 and 1": not 0 <= rules.control_weight <= 1,
        "pool_runs must be at least 2, screen_runs at least 1": rules.pool_runs < 2 or rules.screen_runs < 1,
    }
    for fault, found in faults.items():
        if found:
            raise ValueError(fault)


def _rising(looks: Sequence[int], first: int) -> bool:
    return bool(looks) and looks[0] >= first and all(a < b for a, b in pairwise(looks))


def _look_index(runs: int, looks: Sequence[int], stage: Stage) -> int:
    if runs not in looks:
        raise ValueError(f"no {stage} look at {runs} runs, only at {list(looks)}")
    return list(looks).index(runs)
