"""Measure a model on hidden text: claims from sandbox A, probes in sandbox B, and a replay before any accusation.

1. A and B start together; B receives nothing but its start.
2. A builds the recipe, loads the weights, answers a claimed loss for every token; the claims are frozen and A is destroyed.
3. Cells are drawn with a key that is bound to the frozen claims.
4. B builds the recipe, loads the weights, answers the logits after single prefixes; the host computes the true losses.
5. Where claims and truths differ more than those of honest models (``ralph.evaluate.tolerance``), both phases run once more, request by
   request, in two fresh sandboxes: where claims come back and there is reason to doubt them again it is ``FRD-CLAIM``; everything else
   is ours, ``OPS-NUMERIC``.
6. The score is the mean claim, corrected by the probes.

A worker's claims may also come from the sandbox that has just trained the model; then ``audit`` does steps 3 to 6.

Not promised: a worker that lies at random in a few places may not repeat the lie that was found, and its case is then ours
to retry, which is another draw for him: callers bound the retries, and distrust a tree that needs them where the king does not.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ralph.data.dataset import Rows
from ralph.errors import ConfigurationError, InfrastructureError, UntrustedInputError
from ralph.evaluate import claims as claiming
from ralph.evaluate import probes as probing
from ralph.evaluate.cells import Cells, Floats, Integers
from ralph.evaluate.draw import draw, no_draw
from ralph.evaluate.loading import Model
from ralph.evaluate.score import Audit, Score, assemble
from ralph.evaluate.tolerance import Doubt, doubts
from ralph.interfaces import SandboxedWorker
from ralph.protocol.scoring_rules import EvaluationRules, ToleranceRules

logger = logging.getLogger(__name__)


def score(exam: "Exam", token_bytes: NDArray[np.uint8]) -> Score:
    """Measure a model from its recipe and weights.

    Args:
        exam: What is measured.
        token_bytes: uint8[V].

    Raises:
        UntrustedInputError: ``FRD-CLAIM``, ``RUN-NAN``, ``RUN-SHAPE`` and what else a worker may do wrong.
        InfrastructureError: ``OPS-NUMERIC`` for a difference that does not repeat.
    """
    with exam.model.start() as first, exam.model.start() as second:
        claims = exam.claims(first)
        audited = exam.audit(claims, second)
    return _assembled(exam, audited, token_bytes)


def audit(claims: Floats, exam: "Exam", token_bytes: NDArray[np.uint8]) -> Score:
    """Measure a model whose claims are frozen already and whose claiming sandbox is destroyed.

    ``claims`` is float64[C] from ``ralph.evaluate.claims.collect`` with the same rows, batch shape and key; everything else
    is as for ``score``.
    """
    with exam.model.start() as second:
        audited = exam.audit(claims, second)
    return _assembled(exam, audited, token_bytes)


def exact(exam: "Exam", token_bytes: NDArray[np.uint8]) -> Score:
    """Measure a model whose recipe is reviewed (``ralph.evaluate.reviewed``): every claim is a truth, so nothing is drawn.

    Raises:
        UntrustedInputError: Weights that do not fit, or with which losses are no numbers.
    """
    with exam.model.start() as first:
        claims = exam.claims(first)
    none = np.zeros(0, np.int64)
    audited = Audit(claims=claims, draw=no_draw(exam.key, claims), probed=none, truths=np.zeros(0))
    return _assembled(exam, audited, token_bytes)


def _assembled(exam: "Exam", audited: Audit, token_bytes: NDArray[np.uint8]) -> Score:
    spent = {"worker_cpu_s": exam.model.worker_cpu_s, "scoring_cpu_s": exam.scoring_cpu_s}
    return assemble(audited, exam.rows, tolerance=exam.tolerance, token_bytes=token_bytes, **spent)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Revealed:
    """Claims and true losses of all cells."""

    claims: Floats
    """float64[C]"""
    truths: Floats
    """float64[C]"""


def reveal(exam: "Exam") -> Revealed:
    """Collect claims and true losses of every cell and accuse nobody: for benchmarks and tests, see ``ralph.evaluate.redraw``."""
    cells = Cells.of(exam.rows.lengths)
    with exam.model.start() as first, exam.model.start() as second:
        claims = exam.claims(first)
        return Revealed(claims=claims, truths=exam.truths(second, np.arange(cells.count)))


@dataclass(slots=True, kw_only=True, eq=False)
class Exam:
    """One measurement in progress.

    Args:
        model: What is measured.
        rules: Numbers of probes, batch shape, tolerances.
        rows: N documents of T + 1 tokens; T is the rung's sequence.
        key: 32 secret bytes that no worker and no miner sees; fresh for every measurement.
        king: float64[C] the king's claims on the same cells, which the weighted draws compare with; None for the king.
        scratch: Directory of the files that claims lie in; None for the system's, which on some machines is in memory.
        king_share: Share of the king's probes above tau, on the same device.
    """

    model: Model
    rules: EvaluationRules
    rows: Rows = field(repr=False)
    key: bytes = field(repr=False)
    king: Floats | None = field(repr=False)
    scratch: Path | None = None
    king_share: float = 0.0
    scoring_cpu_s: float = 0.0
    """Of the last phase, without the start of its sandbox."""
    tolerance: ToleranceRules = field(init=False)

    def __post_init__(self) -> None:
        count = Cells.of(self.rows.lengths).count
        rung = self.model.rung
        if self.rows.sequence != rung.sequence or (self.king is not None and self.king.shape != (count,)):
            raise ConfigurationError(f"rows not of {rung.sequence} + 1 tokens, or the king's losses not of their {count} cells")
        self.tolerance = self.rules.tolerance(rung.device)

    def claims(self, worker: SandboxedWorker) -> Floats:
        """Collect and freeze the claims, and destroy the sandbox that made them."""
        channel = self.model.open(worker)
        before = worker.cpu_seconds()
        frozen = claiming.collect(channel.claim, self.rows, batch_rows=self.rules.batch_rows, key=self.key, scratch=self.scratch)
        self.scoring_cpu_s = worker.cpu_seconds() - before
        worker.kill()
        return frozen

    def truths(self, worker: SandboxedWorker, wanted: Integers) -> Floats:
        """Probe cells and destroy the sandbox."""
        channel = self.model.open(worker)
        before = worker.cpu_seconds()
        found = probing.collect(
            lambda tokens, positions: channel.probe(tokens, positions, self.model.vocabulary),
            self.rows,
            wanted,
            batch_rows=self.rules.batch_rows,
            key=self.key,
            multiple=self.tolerance.probe_multiple,
        )
        self.scoring_cpu_s = worker.cpu_seconds() - before
        worker.kill()
        return found

    def audit(self, claims: Floats, worker: SandboxedWorker) -> Audit:
        """Draw cells, probe them in ``worker`` and compare them with the claims."""
        drawn = draw(self.key, claims, self.king, uniform=self.rules.uniform_cells, weighted=self.rules.weighted_cells)
        # no distribution has a negative loss; one such claim could be worth more than all probes together, so it is never left to chance
        impossible = claiming.below(claims, -self.tolerance.tau_nats, most=self.rules.batch_rows)
        probed = np.unique(np.concatenate([drawn.cells, impossible]))
        audited = Audit(claims=claims, draw=drawn, probed=probed, truths=self.truths(worker, probed))
        found = self._doubts(audited, audited.truths - claims[probed])
        if found:
            self._accuse(audited, found)
        return audited

    def _doubts(self, audited: Audit, mismatch: Floats) -> tuple[Doubt, ...]:
        return doubts(
            mismatch,
            drawn=audited.draw,
            probed=audited.probed,
            cells=audited.claims.size,
            tolerance=self.tolerance,
            king_share=self.king_share,
        )

    def _accuse(self, audited: Audit, found: tuple[Doubt, ...]) -> None:
        """Repeat both phases and raise: fraud when claims that were doubted come back and there is reason to doubt them again."""
        doubted = np.logical_or.reduce([doubt.cells for doubt in found])
        said, probed = audited.claims[audited.probed], audited.probed
        worst = float(np.abs(audited.truths - said).max())
        logger.warning("%d of %d probes are doubted; both phases run once more", int(doubted.sum()), probed.size)
        with self.model.start() as first, self.model.start() as second:
            claimed = self.claims(first)[probed]
            truths = self.truths(second, probed)
        repeated = doubted & (np.abs(claimed - said) <= self.tolerance.tau_nats)
        again = self._doubts(audited, np.where(repeated, truths - claimed, 0.0))
        told = "; ".join(doubt.detail for doubt in found)
        detail = f"claims differ from the losses on the prefixes alone: {told}; the worst by {worst:.3g} nats"
        if again:
            raise UntrustedInputError("FRD-CLAIM", f"{detail}; again in a replay: {'; '.join(doubt.detail for doubt in again)}")
        raise InfrastructureError(f"{detail}; not again in a replay", code="OPS-NUMERIC")
