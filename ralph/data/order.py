"""The order of training: batch(step) is a pure function of the data, the seed, the stages, the mixture and the packing.

Rows are dealt to the sources by the largest deficit: row r of a stage goes to the source whose share of r + 1 rows is furthest
ahead of what it got. Weights are rounded to thousandths, so the deal repeats every thousand rows and any step costs the same.

What a source's rows are is the choice of ``packing``:

- ``stream``: the source is one packed stream, cut into windows of T+1 tokens with stride T, so every token is predicted once in a
  pass. A remainder of less than a window at a shard's end is never served. Any step costs the same.
- ``best_fit``: every row begins with BOS and is filled with documents and pieces of documents (``ralph.data.packing``). Steps in
  sequence cost the same; any other step replays the packing, on lengths alone.

Windows, or documents, come in a random permutation for every pass: ranks of a Philox stream whose key is (seed, source and pass).
Only raw generator output and a stable sort are used, because numpy promises both to stay the same between releases.

A stage goes on where the one before it stopped and repeats nothing. With ``stream`` a shorter row is a part of a window of the
last stage: parts follow one another, and a stage begins with a window that no earlier stage has touched. With ``best_fit`` the
pool of pending pieces is handed on, and only the length of a row changes. The deal begins anew with every stage.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from ralph.data.dataset import DataSet
from ralph.data.layout import CODE
from ralph.data.rows import Packed, Shuffle, SourceRows, Span, Windows
from ralph.data.stages import Stage, place_of
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.protocol.canonical import MAX_INTEGER
from ralph.protocol.data import BOS

Packing = Literal["stream", "best_fit"]
PACKINGS: tuple[Packing, ...] = ("stream", "best_fit")

WINDOWS_TAG = "recipe-net/training-order/v1"
DOCUMENTS_TAG = "recipe-net/training-order/documents/v1"
PERIOD = 1000
"""Rows after which the deal repeats: the resolution of mixture weights."""
TOGETHER_TOKENS = 1 << 17
"""Steps are made together up to this many tokens: larger ones gain nothing by it and would only need memory."""
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
    """Passes over the source: over its windows (``stream``), or over the tokens of its documents (``best_fit``)."""


class TrainingOrder:
    """Batches of a run.

    Args:
        dataset: Verified training data.
        seed: Any integer in [0, 2**64).
        stages: Rows and tokens of the steps; the last one goes on as long as it is asked. Every T divides the last one's.
        mixture: Source -> weight, from the recipe; sources that are not named get nothing.
        packing: What a row is.

    Raises:
        UntrustedInputError: RUN-BUDGET, a mixture that is no set of weights over the sources.
        ConfigurationError: OPS-DATA, a source with less than one row.
    """

    def __init__(
        self, dataset: DataSet, *, seed: int, stages: Sequence[Stage], mixture: Mapping[str, float], packing: Packing = "stream"
    ) -> None:
        if not 0 <= seed <= MAX_INTEGER or not stages or not all(_serves(stage, stages[-1]) for stage in stages):
            raise ValueError(f"seed {seed}, stages {stages}")
        self.stages = tuple(stages)
        weights = {name: weight for name, weight in thousandths(mixture, tuple(dataset.streams)).items() if weight}
        self._names, self._weights = tuple(weights), tuple(weights.values())
        dealt = deal(list(self._weights))
        before = np.zeros((PERIOD, len(weights)), np.int64)
        np.add.at(before[1:], (np.arange(PERIOD - 1), dealt[:-1]), 1)
        self._before: list[list[int]] = before.cumsum(axis=0).tolist()
        self._dealt = dealt
        self._sources = [self._source(dataset, name, number, seed, packing) for number, name in enumerate(weights)]

    def batch(self, step: int) -> npt.NDArray[np.int32]:
        """Return the tokens of step 0, 1, 2, ...: int32[B, T+1], by the stage of the step."""
        return next(self.batches(step, 1))

    def batches(self, step: int, count: int) -> Iterator[npt.NDArray[np.int32]]:
        """Yield ``count`` batches from ``step`` on. Small steps of one stage are made together, which costs little more than one alone."""
        if step < 0:
            raise ValueError(f"step {step}")
        while count > 0:
            number, within = place_of(self.stages, step)
            stage, last = self.stages[number], number == len(self.stages) - 1
            together = min(count, max(1, TOGETHER_TOKENS // stage.step_tokens))
            together = together if last else min(together, stage.steps - within)
            yield from self._block(number, within, together)
            step, count = step + together, count - together

    def _block(self, number: int, within: int, steps: int) -> npt.NDArray[np.int32]:
        """Return steps of one stage: int32[S, B, T+1]."""
        stage = self.stages[number]
        first, count = within * stage.batch_rows, steps * stage.batch_rows
        dealt = self._dealt[np.arange(first, first + count) % PERIOD]
        tokens = np.full((count, stage.sequence + 1), BOS, np.int32)
        for source, rows in enumerate(self._sources):
            here = np.flatnonzero(dealt == source)
            if here.size:
                given = tokens[here]
                rows.write(given, number, self._rows(source, first))
                tokens[here] = given
        return tokens.reshape(steps, stage.batch_rows, -1)

    def served(self, steps: int) -> tuple[Served, ...]:
        """Return what each source gives in the first ``steps`` steps."""
        number, within = place_of(self.stages, steps)
        made = [*(stage.steps for stage in self.stages[:number]), within]
        return tuple(
            self._served(source, [self._rows(source, count * stage.batch_rows) for count, stage in zip(made, self.stages, strict=False)])
            for source in range(len(self._names))
        )

    def _served(self, source: int, rows: list[int]) -> Served:
        tokens = sum(count * stage.sequence for count, stage in zip(rows, self.stages, strict=False))
        passes = self._sources[source].passes(len(rows) - 1, rows[-1])
        return Served(source=self._names[source], rows=sum(rows), tokens=tokens, passes=passes)

    def _rows(self, source: int, dealt: int) -> int:
        """Return how many of the first ``dealt`` rows of a stage go to a source."""
        turn, place = divmod(dealt, PERIOD)
        return turn * self._weights[source] + self._before[place][source]

    def _source(self, dataset: DataSet, name: str, number: int, seed: int, packing: Packing) -> SourceRows:
        spans = [Span(rows=self._rows(number, stage.steps * stage.batch_rows), sequence=stage.sequence) for stage in self.stages]
        if packing == "stream":
            source: SourceRows = Windows(Shuffle(tag=WINDOWS_TAG, source=name, seed=seed), dataset.streams[name], spans)
        else:
            shuffle = Shuffle(tag=DOCUMENTS_TAG, source=name, seed=seed)
            source = Packed(shuffle, dataset.streams[name], dataset.indices[name], spans)
        if source.size == 0:
            detail = f"source {name} has less than one row of {spans[-1].sequence + 1} tokens"
            raise ConfigurationError(f"{dataset.directory}: {detail}; prepare more data", code=CODE)
        return source


def _serves(stage: Stage, last: Stage) -> bool:
    return stage.batch_rows >= 1 and stage.sequence >= 1 and stage.steps >= 0 and last.sequence % stage.sequence == 0


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
