"""The tokens of a question and which of them are scored.

A row is BOS and the tokens of one option's whole text. The scored span always ends with the row and begins

    multiple choice     where the options' rows stop being the same,
    schema              where their common end begins, counted from the right,
    language modelling  behind the tokens of the question alone.

Three rules make every span at least one token long, where the widely used code divides by zero or stops:

- An option that is the beginning of another, or equal to it, is scored on its last token, and so the span of all options of this item
  begins there. Rows that share no end are scored on their last token.
- Where the question alone is no token prefix of question and answer, because a token reaches across the border, the span begins at
  the first token that differs; it then holds a few bytes of the question, and its bytes are counted as what they are.
- A row of more than T + 1 tokens keeps its last T + 1: BOS and the oldest examples go first. The first token of a row is never scored,
  so of an answer longer than T tokens only the last T count.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from ralph.data.tokenizer import Tokenizer
from ralph.evaluate.cells import Tokens
from ralph.evaluate.core22.items import Item
from ralph.evaluate.core22.prompts import Prompt, prompt
from ralph.evaluate.core22.tasks import Task, TaskType
from ralph.protocol.data import BOS

_BORDER = re.compile(r".*\S(?=[ \n])", re.DOTALL)
"""Up to the last blank behind something else. Every token ends there anyway, as ``ralph.data.bpe.pieces_of`` knows too."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Option:
    """One row.

    Args:
        tokens: int32[L], 2 <= L <= T + 1.
        start: The first scored token, 1 <= start < L; all from there to the end are scored.
        cropped: Whether tokens were lost on the left.
    """

    tokens: Tokens
    start: int
    cropped: bool

    @property
    def scored(self) -> int:
        """Return the number of scored tokens."""
        return self.tokens.size - self.start


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """The rows of one item, in the order of its options, and which is right."""

    options: tuple[Option, ...]
    gold: int


def ask(task: Task, items: Sequence[Item], index: int, *, tokenizer: Tokenizer, sequence: int) -> Question:
    """Return the rows of item ``index``, of at most ``sequence`` + 1 tokens each."""
    written = prompt(task, items, index)
    rows = _rows(written.texts, tokenizer)
    starts = _starts(task.type, rows, written, tokenizer)
    options = tuple(_crop(row, start, sequence + 1) for row, start in zip(rows, starts, strict=True))
    return Question(options=options, gold=written.gold)


def common_prefix(rows: Sequence[NDArray[np.integer]]) -> int:
    """Return how many leading tokens all rows share."""
    shortest = min(row.size for row in rows)
    same = np.ones(shortest, np.bool_)
    for row in rows[1:]:
        same &= row[:shortest] == rows[0][:shortest]
    return shortest if same.all() else int(np.argmin(same))


def _rows(texts: Sequence[str], tokenizer: Tokenizer) -> list[Tokens]:
    """Return BOS and the tokens of each text; what the texts begin with in common is tokenised once, up to a border of tokens."""
    found = _BORDER.match(os.path.commonprefix(texts))  # noqa: RUF071 - it is characters that are compared
    border = found.end() if found else 0
    head = tokenizer.encode(texts[0][:border]) if border else np.zeros(0, np.uint16)
    tails = [tokenizer.encode(text[border:]) for text in texts]
    return [np.concatenate([[BOS], head, tail]).astype(np.int32) for tail in tails]


def _starts(kind: TaskType, rows: list[Tokens], written: Prompt, tokenizer: Tokenizer) -> list[int]:
    match kind:
        case TaskType.MULTIPLE_CHOICE:
            return [min(common_prefix(rows), min(row.size for row in rows) - 1)] * len(rows)
        case TaskType.SCHEMA:
            shared = min(common_prefix([row[::-1] for row in rows]), min(row.size for row in rows) - 1)
            return [row.size - max(shared, 1) for row in rows]
        case TaskType.LANGUAGE_MODELING:
            (question,) = _rows([written.question or ""], tokenizer)
            return [min(common_prefix([question, rows[0]]), rows[0].size - 1)]
        case _:
            assert_never(kind)


def _crop(row: Tokens, start: int, width: int) -> Option:
    lost = max(0, row.size - width)
    return Option(tokens=row[lost:], start=max(start - lost, 1), cropped=lost > 0)
