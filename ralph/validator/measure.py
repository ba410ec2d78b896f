"""Measure: which runs a round needs, and how one run becomes a signed Measurement.

The list of work is a pure function of the accepted cases, the throne and the beacons, so two validators
(and an auditor) name the same runs. King and challengers run on the same seeds and documents.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from ralph.data.dataset import DataSet, Rows
from ralph.errors import UntrustedInputError
from ralph.evaluate import claims as claiming
from ralph.evaluate.core22.examining import Examination, Examined, Kept, examine, starting
from ralph.evaluate.loading import Model
from ralph.evaluate.measure import Exam, audit, exact, score
from ralph.evaluate.reviewed import trusted
from ralph.evaluate.score import Score
from ralph.interfaces import Sandbox
from ralph.judge.plan import Need
from ralph.protocol.announcement import Environment
from ralph.protocol.canonical import blob_digest
from ralph.protocol.measurement import Failure, Measurement, sits_exams
from ralph.protocol.patch import RecipeTree
from ralph.protocol.pool import Subset
from ralph.protocol.record import Record
from ralph.protocol.rules import Rules, Rung
from ralph.protocol.seeds import draw
from ralph.repository.trees import materialise
from ralph.sandbox.limits import limits_for
from ralph.train import host
from ralph.train.host import TrainingRun
from ralph.train.run import RunJob, RunResult
from ralph.train.segments import Boundary

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One run to measure: train and score, or only score weights that a miner trained."""

    need: Need
    tree: RecipeTree = field(repr=False)
    weights: bytes | None = field(repr=False)
    """The miner's weights of a filter run, or kept ones of an earlier run; None where the validator trains himself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A finished measurement, unsigned, with what stays private and what only logs may tell."""

    measurement: Measurement
    claims: Floats | None = field(repr=False)
    """float64[C] on hidden documents, mapped from a file that ends with them; of the king only, and never leaves the validator
    before rotation."""
    document_nats: Floats | None = field(repr=False)
    """float64[N]: estimated losses of the same documents; as private."""
    weights: bytes | None = field(repr=False)
    """The scored model."""
    examined: tuple[Examined, ...] = field(repr=False, default=())
    """Of a proof run: its answers to what the Rules guard beside text; as private, but for rounded figures."""
    initial: Boundary | None = field(repr=False)
    """The state at step 0 of a run that the validator trained."""
    train_cpu_s: float
    score_cpu_s: float
    scoring_cpu_s: float = 0.0
    """Of ``Score``; for ``Costs`` only."""
    training_s: float | None = None
    """Seconds of a training by the validator; for ``Times`` only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every measurement of a round shares."""

    rules: Rules
    sandbox: Sandbox
    data: DataSet
    hidden: Mapping[Subset, Rows]
    environment: Environment
    executor: str
    """The validator's hotkey."""
    round_index: int
    beacon_two: bytes
    king_losses: Mapping[Subset, Floats]
    """float64[C]: the king's claims on the cells of a subset, where he has been scored on it."""
    scratch: Path
    genesis: RecipeTree = field(repr=False)
    """A reviewed recipe."""
    king_share: float = 0.0
    """Share of the king's probes above tau in the rounds before."""
    examinations: tuple[Examination, ...] = ()
    """What proof runs are examined on beside hidden text."""
    king_answers: Mapping[str, Mapping[str, Kept]] = field(default_factory=dict, repr=False)
    """Examination -> task -> the king's answers, once he has sat it."""

    def measure(self, work: Work) -> Measured:
        """Run one piece of work; what the recipe does wrong becomes a Failure.

        Raises:
            InfrastructureError: Ours; the caller tries again.
        """
        rung = self.rules.rung(self.rules.crown.rung)
        subject = work.need.subject()
        key = draw(beacon=self.beacon_two, purpose="cells", subject=subject)
        with TemporaryDirectory(dir=self.scratch) as folder:
            recipe, known = Path(folder) / "recipe", trusted(work.tree, self.genesis, self.rules.evaluation)
            materialise(work.tree, recipe)
            reviewed = Path(folder) / "reviewed" if known is not None else None
            if known is not None and reviewed is not None:
                materialise(known, reviewed)
            try:
                if work.weights is not None:
                    return self._scored(work.need, recipe, work.weights, rung, key, reviewed)
                return self._trained(work.need, recipe, rung, key, reviewed)
            except UntrustedInputError as error:
                logger.info("run %s of tree %s failed: %s %s", work.need.stage, work.need.tree.hex()[:16], error.code, error.detail)
                return self.failed(work.need, Failure(reason=error.code, detail=error.detail[:200]))

    def failed(self, need: Need, failure: Failure) -> Measured:
        """Return what is known of a run that the recipe made fail."""
        return Measured(
            measurement=self._measurement(need, None, None, failure),
            claims=None,
            document_nats=None,
            weights=None,
            initial=None,
            train_cpu_s=0.0,
            score_cpu_s=0.0,
        )

    def _trained(self, need: Need, recipe: Path, rung: Rung, key: bytes, reviewed: Path | None) -> Measured:
        job = RunJob(recipe=recipe, rung=rung, seed=need.seed, vocabulary=self.data.vocabulary, limits=limits_for(rung))
        with host.start(job, sandbox=self.sandbox, data=self.data) as run:
            states = FirstState()
            result = run.train(states=states)
            claims = None if reviewed is not None else self._claims(run, need, key)
        exam = self._exam(need, reviewed or recipe, result.weights, rung, key)
        scored = exact(exam, self.data.token_bytes) if claims is None else audit(claims, exam, self.data.token_bytes)
        model = self._model(recipe, result.weights, rung)
        examined = self._examined(need, model)
        measurement = self._measurement(need, result, scored, None, examined=examined)
        return Measured(
            measurement=measurement,
            claims=scored.claims if need.role == "king" else None,
            document_nats=scored.document_nats,
            examined=examined,
            weights=result.weights,
            initial=states.first,
            train_cpu_s=result.worker_cpu_s,
            score_cpu_s=scored.worker_cpu_s + model.worker_cpu_s,
            scoring_cpu_s=scored.scoring_cpu_s,
            training_s=result.training_s,
        )

    def _claims(self, run: TrainingRun, need: Need, key: bytes) -> Floats:
        """Ask the worker that has just trained; what it says is audited in another sandbox."""
        batch_rows = self.rules.evaluation.batch_rows
        return claiming.collect(run.channel.claim, self.hidden[need.subset], batch_rows=batch_rows, key=key, scratch=self.scratch)

    def _examined(self, need: Need, model: Model) -> tuple[Examined, ...]:
        """Examine a run where that is due, in sandboxes that see no hidden text."""
        found = []
        for one in self.examinations if sits_exams(need.role, need.stage, need.subset) else ():

            def key(purpose: str) -> bytes:
                return draw(beacon=self.beacon_two, purpose=purpose, subject=need.subject())

            king = None if need.role == "king" else self.king_answers.get(one.name)
            found.append(examine(one, starting(model), key=key, king=king))
        return tuple(found)

    def _scored(self, need: Need, recipe: Path, weights: bytes, rung: Rung, key: bytes, reviewed: Path | None) -> Measured:
        exam = self._exam(need, reviewed or recipe, weights, rung, key)
        scored = (score if reviewed is None else exact)(exam, self.data.token_bytes)
        measurement = self._measurement(need, None, scored, None, weights=blob_digest(weights))
        return Measured(
            measurement=measurement,
            claims=scored.claims if need.role == "king" else None,
            document_nats=scored.document_nats,
            weights=weights,
            initial=None,
            train_cpu_s=0.0,
            score_cpu_s=scored.worker_cpu_s,
            scoring_cpu_s=scored.scoring_cpu_s,
        )

    def _model(self, recipe: Path, weights: bytes, rung: Rung) -> Model:
        return Model(sandbox=self.sandbox, recipe=recipe, weights=weights, rung=rung, vocabulary=self.data.vocabulary)

    def _exam(self, need: Need, recipe: Path, weights: bytes, rung: Rung, key: bytes) -> Exam:
        return Exam(
            model=self._model(recipe, weights, rung),
            rules=self.rules.evaluation,
            rows=self.hidden[need.subset],
            key=key,
            king=None if need.role == "king" else self.king_losses.get(need.subset),
            scratch=self.scratch,
            king_share=0.0 if need.role == "king" else self.king_share,
        )

    def _measurement(
        self,
        need: Need,
        result: RunResult | None,
        scored: Score | None,
        failure: Failure | None,
        *,
        weights: bytes | None = None,
        examined: Sequence[Examined] = (),
    ) -> Measurement:
        decimals = self.rules.exam.published_decimals
        return Measurement(
            round=self.round_index,
            executor=self.executor,
            role=need.role,
            stage=need.stage,
            tree=need.tree,
            rung=self.rules.crown.rung,
            seed=need.seed,
            executed=need.executed,
            subset=need.subset,
            environment=self.environment.digest(),
            transcript_root=result.transcript_root if result else None,
            segments_root=result.segments_root if result else None,
            weights=result.weights_digest if result else weights,
            parameters=result.parameters if result else 0,
            tokens=result.plan.tokens if result else 0,
            score=scored.published(self.rules.evaluation) if scored else None,
            failure=failure,
            tasks=tuple(part.published(decimals) for one in examined for part in one.parts),
        )


class FirstState:
    """A StateSink that keeps the state at step 0 only."""

    def __init__(self) -> None:
        self.first: Boundary | None = None

    def keep(self, boundary: Boundary) -> None:
        """Take one state."""
        if boundary.step == 0:
            self.first = boundary


def share_over_tau(records: Iterable[Record], king: bytes) -> float:
    """Return which share of a king's probes missed their claims by more than tau, over all Records; 0 where he was never probed."""
    measured = (item.measurement for record in records for item in record.measurements)
    scores = [one.score for one in measured if one.role == "king" and one.tree == king and one.score is not None]
    probed = sum(score.cells for score in scores)
    return sum(score.exceedances for score in scores) / probed if probed else 0.0
