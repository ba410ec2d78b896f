"""An exam: which items of which bundle are asked in rows of which shape, and the frozen answers to one of its tasks.

Answers that are audited are right only where they are ahead by more than the audit can see. A model that gives all options the same
loss, or all tokens the same logit, could otherwise name the right one by a lie of a millionth of a nat, as often as it likes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ralph.data.dataset import Rows
from ralph.data.tokenizer import Tokenizer
from ralph.errors import ConfigurationError
from ralph.evaluate.cells import Cells, Floats, Integers, Tokens
from ralph.evaluate.core22.examinee import Examinee
from ralph.evaluate.core22.items import Item
from ralph.evaluate.core22.manifest import ItemSource, Manifest, TaskEntry
from ralph.evaluate.core22.questions import Option, Question, ask
from ralph.evaluate.draw import claims_digest
from ralph.protocol.canonical import digest

LEAST_PREFIX = 16
ANSWERS_TAG = "recipe-net/core22/answers/v1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exam:
    """What is asked, and how rows are made.

    Args:
        bundle: The data.
        manifest: The items.
        tokenizer: The track's.
        sequence: T.
        batch_rows: Rows of every batch.
        filler: int32[T+1], unrelated public text that stands behind the end of a row.
        margin_nats: By how much an answer must be ahead of all others to be right, ``AuditRules.margin_nats`` where it is audited;
            0 for the public benchmark's own rule, by which of equal answers the first counts.
    """

    bundle: ItemSource
    manifest: Manifest
    tokenizer: Tokenizer
    sequence: int
    batch_rows: int
    filler: Tokens = field(repr=False)
    margin_nats: float = 0.0

    def __post_init__(self) -> None:
        if self.filler.shape != (self.sequence + 1,) or self.sequence < 1 or self.batch_rows < 1:
            raise ConfigurationError(
                f"filler of shape {self.filler.shape} for batches of {self.batch_rows} rows of {self.sequence} + 1 tokens"
            )

    @property
    def probe_multiple(self) -> int:
        """Return the tokens to a multiple of which prefixes are filled up: four lengths at most, for batches that are mostly full."""
        return max(LEAST_PREFIX, self.sequence // 4)

    def rows(self, options: Sequence[Option]) -> Rows:
        """Return options as rows of T + 1 tokens with filler behind their ends; every token but the first counts as scored."""
        tokens = np.tile(self.filler.astype(np.int32), (len(options), 1))
        for row, option in zip(tokens, options, strict=True):
            row[: option.tokens.size] = option.tokens
        lengths = np.array([option.tokens.size - 1 for option in options], np.int32)
        return Rows.of(
            tokens,
            lengths=lengths,
            byte_counts=np.zeros(len(options), np.int64),
            sources=("core22",) * len(options),
            filler=self.filler.astype(np.int32),
        )

    def admit(self, examinee: Examinee) -> None:
        """Refuse a worker that was built for another tokenizer; raises ConfigurationError."""
        if examinee.vocabulary != self.tokenizer.vocabulary:
            raise ConfigurationError(f"a worker with {examinee.vocabulary} token ids, the tokenizer has {self.tokenizer.vocabulary}")

    def ask(self, entry: TaskEntry, items: Sequence[Item], index: int) -> Question:
        """Return the rows of one item."""
        return ask(entry.task, items, index, tokenizer=self.tokenizer, sequence=self.sequence)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """The frozen answers to one task. Cells are the scored tokens of all options, numbered option by option, item by item.

    Args:
        entry: The task and its n items.
        options: int64[n + 1], number of the first option of each item; the last entry is the count.
        gold: int64[n], the number of the right option of each item, counted over all items.
        gold_bytes: int64[n], UTF-8 bytes of the scored tokens of the right option.
        cells: Numbering of the cells; its rows are the options.
        losses: float64[C], read-only.
        hits: bool[C], whether the token's logit was ahead of all others by the margin; None for claims.
        margin_nats: Of the exam.
    """

    entry: TaskEntry
    options: Integers
    gold: Integers
    gold_bytes: Integers
    cells: Cells
    losses: Floats = field(repr=False)
    hits: NDArray[np.bool_] | None = field(repr=False)
    margin_nats: float = 0.0

    def owner(self) -> Integers:
        """Return the item of each option, int64[O]."""
        return np.repeat(np.arange(self.gold.size), np.diff(self.options))

    def digest(self) -> bytes:
        """Return the digest of what was answered, to which every later draw is bound."""
        hits = None if self.hits is None else self.hits.tobytes()
        return digest(ANSWERS_TAG, {"task": self.entry.task.label, "losses": claims_digest(self.losses), "hits": hits})
