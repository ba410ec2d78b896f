"""Score a model from prefixes alone: what nobody can say a claim was behind.

A contender who was refused for his claims, and anybody else who doubts a measurement, can have the model scored again without any:
cells are drawn uniformly, each is probed, and the mean of the true losses is the score. It is unbiased for the same quantity as a
measurement by claims and less precise, because only the drawn cells count; its standard error says how much less.

Not promised: that a model which passes here is honest there. An appeal shows what the weights are worth, and ``Disputed`` which claims
differ.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ralph.evaluate.cells import Cells, Floats, Integers
from ralph.evaluate.draw import words
from ralph.evaluate.estimator import LN2, bits_per_byte
from ralph.evaluate.measure import Exam
from ralph.evaluate.score import true_bytes

APPEAL = "cells of an appeal"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rescored:
    """A score without claims."""

    val_bpb: float
    standard_error_bpb: float
    """Over draws of the cells."""
    cells: Integers = field(repr=False)
    """int64[M]: the drawn cells, ascending, each once."""
    truths: Floats = field(repr=False)
    """float64[M]: their true losses in nats."""
    draws: int
    documents: int

    def disputed(self, claims: Floats, *, tau: float) -> "Disputed":
        """Compare with the claims of a measurement on the same rows, float64[C]."""
        differs = np.abs(claims[self.cells] - self.truths) > tau
        return Disputed(cells=self.cells[differs], claims=claims[self.cells][differs], truths=self.truths[differs])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Disputed:
    """Claims that differ from what their prefixes give, float64[K] each, by cell."""

    cells: Integers
    claims: Floats
    truths: Floats


def rescore(exam: Exam, token_bytes: NDArray[np.uint8], *, draws: int) -> Rescored:
    """Probe ``draws`` cells, drawn uniformly with replacement under the exam's key, and nothing else; no claim is asked for.

    Raises:
        UntrustedInputError: What a worker may do wrong while it is probed.
    """
    cells = Cells.of(exam.rows.lengths)
    unit = (words(exam.key, APPEAL, draws) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    drawn = np.minimum((unit * cells.count).astype(np.int64), cells.count - 1)
    probed = np.unique(drawn)
    with exam.model.start() as worker:
        truths = exam.truths(worker, probed)
    of_draw = truths[np.searchsorted(probed, drawn)]
    size = int(true_bytes(exam.rows, token_bytes).sum())
    return Rescored(
        val_bpb=bits_per_byte(float(of_draw.mean()) * cells.count, size),
        standard_error_bpb=float(of_draw.std(ddof=1)) / math.sqrt(draws) * cells.count / (LN2 * size),
        cells=probed,
        truths=truths,
        draws=draws,
        documents=len(exam.rows),
    )
