"""A whole examination of one model: two fresh sandboxes that never see hidden text, a replay before any accusation, results per item.

The worker that answers has seen nothing but the recipe and the weights, and ends with its answers. So nothing that it learnt elsewhere
can leave by what it gets right.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.evaluate.cells import Floats, Integers, Tokens
from ralph.evaluate.core22.audit import Audit, accuse, audit, repeat
from ralph.evaluate.core22.drawing import AuditRules
from ralph.evaluate.core22.exam import Answers, Exam
from ralph.evaluate.core22.examinee import Examinee, SharedClaim, Start
from ralph.evaluate.core22.results import TaskResult, grade_task
from ralph.evaluate.core22.sitting import Progress, silent, sit
from ralph.evaluate.estimator import bits_per_byte
from ralph.evaluate.loading import Model
from ralph.protocol.measurement import TaskValue
from ralph.train.channel import WorkerChannel

logger = logging.getLogger(__name__)

CANNOT_CONTINUE = frozenset({"RUN-CRASH", "RUN-SHAPE", "RUN-NAN"})
ORDER, AUDIT = "exam order", "exam audit"
MakeKey = Callable[[str], bytes]
"""Purpose -> 32 bytes that no worker sees and no miner knew when the patch was committed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graded:
    """What one run answered to the items of one guarded task; private but for what ``published`` returns.

    Args:
        name: Label of the task.
        correct: bool[n].
        gold_nats: float64[n], loss on the right answers.
        gold_bytes: int64[n], their UTF-8 bytes.
    """

    name: str
    correct: NDArray[np.bool_] = field(repr=False)
    gold_nats: Floats = field(repr=False)
    gold_bytes: Integers = field(repr=False)

    def published(self, decimals: int) -> TaskValue:
        """Return the rounded figures."""
        return TaskValue(
            task=self.name,
            items=self.correct.size,
            accuracy=round(float(self.correct.mean()), decimals),
            gold_bpb=round(bits_per_byte(float(self.gold_nats.sum()), int(self.gold_bytes.sum())), decimals),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The losses and hits of one task's answers, as they are kept of a king: what a later audit compares with."""

    losses: bytes = field(repr=False)
    hits: bytes | None = field(repr=False)

    @classmethod
    def of(cls, answers: Answers) -> "Kept":
        """Take them from frozen answers."""
        hits = None if answers.hits is None else answers.hits.tobytes()
        return cls(losses=answers.losses.astype("<f8").tobytes(), hits=hits)

    def beside(self, answers: Answers) -> Answers:
        """Return the king's answers to the exam that ``answers`` answer."""
        losses: Floats = np.frombuffer(self.losses, "<f8")
        return replace(answers, losses=losses, hits=None if self.hits is None else np.frombuffer(self.hits, np.bool_))


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """An exam that guards.

    Args:
        name: Names it in draws and files.
        exam: What is asked.
        rules: How it is audited.
        together: Take all of its tasks as one under this name; None takes each by itself.
    """

    name: str
    exam: Exam = field(repr=False)
    rules: AuditRules
    together: str | None = None

    def parts(self, answers: Sequence[Answers]) -> tuple[Graded, ...]:
        """Return what the answers are worth."""
        results = [grade_task(answer) for answer in answers]
        if self.together is None:
            return tuple(_graded(result.entry.task.label, [result]) for result in results)
        return (_graded(self.together, results),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """Audited answers of one model to one examination."""

    examination: Examination
    answers: tuple[Answers, ...] = field(repr=False)
    probes: int
    """Tokens that were probed."""

    @property
    def parts(self) -> tuple[Graded, ...]:
        """Return what they are worth."""
        return self.examination.parts(self.answers)

    @property
    def kept(self) -> dict[str, Kept]:
        """Return what to keep of a king, by task."""
        return {answer.entry.task.label: Kept.of(answer) for answer in self.answers}


def starting(model: Model) -> Start:
    """Return what starts a fresh sandbox with the model in it, ready to be asked."""

    @contextmanager
    def started() -> Iterator[Examinee]:
        with model.start() as worker:
            channel = model.open(worker)
            yield Examinee(
                claim=channel.claim,
                probe=lambda tokens, positions: channel.probe(tokens, positions, model.vocabulary),
                vocabulary=model.vocabulary,
                shared=_shared(channel) if channel.continues else None,
            )

    return started


def examine(
    examination: Examination, start: Start, *, key: MakeKey, king: Mapping[str, Kept] | None, progress: Progress = silent
) -> Examined:
    """Examine a model.

    A model that fails or does not compute the same when it continues a prefix is asked whole rows instead, and nobody is accused: a
    patch may have changed one and not the other.

    Args:
        examination: What is asked, and how it is audited.
        start: Starts a fresh sandbox with the model.
        key: Makes the keys of this model's draws.
        king: The king's answers by task, for the weighted draws; None for the king himself.
        progress: Called before each task of the first phase.

    Raises:
        UntrustedInputError: ``FRD-CLAIM``, ``RUN-NAN``, ``RUN-SHAPE`` and what else a worker may do wrong.
        InfrastructureError: ``OPS-NUMERIC`` for a difference that does not repeat.
        ConfigurationError: ``OPS-DATA``, a task of which nothing could be probed.
    """
    order, secret = (key(f"{purpose} {examination.name}") for purpose in (ORDER, AUDIT))
    found = _audited(examination, start, order, secret, king, progress)
    if found is None:
        logger.warning("the recipe continues prefixes otherwise than it computes whole rows; the exam is sat again in whole rows")
        start = _unshared(start)
        found = _audited(examination, start, order, secret, king, progress)
    if found is None:
        raise ValueError("a worker that was asked whole rows only continued prefixes")
    answers, audited = found
    if audited.exceedances:
        accuse(audited, repeat(examination.exam, audited, start=start, order_key=order, key=secret))
    if audited.unprobed:
        raise ConfigurationError(
            f"no item of {', '.join(audited.unprobed)} could be probed beside the others; ask more items of each", code="OPS-DATA"
        )
    return Examined(examination=examination, answers=answers, probes=len(audited.cells))


def _audited(
    examination: Examination, start: Start, order: bytes, secret: bytes, king: Mapping[str, Kept] | None, progress: Progress
) -> tuple[tuple[Answers, ...], Audit] | None:
    """Sit and audit in two fresh sandboxes; None where prefixes were continued and that failed or did not agree with the probes."""
    exam = examination.exam
    with start() as first:
        shared = first.shared is not None
        try:
            answers = sit(exam, first, key=order, progress=progress)
        except UntrustedInputError as error:
            if shared and error.code in CANNOT_CONTINUE:
                return None
            raise
    reference = None if king is None else [king[answer.entry.task.label].beside(answer) for answer in answers]
    with start() as second:
        audited = audit(exam, answers, second, key=secret, rules=examination.rules, reference=reference)
    return None if shared and audited.exceedances else (answers, audited)


def _unshared(start: Start) -> Start:
    """Return what starts the same model for whole rows only."""

    @contextmanager
    def plain() -> Iterator[Examinee]:
        with start() as examinee:
            yield replace(examinee, shared=None)

    return plain


def _shared(channel: WorkerChannel) -> SharedClaim:
    """Return claims on suffixes of one prefix in one request."""

    def claims(prefix: Tokens, suffixes: list[Tokens]) -> list[Floats]:
        rows = np.zeros((len(suffixes), max(suffix.size for suffix in suffixes)), np.int32)
        for row, suffix in zip(rows, suffixes, strict=True):
            row[: suffix.size] = suffix
        found = channel.extend(prefix, rows)
        return [found[:, number, : suffix.size] for number, suffix in enumerate(suffixes)]

    return claims


def _graded(name: str, results: Sequence[TaskResult]) -> Graded:
    return Graded(
        name=name,
        correct=np.concatenate([result.correct for result in results]),
        gold_nats=np.concatenate([result.gold_nats for result in results]),
        gold_bytes=np.concatenate([result.gold_bytes for result in results]),
    )
