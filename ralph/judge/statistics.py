"""Estimate what a challenger gains over the king, from paired runs and the king's pool.

For runs on the same fresh seed, ``k_i`` of the king and ``c_i`` of the challenger (val_bpb, lower is
better), and the mean ``Kbar``, sd ``s_K`` and number ``M`` of the king's other runs of this reign::

    X_i    = b k_i - c_i
    est    = mean(X) + (1 - b) Kbar                     a gain is positive
    z      = est / sqrt(v/n + (1-b)^2 s_K^2/M)          v = max(v_ref, (4 v_ref + (n-1) s_X^2)/(n+3))
    t      = est / sqrt(s_X^2/n + (1-b)^2 s_K^2/M)      Student t with n-1 degrees of freedom

Where the king has no pool on the same documents, b is 1 and both pool terms are gone: in screen and filter the pairs speak alone.

``z`` leans on a reference variance and serves the filters, whose data are thrown away; ``t`` rests on
the challenger's own scatter, so that noisier runs cannot buy a crown. Sums are correctly rounded
(``math.fsum``), so the result depends on neither the machine nor the order of the runs.

Not promised: that the pool excludes the current seeds and holds validators' runs only. The caller
chooses the runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ralph.protocol.rules import CrownRules

PRIOR_RUNS = 4
"""Weight of ``variance_reference`` in the shrunk variance, in runs; part of the formula of ``z``."""

ROUNDING = 2.0**-40
"""An sd below this fraction of the values is rounding, not scatter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """The king's runs of a reign, current seeds excluded."""

    mean: float
    sd: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "PoolStatistics":
        """Summarise the pool. Raises ValueError below two runs, where no sd exists."""
        if len(values) < 2:
            raise ValueError(f"a pool of {len(values)} runs has no standard deviation")
        _require_finite("pool", values)
        return cls(mean=_mean(values), sd=_sd(values, scale=_largest(values)), count=len(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The estimated gain of a challenger in bpb, with both statistics. Positive is better than the king."""

    est: float
    z: float
    """Gain over its standard error under the shrunk variance; always defined."""
    t: float | None
    """Gain over its own standard error; None for one run and for runs without any scatter."""
    n: int
    sd_x: float | None
    """Standard deviation of X; None for one run."""
    variance: float
    """v: the shrunk variance of X."""
    standard_error_z: float
    standard_error_t: float | None
    pool: PoolStatistics | None
    """None where the pairs speak alone."""


def estimate(challenger: Sequence[float], king: Sequence[float], pool: Sequence[float] | None, rules: CrownRules) -> Estimate:
    """Estimate the gain of ``challenger`` over ``king``.

    Args:
        challenger: val_bpb of the challenger, one per seed.
        king: val_bpb of the king on the same seeds, in the same order.
        pool: val_bpb of the king's other runs of this reign on the same documents, at least two; None for pairs alone.
        rules: Gives b (``control_weight``) and v_ref (``variance_reference``).

    Raises:
        ValueError: Lengths differ, no runs, a value that is not finite, or ``variance_reference`` not above zero.
    """
    n = len(challenger)
    if n == 0 or n != len(king):
        raise ValueError(f"{n} challenger runs against {len(king)} king runs")
    if rules.variance_reference <= 0:
        raise ValueError(f"variance_reference is {rules.variance_reference}, must be above zero")
    _require_finite("challenger", challenger)
    _require_finite("king", king)
    b = 1.0 if pool is None else rules.control_weight
    statistics = None if pool is None else PoolStatistics.of(pool)
    x = [b * k - c for k, c in zip(king, challenger, strict=True)]
    est = math.fsum([*x, n * (1.0 - b) * (statistics.mean if statistics else 0.0)]) / n
    sd_x = _sd(x, scale=max(_largest(challenger), _largest(king))) if n > 1 else None
    variance = shrunk_variance(n, sd_x, rules)
    error_z = standard_error(variance, n, statistics, rules)
    error_t = standard_error(sd_x**2, n, statistics, rules) if sd_x else None
    return Estimate(
        est=est,
        z=est / error_z,
        t=None if error_t is None else est / error_t,
        n=n,
        sd_x=sd_x,
        variance=variance,
        standard_error_z=error_z,
        standard_error_t=error_t,
        pool=statistics,
    )


def shrunk_variance(n: int, sd_x: float | None, rules: CrownRules) -> float:
    """Return v: the variance of X pulled towards v_ref and never below it."""
    reference = rules.variance_reference
    if sd_x is None:
        return reference
    return max(reference, (PRIOR_RUNS * reference + (n - 1) * sd_x**2) / (n - 1 + PRIOR_RUNS))


def standard_error(variance_x: float, n: int, pool: PoolStatistics | None, rules: CrownRules) -> float:
    """Return the standard error of ``est`` over n runs whose X has this variance."""
    return math.sqrt(variance_x / n + pool_variance(pool, rules))


def pool_variance(pool: PoolStatistics | None, rules: CrownRules) -> float:
    """Return what the mean of the pool adds to the variance of ``est``."""
    return 0.0 if pool is None else (1.0 - rules.control_weight) ** 2 * pool.sd**2 / pool.count


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _sd(values: Sequence[float], *, scale: float) -> float:
    mean = _mean(values)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return sd if sd > ROUNDING * scale else 0.0


def _largest(values: Sequence[float]) -> float:
    return max(abs(value) for value in values)


def _require_finite(name: str, values: Sequence[float]) -> None:
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{name} holds {value}; a failed run has no val_bpb and is not passed here")
