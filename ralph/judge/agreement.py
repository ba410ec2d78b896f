"""Do two disjoint sub-pools of hidden documents say the same of a challenger?

On different documents only differences can agree: challenger less king, on equal seeds. What separates two honest estimates is
mostly which documents each happens to hold, and no number of runs shows that: over runs the gap between two pools is nearly
constant, so a test over runs alone calls every pair of honest pools a contradiction. The error is therefore taken over
documents, as that of a ratio of sums, and what runs add is that of their gaps where both ran the same seeds.

Two estimates that disagree hold a crown. Which of them is wrong is not decided here, and never guessed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ralph.errors import CorruptStateError
from ralph.protocol.measurement import Measurement

Floats = NDArray[np.float64]
LIMIT_DECIMALS = 6
"""The limit is rounded to this, so that library versions which differ in the last bits agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEstimate:
    """What one sub-pool says: challenger less king on each seed, and how far other documents of its kind would move that."""

    executor: str
    differences: tuple[tuple[int, float], ...]
    """(seed, val_bpb of the challenger less that of the king)."""
    document_error: float
    """Standard error of their mean over documents, bpb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The comparison of two sub-pools."""

    gap_bpb: float
    standard_error_bpb: float
    statistic: float
    """Gap over its standard error."""
    limit: float

    @property
    def holds(self) -> bool:
        """Return whether the two can be estimates of one difference. Nothing finite, nothing agreed."""
        return abs(self.statistic) <= self.limit


def document_error(difference: Floats, weight: Floats) -> float:
    """Return the standard error over documents of a mean difference in bits per byte.

    Args:
        difference: float64[R, I] in nats, challenger less king of run r on document i.
        weight: float64[I], ln 2 times the bytes of each document.

    Raises:
        ValueError: Fewer than two documents, or no bytes.
    """
    runs, items = difference.shape
    if items < 2 or runs < 1 or weight.shape != (items,) or not weight.sum() > 0:
        raise ValueError(f"no error over {runs} runs and {items} documents")
    mean = difference.mean(axis=0)
    residual = mean - weight * (mean.sum() / weight.sum())
    return float(math.sqrt(items / (items - 1) * math.fsum((residual**2).tolist())) / weight.sum())


def agreement(first: PoolEstimate, second: PoolEstimate, *, level: float) -> Agreement:
    """Compare two disjoint sub-pools. ``level`` is the two-sided probability with which honest ones agree."""
    one, two = dict(first.differences), dict(second.differences)
    if not one or not two:
        raise ValueError("a sub-pool without runs says nothing")
    gap = math.fsum(one.values()) / len(one) - math.fsum(two.values()) / len(two)
    if one.keys() == two.keys():
        runs = _variance_of_mean([one[seed] - two[seed] for seed in one])
    else:
        runs = _variance_of_mean(list(one.values())) + _variance_of_mean(list(two.values()))
    error = math.sqrt(first.document_error**2 + second.document_error**2 + runs)
    statistic = gap / error if error > 0 else math.copysign(math.inf, gap) if gap else 0.0
    limit = round(float(ndtri((1 + level) / 2)), LIMIT_DECIMALS)
    return Agreement(gap_bpb=gap, standard_error_bpb=error, statistic=statistic, limit=limit)


def agreed(measurements: Sequence[Measurement], tree: bytes, *, level: float) -> int:
    """Return on how many disjoint sub-pools a tree was measured, all of which agree. With one there is nothing to compare.

    Raises:
        CorruptStateError: OPS-HOLD, two sub-pools disagree, or one was measured without saying how sure it is.
    """
    executors = {item.executor for item in measurements if (item.role, item.stage, item.tree) == ("challenger", "proof", tree)}
    estimates = pool_estimates(measurements, tree)
    if len(executors) < 2:
        return len(executors)
    if len(estimates) < len(executors):
        detail = f"{len(executors) - len(estimates)} of {len(executors)} sub-pools say nothing of tree {tree.hex()[:16]}"
        raise CorruptStateError(detail, code="OPS-HOLD")
    for first, second in combinations(estimates, 2):
        seen = agreement(first, second, level=level)
        if not seen.holds:
            detail = f"the sub-pools of {first.executor} and {second.executor} disagree about tree {tree.hex()[:16]}"
            gap = f"a gap of {seen.gap_bpb:+.4f} +- {seen.standard_error_bpb:.4f} bpb, {seen.statistic:+.2f} standard errors"
            raise CorruptStateError(f"{detail}: {gap}, at most {seen.limit:.2f} are allowed", code="OPS-HOLD")
    return len(estimates)


def _variance_of_mean(values: Sequence[float]) -> float:
    count, mean = len(values), math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count if count > 1 else 0.0


def pool_estimates(measurements: Sequence[Measurement], tree: bytes) -> tuple[PoolEstimate, ...]:
    """Return what each executor's proof runs of this round say of a tree, in the order of their first measurement.

    An executor that did not say how far his documents may move it, or whose runs are no pairs, says nothing.
    """
    found = []
    for executor in dict.fromkeys(item.executor for item in measurements):
        runs = [item for item in measurements if item.executor == executor and item.stage == "proof" and item.score is not None]
        king = {item.seed: item.score.val_bpb for item in runs if item.role == "king" and item.score is not None}
        own = [item for item in runs if item.role == "challenger" and item.tree == tree]
        errors = [item.document_error for item in own if item.document_error is not None]
        pairs = tuple((item.seed, item.score.val_bpb - king[item.seed]) for item in own if item.score is not None and item.seed in king)
        if errors and pairs:
            found.append(PoolEstimate(executor=executor, differences=pairs, document_error=errors[-1]))
    return tuple(found)
