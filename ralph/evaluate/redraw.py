"""Repeat the draw many times over losses that are known for every cell.

One measurement shows one draw. With the claims and the true loss of all cells at hand, this module says what
the score and the detection would have been over many keys: the bias of the estimate, its spread, and the
probability that a given cheat passes. It is a tool for tests and benchmarks and decides nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ralph.evaluate.cells import Floats
from ralph.evaluate.draw import draw
from ralph.evaluate.estimator import exceedances, totals
from ralph.protocol.canonical import digest
from ralph.protocol.scoring_rules import EvaluationRules

REDRAW_TAG = "recipe-net/evaluate/redraw/v1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Redraws:
    """What ``redraw`` saw; nats per token.

    Args:
        scores: float64[K], the estimate under each key.
        standard_errors: float64[K], what each estimate said of itself.
        caught: bool[K], whether a drawn cell was over the tolerance.
        truth: The mean true loss of all cells.
    """

    scores: Floats
    standard_errors: Floats
    caught: NDArray[np.bool_]
    truth: float

    @property
    def bias(self) -> float:
        """Return mean(score) - truth: what a contender wins (negative) or loses on average by his claims."""
        return float(self.scores.mean()) - self.truth

    @property
    def spread(self) -> float:
        """Return the standard deviation of the score over draws: the standard error of one measurement."""
        return float(self.scores.std(ddof=1))

    @property
    def passed(self) -> float:
        """Return the share of draws in which nothing was over the tolerance."""
        return 1.0 - float(self.caught.mean())


def redraw(
    claims: Floats, truth: Floats, reference: Floats | None, *, rules: EvaluationRules, key: bytes, times: int, device: str = "cpu"
) -> Redraws:
    """Return the outcome of ``times`` draws under keys derived from ``key``.

    Args:
        claims: float64[C] claimed loss of every cell.
        truth: float64[C] true loss of every cell.
        reference: float64[C] the king's losses, or None.
        rules: Numbers of draws and the tolerance.
        key: Any bytes; the same key gives the same draws.
        times: Number of draws K.
        device: Whose tolerance counts.
    """
    claimed = np.array([claims.sum()])
    scores, errors, caught = np.empty(times), np.empty(times), np.empty(times, np.bool_)
    for number in range(times):
        fresh = digest(REDRAW_TAG, {"key": key, "number": number})
        drawn = draw(fresh, claims, reference, uniform=rules.uniform_cells, weighted=rules.weighted_cells)
        said, found = claims[drawn.cells], truth[drawn.cells]
        outcome = totals(drawn, said, found, claimed=claimed, member=np.zeros_like(drawn.cells))
        scores[number] = outcome.nats[0] / claims.size
        errors[number] = outcome.standard_error[0] / claims.size
        caught[number] = exceedances(said, found, rules.tolerance(device).tau_nats) > 0
    return Redraws(scores=scores, standard_errors=errors, caught=caught, truth=float(truth.mean()))


def detection(fraction: float, *, cells: int) -> float:
    """Return 1 - (1 - f)^n, the probability that ``cells`` uniform draws meet a cheat on a ``fraction`` of the cells."""
    return 1.0 - (1.0 - fraction) ** cells


def draws_needed(gain_nats: float, *, worst_nats: float, passes: float) -> int:
    """Return the fewest uniform draws with which a cheat that wins ``gain_nats`` a token passes with at most this probability.

    He wins most for the fewest lies by claiming nothing where a loss is largest, ``worst_nats`` of a cell: f = gain / worst of
    the cells. Weighted draws find him sooner, so this is an upper bound.
    """
    return math.ceil(math.log(passes) / math.log1p(-gain_nats / worst_nats))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What a cheat gains on average over an honest twin with the same true losses (positive: it pays)."""

    nats: float
    standard_errors: float
    """In standard errors of one measurement of the cheat."""


def gain(cheat: Redraws, honest: Redraws) -> Gain:
    """Compare the average score of a cheat with that of its honest twin."""
    nats = float(honest.scores.mean() - cheat.scores.mean())
    spread = max(cheat.spread, honest.spread)
    return Gain(nats=nats, standard_errors=nats / spread if spread else 0.0)
