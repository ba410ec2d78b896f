"""The scored cells of an evaluation: one cell per (row, position), numbered row by row.

A cell's loss is that of ``tokens[row, position + 1]`` given ``tokens[row, : position + 1]``. Padding behind
a document's end is in no cell. Every other module of this package speaks of cells by their number.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Tokens = NDArray[np.int32]

MAX_LOSS_NATS = 1e6
"""A larger loss of one token, claimed or true, counts as one that is not finite: sums and squares must not overflow."""


PIECE_CELLS = 1 << 16
"""Cells that are looked at together when all are read: memory does not grow with their number."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Numbering of the scored cells.

    Args:
        lengths: Scored tokens per row, int64[N].
        offsets: Number of the first cell of each row, int64[N + 1]; the last entry is the count.
    """

    lengths: Integers
    offsets: Integers

    @classmethod
    def of(cls, lengths: NDArray[np.integer]) -> "Cells":
        """Number the cells of rows with these many scored tokens."""
        wide = np.asarray(lengths, dtype=np.int64)
        return cls(lengths=wide, offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(wide)]))

    @property
    def count(self) -> int:
        """Return the number of scored cells."""
        return int(self.offsets[-1])

    def row(self, cells: Integers) -> Integers:
        """Return the row of each cell."""
        found: Integers = np.searchsorted(self.offsets, cells, side="right").astype(np.int64) - 1
        return found

    def position(self, cells: Integers) -> Integers:
        """Return the position of each cell in its row: the index of the last token of its prefix."""
        found: Integers = cells - self.offsets[self.row(cells)]
        return found

    def sums(self, values: Floats, *, piece: int = PIECE_CELLS) -> Floats:
        """Return the sum of each row's values, float64[N], of ``values`` float64[C], added in the order of the cells."""
        summed = np.zeros(self.lengths.size)
        for first, last in self._pieces(piece):
            rows = np.repeat(np.arange(last - first), self.lengths[first:last])
            part = values[self.offsets[first] : self.offsets[last]]
            summed[first:last] = np.bincount(rows, weights=part, minlength=last - first)
        return summed

    def _pieces(self, most: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of whole rows of at most ``most`` cells, or of one row."""
        first = 0
        while first < self.lengths.size:
            last = int(np.searchsorted(self.offsets, self.offsets[first] + most, side="right")) - 1
            last = max(last, first + 1)
            yield first, last
            first = last

    def mask(self, sequence: int) -> NDArray[np.bool_]:
        """Return bool[N, sequence], true where a cell is."""
        inside: NDArray[np.bool_] = np.arange(sequence)[None, :] < self.lengths[:, None]
        return inside

    def flatten(self, grid: Floats) -> Floats:
        """Return the values of ``grid`` (float64[N, T]) at the cells, in order of their numbers."""
        values: Floats = grid[self.mask(grid.shape[1])]
        return values
