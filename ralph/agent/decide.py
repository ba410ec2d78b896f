"""Keep or discard: pure arithmetic on paired private runs.

**The rule.** Head and challenger run on the same seeds; ``d_i = head_i - challenger_i`` in bpb, so a gain is positive. After
n runs the mean of d has the standard error ``sqrt(v / n)``, and with z = mean / standard error a look after each run says:

    after run   discard when z <   keep when z >=
        1             0.5             never: one run proves nothing
        2             2.0             4.0
        3             3.0             3.0

v is the variance of a difference. It starts as what the noise band says of a pair, ``v0 = 2 (1 - rho) sigma^2`` with the weight
of m = 4 degrees of freedom; the scatter of the pairs of earlier experiments in this reign is pooled with it (``Scatter``),
because edits that keep the initialisation scatter far less than the band. The differences at hand can raise v and never
lower it: ``v = max(pool, (m pool + (n-1) s^2) / (m + n - 1))``. sigma is the band: the king's own runs on several seeds,
shrunk towards the Rules' sigma with the weight of m.

So most edits cost one run, and what is kept has won on two seeds at least. ``tests/agent/test_decide.py`` counts how
often an edit without any effect is kept.

Not promised: that an edit which was kept helps on the judges' seeds and documents, or at a larger scale.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, variance


class Action(StrEnum):
    """What to do after a look."""

    KEEP = "keep"
    DISCARD = "discard"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Thresholds on z after one more run."""

    drop: float
    """Discard below this."""
    keep: float
    """Keep from this on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRule:
    """Numbers of the rule; see the module's docstring."""

    looks: tuple[Look, ...] = (Look(drop=0.5, keep=math.inf), Look(drop=2.0, keep=4.0), Look(drop=3.0, keep=3.0))
    correlation: float = 0.3
    """rho: how alike head and challenger are assumed to scatter over seeds. Low is cautious."""
    prior_runs: float = 4.0
    """m: weight of an assumption, in degrees of freedom."""


DEFAULT_RULE = KeepRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseBand:
    """How far runs of one tree scatter over seeds."""

    mean_bpb: float
    sigma_bpb: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float], *, reference: float, rule: KeepRule = DEFAULT_RULE) -> "NoiseBand":
        """Return the band from runs of one tree, shrunk towards ``reference``, the Rules' sigma. At least one value."""
        degrees = len(values) - 1
        own = variance(values) if degrees else 0.0
        pooled = (rule.prior_runs * reference**2 + degrees * own) / (rule.prior_runs + degrees)
        return cls(mean_bpb=fmean(values), sigma_bpb=math.sqrt(pooled), runs=len(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Variance of the difference of a pair of runs, from the band and from earlier pairs."""

    variance: float

    @classmethod
    def of(cls, band: NoiseBand, earlier: Iterable[Sequence[float]] = (), *, rule: KeepRule = DEFAULT_RULE) -> "Scatter":
        """Pool the band's variance with the scatter of differences within each earlier experiment."""
        squares, degrees = rule.prior_runs * 2.0 * (1.0 - rule.correlation) * band.sigma_bpb**2, rule.prior_runs
        for differences in earlier:
            if len(differences) > 1:
                squares += variance(differences) * (len(differences) - 1)
                degrees += len(differences) - 1
        return cls(variance=squares / degrees)

    @property
    def sd(self) -> float:
        """Return the standard error of a gain that was measured on one pair."""
        return math.sqrt(self.variance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A gain with its standard error."""

    gain_bpb: float
    standard_error_bpb: float
    runs: int

    @property
    def z(self) -> float:
        """Return the gain in units of its standard error."""
        return self.gain_bpb / self.standard_error_bpb


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a look decided, and why in one sentence."""

    action: Action
    estimate: Estimate
    reason: str


def estimate(differences: Sequence[float], scatter: Scatter, *, rule: KeepRule = DEFAULT_RULE) -> Estimate:
    """Return the mean of paired differences with its standard error. At least one difference."""
    runs = len(differences)
    own = variance(differences) if runs > 1 else 0.0
    shrunk = (rule.prior_runs * scatter.variance + (runs - 1) * own) / (rule.prior_runs + runs - 1)
    return Estimate(gain_bpb=fmean(differences), standard_error_bpb=math.sqrt(max(scatter.variance, shrunk) / runs), runs=runs)


def judge(differences: Sequence[float], scatter: Scatter, *, last: bool = False, rule: KeepRule = DEFAULT_RULE) -> Judgement:
    """Decide after ``len(differences)`` paired runs; ``last`` says that no further run can be made."""
    found = estimate(differences, scatter, rule=rule)
    look = rule.looks[min(found.runs, len(rule.looks)) - 1]
    measured = f"{found.gain_bpb:+.4f} bpb on {found.runs} paired {'seeds' if found.runs > 1 else 'seed'}, {found.z:.1f} standard errors"
    if found.z >= look.keep:
        return Judgement(action=Action.KEEP, estimate=found, reason=f"better by {measured}, {look.keep:g} are needed")
    if found.z < look.drop:
        return Judgement(action=Action.DISCARD, estimate=found, reason=f"not clearly better: {measured}, {look.drop:g} are needed")
    if last or found.runs >= len(rule.looks):
        return Judgement(action=Action.DISCARD, estimate=found, reason=f"no seed is left to decide on {measured}")
    return Judgement(action=Action.CONTINUE, estimate=found, reason=f"promising: {measured}")
