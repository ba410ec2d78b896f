"""A run in stages: how many steps each has, and how many rows of how many tokens a step of it serves.

Nouns and their arithmetic, nothing else. Which stages a run has is the plan's business, which tokens they get is the order's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Steps in a row that serve the same number of rows of the same length."""

    steps: int
    batch_rows: int
    sequence: int
    """T of this stage: predicted tokens of a row."""

    @property
    def step_tokens(self) -> int:
        """Return the predicted tokens of a step."""
        return self.batch_rows * self.sequence


def place_of(stages: Sequence[Stage], step: int) -> tuple[int, int]:
    """Return the stage in which the step after ``step`` steps is made, and how many steps of that stage come before it.

    The last stage has no end here: what is asked for past it is a further step of it.
    """
    ends = list(accumulate(stage.steps for stage in stages[:-1]))
    number = sum(end <= step for end in ends)
    return number, step - (ends[number - 1] if number else 0)


def tokens_after(stages: Sequence[Stage], step: int) -> int:
    """Return the predicted tokens of the first ``step`` steps."""
    number, within = place_of(stages, step)
    return sum(stage.steps * stage.step_tokens for stage in stages[:number]) + within * stages[number].step_tokens
