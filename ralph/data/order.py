"""The order of training: batch(step) is a pure function of the data, the seed and the mixture.

Each source is one packed stream, cut into windows of T+1 tokens with stride T, so every token is predicted
once in a pass. A pass visits the windows in a random permutation of its own: ranks of a Philox stream whose
key is (seed, source and pass). Only raw generator output and a stable sort are used, because numpy promises
both to stay the same between releases. Rows are dealt to the sources by the largest deficit: row r goes to
the source whose share of r + 1 rows is furthest ahead of what it got. Weights are rounded to thousandths, so
the deal repeats every thousand rows and any step costs the same.

A remainder of less than a window at a shard's end is never served.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ralph.data.dataset import DataSet
from ralph.data.layout import CODE, Tokens
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.protocol.canonical import MAX_INTEGER, digest

ORDER_TAG = "recipe-net/training-order/v1"
PERIOD = 1000
"""Rows after which the deal repeats: the resolution of mixture weights."""
MAX_WEIGHT = 1_000_000
"""Weights are relative; larger ones are mistakes or mischief."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a source has given up to some step."""

    source: str
    rows: int
    tokens: int
    """Predicted tokens: rows x T."""
    passes: float
    """Passes over the source's windows."""


class TrainingOrder:
    """Batches of a run.

    Args:
        dataset: Verified training data.
        seed: Any integer in [0, 2**64).
        batch_rows: B.
        sequence: T.
        mixture: Source -> weight, from the recipe; sources that are not named get nothing.

    Raises:
        UntrustedInputError: RUN-BUDGET, a mixture that is no set of weights over the sources.
        ConfigurationError: OPS-DATA, a source with less than one window.
    """

    def __init__(self, dataset: DataSet, *, seed: int, batch_rows: int, sequence: int, mixture: Mapping[str, float]) -> None:
        if not 0 <= seed <= MAX_INTEGER or batch_rows < 1 or sequence < 1:
            raise ValueError(f"seed {seed}, {batch_rows} rows of {sequence} tokens")
        self.batch_rows = batch_rows
        self.sequence = sequence
        weights = thousandths(mixture, tuple(dataset.streams))
        self._sources = [
            _SourceOrder(name, dataset.streams[name], seed=seed, sequence=sequence, weight=weight)
            for name, weight in weights.items()
            if weight
        ]
        for source in self._sources:
            if source.windows == 0:
                detail = f"{dataset.directory}: source {source.name} has less than one window of {sequence + 1} tokens; prepare more data"
                raise ConfigurationError(detail, code=CODE)
        self._deal = deal([source.weight for source in self._sources])
        before = np.zeros((PERIOD, len(self._sources)), np.int64)
        np.add.at(before[1:], (np.arange(PERIOD - 1), self._deal[:-1]), 1)
        self._before = before.cumsum(axis=0).tolist()
        self._dealt = self._deal.tolist()

    def batch(self, step: int) -> npt.NDArray[np.int32]:
        """Return the tokens of step 0, 1, 2, ...: int32[B, T+1]."""
        if step < 0:
            raise ValueError(f"step {step}")
        tokens = np.empty((self.batch_rows, self.sequence + 1), np.int32)
        first = step * self.batch_rows
        for row in range(self.batch_rows):
            turn, place = divmod(first + row, PERIOD)
            number = self._dealt[place]
            source = self._sources[number]
            tokens[row] = source.window(turn * source.weight + self._before[place][number])
        return tokens

    def served(self, steps: int) -> tuple[Served, ...]:
        """Return what each source gives in the first ``steps`` steps."""
        turn, place = divmod(steps * self.batch_rows, PERIOD)
        counts = [turn * source.weight + self._before[place][number] for number, source in enumerate(self._sources)]
        return tuple(
            Served(source=source.name, rows=rows, tokens=rows * self.sequence, passes=rows / source.windows)
            for source, rows in zip(self._sources, counts, strict=True)
        )

    def tokens_served(self, steps: int) -> int:
        """Return the predicted tokens of the first ``steps`` steps, which is what a budget counts."""
        return steps * self.batch_rows * self.sequence


class _SourceOrder:
    """The windows of one source in the order of each pass."""

    def __init__(self, name: str, shards: tuple[Tokens, ...], *, seed: int, sequence: int, weight: int) -> None:
        self.name = name
        self.weight = weight
        self._shards = shards
        self._seed = seed
        self._sequence = sequence
        self._ends = np.cumsum([max(0, (shard.size - 1) // sequence) for shard in shards], dtype=np.int64)
        self.windows = int(self._ends[-1]) if shards else 0
        self._pass = -1
        self._order: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def window(self, index: int) -> Tokens:
        """Return the ``index``-th window that is served, counted over all passes."""
        number, place = divmod(index, self.windows)
        if number != self._pass:
            self._order, self._pass = self._permutation(number), number
        window = int(self._order[place])
        if len(self._shards) == 1:
            shard = 0
        else:
            shard = int(np.searchsorted(self._ends, window, side="right"))
            window -= int(self._ends[shard - 1]) if shard else 0
        start = window * self._sequence
        return self._shards[shard][start : start + self._sequence + 1]

    def _permutation(self, number: int) -> npt.NDArray[np.int64]:
        word = int.from_bytes(digest(ORDER_TAG, {"source": self.name, "pass": number})[:8], "little")
        random = np.random.Philox(key=np.array([self._seed, word], np.uint64)).random_raw(self.windows)
        return np.argsort(random, kind="stable")


def thousandths(mixture: Mapping[str, float], names: tuple[str, ...]) -> dict[str, int]:
    """Return source -> thousandths that sum to 1000, rounded by the largest remainder.

    Raises:
        UntrustedInputError: RUN-BUDGET, an unknown source, a weight that is negative, not finite or huge, or nothing but zeros.
    """
    unknown = sorted(set(mixture) - set(names))
    if unknown:
        raise UntrustedInputError("RUN-BUDGET", f"the mixture names {unknown[0]!r}; the data has {', '.join(names)}")
    if not all(0 <= weight <= MAX_WEIGHT for weight in mixture.values()) or not any(mixture.values()):
        detail = f"mixture weights must be between 0 and {MAX_WEIGHT} and not all zero"
        raise UntrustedInputError("RUN-BUDGET", detail)
    weights = {name: Fraction(mixture.get(name, 0)) for name in sorted(names)}
    exact = {name: weight / sum(weights.values()) * PERIOD for name, weight in weights.items()}
    rounded = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (rounded[name] - exact[name], name))
    for name in by_remainder[: PERIOD - sum(rounded.values())]:
        rounded[name] += 1
    return rounded


def deal(weights: list[int]) -> npt.NDArray[np.int64]:
    """Return which source each of ``PERIOD`` rows is dealt to: always the largest deficit, the first on a tie."""
    deficits = [0] * len(weights)
    rows = np.empty(PERIOD, np.int64)
    for row in range(PERIOD):
        deficits = [deficit + weight for deficit, weight in zip(deficits, weights, strict=True)]
        source = deficits.index(max(deficits))
        deficits[source] -= PERIOD
        rows[row] = source
    return rows
