"""Whether claims and probes agree as well as they do for an honest model on this kind of device.

Four things are asked of the mismatches, probe less claim, of one measurement; each alone is enough to doubt it:

1. none is above the worst that is allowed at all;
2. not more of them are above tau than honest models have: the share in the Rules, or the king's own where that is higher;
3. their root mean square over the uniform draws is not above its limit;
4. the correction that they make is not above five standard errors of what that limit allows.

On CPUs honest mismatches are 1e-14 nats, all limits are the same small number, and the first is the only one that matters. In
bfloat16 on a GPU they are not small, and the limits come from ``ralph bench tolerance``. The correction itself is never clipped.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ralph.evaluate.cells import Floats, Integers
from ralph.evaluate.draw import Draw
from ralph.protocol.scoring_rules import ToleranceRules

CORRECTION_ERRORS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """One reason not to believe the claims of a measurement."""

    detail: str
    cells: NDArray[np.bool_]
    """bool[M]: the probed cells that give the reason."""


def doubts(
    mismatch: Floats, *, drawn: Draw, probed: Integers, cells: int, tolerance: ToleranceRules, king_share: float = 0.0
) -> tuple[Doubt, ...]:
    """Return every reason to doubt, none for an honest model.

    Args:
        mismatch: float64[M], probe less claim of each probed cell, in nats.
        drawn: n draws of cells.
        probed: int64[M], the probed cells, ascending; all drawn ones are among them.
        cells: Number of all cells.
        tolerance: The limits of this kind of device.
        king_share: Share of the king's probed cells above tau on the same device.
    """
    size, uniform = np.abs(mismatch), drawn.uniform
    of_draw = mismatch[np.searchsorted(probed, drawn.cells)]
    over = size > tolerance.tau_nats
    most = allowed(max(tolerance.share, king_share) * probed.size, level=tolerance.level)
    rms = math.sqrt(float(np.mean(of_draw[:uniform] ** 2)))
    correction = float(np.mean(of_draw / (cells * drawn.probability)))
    bound = CORRECTION_ERRORS * tolerance.rms_nats / math.sqrt(uniform)
    worst = size > tolerance.worst_nats
    every = size > 0
    found: list[tuple[Any, NDArray[np.bool_], str]] = [
        (worst.any(), worst, f"{int(worst.sum())} of {probed.size} by more than {tolerance.worst_nats:g} nats"),
        (over.sum() > most, over, f"{int(over.sum())} of {probed.size} by more than {tolerance.tau_nats:g} nats, at most {most} is honest"),
        (rms > tolerance.rms_nats, every, f"a root mean square of {rms:.3g} nats, at most {tolerance.rms_nats:g} is honest"),
        (abs(correction) > bound, every, f"a correction of {correction:.3g} nats a token, at most {bound:.3g} is honest"),
    ]
    return tuple(Doubt(detail=detail, cells=which) for wrong, which, detail in found if wrong)


def allowed(expected: float, *, level: float) -> int:
    """Return the least count that a Poisson variable of this mean exceeds with a probability below ``level``."""
    term = tail = math.exp(-expected)
    count = 0
    while 1 - tail > level:
        count += 1
        term *= expected / count
        tail += term
    return count
