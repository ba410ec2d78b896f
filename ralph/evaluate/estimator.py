"""The score from claims and probes: pure arithmetic, unbiased whatever the claims were.

With n_u uniform and n_w weighted draws and pi their mixture, ``sum(claims) + (1/n) sum_k (r_k - c_k) / pi_k`` has
the expectation ``sum(r)`` for arbitrary claims (the difference estimator of survey sampling with Hansen-Hurwitz
weights; the mixture is the balance heuristic of Veach and Guibas 1995). For honest claims the correction is about 0 and
the precision is that of all cells. The same holds for any group of cells, because a draw outside the group adds 0
to it; so groups add up to the whole.

It does not say whether the claims were honest: ``exceedances`` does, and the crown rule's bar does the rest.
"""

import math
from dataclasses import dataclass

import numpy as np

from ralph.evaluate.cells import Floats, Integers
from ralph.evaluate.draw import Draw

LN2 = math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Totals:
    """Sums of losses per group of cells, in nats; float64[G] each.

    Args:
        claimed: Sum of the claims.
        correction: Estimate of (sum of true losses - sum of claims); unbiased, never clipped.
        standard_error: Standard error of ``correction`` over repeated draws, estimated from this one.
    """

    claimed: Floats
    correction: Floats
    standard_error: Floats

    @property
    def nats(self) -> Floats:
        """Return the estimated sum of true losses."""
        summed: Floats = self.claimed + self.correction
        return summed


def totals(draw: Draw, claims: Floats, truths: Floats, *, claimed: Floats, member: Integers) -> Totals:
    """Estimate the sum of true losses of every group.

    Args:
        draw: n draws; none where claims are truths.
        claims: float64[n], the claim on each drawn cell.
        truths: float64[n], the probed loss of each drawn cell.
        claimed: float64[G], the sum of the claims on all cells of each group.
        member: int64[n], the group of each drawn cell.
    """
    count = claimed.size
    if not draw.cells.size:
        return Totals(claimed=claimed, correction=np.zeros(count), standard_error=np.zeros(count))
    terms = (truths - claims) / draw.probability
    correction = np.bincount(member, weights=terms, minlength=count) / terms.size
    variance = np.zeros(count)
    for part in (slice(0, draw.uniform), slice(draw.uniform, None)):
        variance += _sum_variance(terms[part], member[part], count)
    return Totals(claimed=claimed, correction=correction, standard_error=np.sqrt(variance) / terms.size)


def _sum_variance(terms: Floats, member: Integers, count: int) -> Floats:
    """Return the estimated variance of each group's sum over identically drawn ``terms``; a draw elsewhere counts as 0."""
    if terms.size < 2:
        return np.zeros(count)
    mean = np.bincount(member, weights=terms, minlength=count) / terms.size
    squares = np.bincount(member, weights=(terms - mean[member]) ** 2, minlength=count)
    absent = terms.size - np.bincount(member, minlength=count)
    summed: Floats = (squares + absent * mean**2) * (terms.size / (terms.size - 1))
    return summed


def bits_per_byte(nats: float, size_bytes: int) -> float:
    """Return ``val_bpb``: nats / (ln 2 * true UTF-8 bytes of the scored tokens)."""
    return nats / (LN2 * size_bytes)


def exceedances(claims: Floats, truths: Floats, tau: float) -> int:
    """Return how many cells differ by more than ``tau`` nats between claim and probe (the same cells in both)."""
    return int(np.count_nonzero(np.abs(truths - claims) > tau))
