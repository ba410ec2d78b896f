"""What answers are worth: right or wrong per item, accuracy per task, centred by what a guess is worth, and their mean.

An option's score is its mean loss per scored token and the lowest wins; of several lowest ones the first counts, and none where the exam
asks for a margin that the lowest does not have. A language-modelling item is right when every token of its answer is the largest logit.
``CORE`` is the mean over tasks of

    (accuracy - chance) / (1 - chance)

in both tables of chance levels. Over fewer than the 22 tasks, or over some of the items, it is another number, and its name says so.

Not promised: that the answers were honest. ``audit`` says that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ralph.errors import ConfigurationError
from ralph.evaluate.cells import Floats, Integers
from ralph.evaluate.core22.exam import Answers
from ralph.evaluate.core22.manifest import TaskEntry
from ralph.evaluate.core22.tasks import TASKS, Table
from ralph.evaluate.estimator import bits_per_byte


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskResult:
    """One task, item by item in the order of the manifest.

    Args:
        entry: The task and the ids of its n items.
        correct: bool[n].
        gold_nats: float64[n], sum of the losses of the right option's scored tokens.
        gold_bytes: int64[n], their UTF-8 bytes.
        margins: float64[n], mean loss of the best wrong option less that of the right one, in nats per token: above 0 where the item is
            right. None where there is no wrong option.
    """

    entry: TaskEntry
    correct: NDArray[np.bool_] = field(repr=False)
    gold_nats: Floats = field(repr=False)
    gold_bytes: Integers = field(repr=False)
    margins: Floats | None = field(repr=False)

    @property
    def accuracy(self) -> float:
        """Return the share of right items."""
        return float(self.correct.mean())

    @property
    def gold_bpb(self) -> float:
        """Return the bits per byte of the right answers."""
        return bits_per_byte(float(self.gold_nats.sum()), int(self.gold_bytes.sum()))

    def centred(self, table: Table) -> float:
        """Return the accuracy above chance as a share of what there is above chance."""
        chance = self.entry.task.chance.of(table)
        return (self.accuracy - chance) / (1.0 - chance)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """An exam.

    Args:
        tasks: The tasks that were asked, in the order of the manifest.
        absent: Labels of those that were not.
    """

    tasks: tuple[TaskResult, ...]
    absent: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return what the mean may be called: CORE-22 for all items of all 22 tasks and nothing else."""
        partial = [task for task in self.tasks if len(task.entry.items) < task.entry.pool]
        if not self.absent and not partial:
            return "CORE-22"
        name = f"CORE over {len(self.tasks)} of {len(TASKS)} tasks"
        return f"{name}, at most {max(len(task.entry.items) for task in partial)} items of {len(partial)} of them" if partial else name

    def core(self, table: Table) -> float:
        """Return the mean centred accuracy of the tasks that were asked; see ``name``."""
        return math.fsum(task.centred(table) for task in self.tasks) / len(self.tasks)

    @property
    def gold_bpb(self) -> float:
        """Return the mean over tasks of the bits per byte of right answers."""
        return math.fsum(task.gold_bpb for task in self.tasks) / len(self.tasks)


def grade(answers: Sequence[Answers], *, absent: tuple[str, ...]) -> Result:
    """Turn the answers to an exam into its result.

    Args:
        answers: One per task, from ``sit``.
        absent: Labels of the tasks that the exam does not hold, from its manifest.
    """
    if not answers or len(answers) + len(absent) != len(TASKS):
        raise ConfigurationError(f"answers to {len(answers)} tasks, {len(absent)} absent, of {len(TASKS)}")
    return Result(tasks=tuple(grade_task(answer) for answer in answers), absent=absent)


def right(answers: Answers) -> NDArray[np.bool_]:
    """Return whether each item is right, bool[n]."""
    if answers.hits is not None:
        hit: NDArray[np.bool_] = np.logical_and.reduceat(answers.hits, answers.cells.offsets[:-1])
        return hit
    return _compare(_sums(answers) / answers.cells.lengths, answers)[0]


def grade_task(answers: Answers) -> TaskResult:
    """Turn the answers to one task into its result."""
    sums = _sums(answers)
    compared = None if answers.hits is not None else _compare(sums / answers.cells.lengths, answers)
    return TaskResult(
        entry=answers.entry,
        correct=right(answers) if compared is None else compared[0],
        gold_nats=sums[answers.gold],
        gold_bytes=answers.gold_bytes,
        margins=None if compared is None else compared[1],
    )


def _sums(answers: Answers) -> Floats:
    """Return the loss of each option, float64[O]."""
    sums: Floats = np.add.reduceat(answers.losses, answers.cells.offsets[:-1])
    return sums


def _compare(means: Floats, answers: Answers) -> tuple[NDArray[np.bool_], Floats]:
    """Return whether the right option is the first of the lowest, or ahead by the margin, and by how much the best wrong one is worse."""
    first = answers.options[:-1]
    lowest = np.minimum.reduceat(means, first)
    item = answers.owner()
    tied = np.flatnonzero(means == lowest[item])
    winner = tied[np.searchsorted(item[tied], np.arange(first.size))]
    wrong = means.copy()
    wrong[answers.gold] = np.inf
    margins: Floats = np.minimum.reduceat(wrong, first) - means[answers.gold]
    return (margins > answers.margin_nats if answers.margin_nats > 0 else winner == answers.gold), margins
