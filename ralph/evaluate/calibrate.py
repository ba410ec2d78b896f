"""What an honest model's claims and probes differ by on this machine, and the tolerance that follows from it.

One honest model is claimed and probed by the code that measures contenders; a host that only watches has no use for a draw, so
cells are taken at random and nobody is accused.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from ralph.evaluate.cells import Cells, Floats
from ralph.evaluate.measure import Exam
from ralph.protocol.scoring_rules import ToleranceRules

TAU_QUANTILE = 0.999
"""Of honest mismatches, below tau."""
WORST_FACTOR = 3.0
"""Times the largest honest mismatch: what no honest claim is missed by."""
RMS_FACTOR = 2.0
SHARE_FACTOR = 2.0
LEVEL = 1e-6
LEAST_NATS = 1e-5
"""No limit is tighter: other machines of a kind may round a little otherwise."""
QUANTILES = (0.5, 0.9, 0.99, 0.999, 0.9999)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibrated:
    """The mismatches of one honest model."""

    mismatch: Floats = field(repr=False)
    """float64[M], probe less claim, in nats."""
    device: str
    probe_multiple: int

    @property
    def rms_nats(self) -> float:
        """Return their root mean square."""
        return math.sqrt(float(np.mean(self.mismatch**2)))

    @property
    def mean_nats(self) -> float:
        """Return their mean: what a correction by probes of every cell would be."""
        return float(self.mismatch.mean())

    def quantiles(self) -> tuple[float, ...]:
        """Return |mismatch| at ``QUANTILES``, and the largest."""
        size = np.abs(self.mismatch)
        return (*np.quantile(size, QUANTILES).tolist(), float(size.max()))

    def tolerance(self) -> ToleranceRules:
        """Return the limits that these mismatches suggest."""
        size = np.abs(self.mismatch)
        tau = _above(float(np.quantile(size, TAU_QUANTILE)))
        share = SHARE_FACTOR * float(np.mean(size > tau))
        return ToleranceRules(
            device="cuda" if self.device == "cuda" else "cpu",
            tau_nats=tau,
            share=share,
            level=LEVEL if share else 0.0,
            worst_nats=_above(WORST_FACTOR * float(size.max())),
            rms_nats=_above(RMS_FACTOR * self.rms_nats),
            probe_multiple=self.probe_multiple,
        )


def calibrate(exam: Exam, *, probes: int) -> Calibrated:
    """Claim everything, probe ``probes`` cells of it drawn by the exam's key, and return the mismatches."""
    count = Cells.of(exam.rows.lengths).count
    generator = np.random.default_rng(list(exam.key))
    wanted = np.sort(generator.choice(count, size=min(probes, count), replace=False))
    with exam.model.start() as first, exam.model.start() as second:
        claims = exam.claims(first)
        truths = exam.truths(second, wanted)
    return Calibrated(mismatch=truths - claims[wanted], device=exam.model.rung.device, probe_multiple=exam.tolerance.probe_multiple)


def _above(value: float) -> float:
    """Return ``value`` rounded up to one significant digit, and at least ``LEAST_NATS``."""
    if value <= LEAST_NATS:
        return LEAST_NATS
    digit = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / digit - 1e-9) * digit:.1g}")
