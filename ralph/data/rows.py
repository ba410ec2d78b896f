"""What a row of one source is: a window of its packed stream, or documents packed behind BOS.

Both kinds take the stages of a run into account, so that no stage repeats what an earlier one served within a pass.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ralph.data.layout import Index, Tokens
from ralph.data.packing import Packer, Piece
from ralph.protocol.canonical import digest

Rows = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What one source gives in one stage."""

    rows: int
    """All of them; of the last stage nobody knows, and nobody asks."""
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """Random permutations for the passes over one source: ranks of a Philox stream whose key is (seed, source and pass)."""

    tag: str
    source: str
    seed: int

    def permutation(self, number: int, size: int) -> npt.NDArray[np.int64]:
        """Return the order of ``size`` things in a pass."""
        word = int.from_bytes(digest(self.tag, {"source": self.source, "pass": number})[:8], "little")
        random = np.random.Philox(key=np.array([self.seed, word], np.uint64)).random_raw(size)
        return np.argsort(random, kind="stable")


class SourceRows(Protocol):
    """The rows of one source."""

    size: int
    """Rows of the last stage's length in a pass, roughly; 0 when there is not one."""

    def write(self, rows: Rows, stage: int, first: int) -> None:
        """Write the rows that the source gives in a stage from the ``first``-th on: int32[R, T+1], filled with BOS before."""
        ...

    def passes(self, stage: int, rows: int) -> float:
        """Return the passes made with all earlier stages and ``rows`` rows of this one."""
        ...


class Windows:
    """Windows of T+1 tokens with stride T; a row of a shorter stage is a part of one."""

    def __init__(self, shuffle: Shuffle, shards: Sequence[Tokens], spans: Sequence[Span]) -> None:
        self._shuffle, self._shards, self._spans = shuffle, shards, spans
        self._stride = spans[-1].sequence
        self._ends = np.cumsum([max(0, (shard.size - 1) // self._stride) for shard in shards], dtype=np.int64)
        self._begins = np.concatenate([np.zeros(1, np.int64), self._ends])
        self.size = int(self._begins[-1])
        self._parts = [self._stride // span.sequence for span in spans]
        touched = [-(-span.rows // parts) for span, parts in zip(spans[:-1], self._parts, strict=False)]
        self._first = [0, *accumulate(touched)]
        self._pass, self._order = -1, np.zeros(0, np.int64)

    def write(self, rows: Rows, stage: int, first: int) -> None:
        """Write windows, or the parts of them that are due."""
        windows, parts = np.divmod(np.arange(first, first + len(rows)), self._parts[stage])
        numbers, places = np.divmod(self._first[stage] + windows, self.size)
        for number in range(int(numbers[0]), int(numbers[-1]) + 1):
            due = numbers == number
            windows[due] = self._permutation(number)[places[due]]
        shards = np.searchsorted(self._ends, windows, side="right")
        starts = (windows - self._begins[shards]) * self._stride + parts * self._spans[stage].sequence
        within = np.arange(rows.shape[1])
        for shard in np.unique(shards).tolist():
            here = shards == shard
            rows[here] = self._shards[shard][starts[here, None] + within]

    def passes(self, stage: int, rows: int) -> float:
        """Return passes over the windows."""
        return (self._first[stage] + rows / self._parts[stage]) / self.size

    def _permutation(self, number: int) -> npt.NDArray[np.int64]:
        """Return the order of the windows in a pass."""
        if number != self._pass:
            self._order, self._pass = self._shuffle.permutation(number, self.size), number
        return self._order


class Packed:
    """Documents and pieces of documents, best fit, every piece behind BOS."""

    def __init__(self, shuffle: Shuffle, shards: Sequence[Tokens], indices: Sequence[Index], spans: Sequence[Span]) -> None:
        self._shuffle, self._shards, self._spans = shuffle, shards, spans
        self._ends = list(accumulate(index.size for index in indices))
        self._offsets = [index["offset"] for index in indices]
        self._lengths = np.concatenate([np.zeros(0, np.uint32), *(index["tokens"] for index in indices)])
        self._tokens = int(self._lengths.sum(dtype=np.int64))
        self.size = (self._tokens + int(np.count_nonzero(self._lengths))) // (spans[-1].sequence + 1)
        self._first = [0, *accumulate(span.rows for span in spans[:-1])]
        self._packer, self._made = self._begin() if self.size else None, 0

    def write(self, rows: Rows, stage: int, first: int) -> None:
        """Write the pieces of rows. Rows out of order are reached on lengths alone, from the beginning when they lie behind."""
        wanted = self._first[stage] + first
        if self._packer is None or wanted < self._made:
            self._packer, self._made = self._begin(), 0
        for number in range(self._made, wanted):
            self._packer.row(self._width(number))
        self._made = wanted + len(rows)
        for row in rows:
            place = 0
            for piece in self._packer.row(row.size):
                row[place + 1 : place + 1 + piece.tokens] = self._read(piece)
                place += 1 + piece.tokens

    def passes(self, stage: int, rows: int) -> float:
        """Return the document tokens that were given out, in those of all documents. Replays the packing."""
        packer = self._begin()
        made = range(self._first[stage] + rows)
        return sum(piece.tokens for number in made for piece in packer.row(self._width(number))) / self._tokens

    def _begin(self) -> Packer:
        return Packer(self._lengths, lambda number: self._shuffle.permutation(number, self._lengths.size))

    def _width(self, row: int) -> int:
        """Return T+1 of the ``row``-th row, counted over all stages."""
        return self._spans[bisect_right(self._first, row) - 1].sequence + 1

    def _read(self, piece: Piece) -> Tokens:
        shard = bisect_right(self._ends, piece.document)
        start = int(self._offsets[shard][piece.document - (self._ends[shard - 1] if shard else 0)]) + piece.start
        return self._shards[shard][start : start + piece.tokens]
