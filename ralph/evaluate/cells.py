"""The scored cells of an evaluation: one cell per (row, position), numbered row by row.

A cell's loss is that of ``tokens[row, position + 1]`` given ``tokens[row, : position + 1]``. Padding behind
a document's end is in no cell. Every other module of this package speaks of cells by their number.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Tokens = NDArray[np.int32]

MAX_LOSS_NATS = 1e6
"""A larger loss of one token, claimed or true, counts as one that is not finite: sums and squares must not overflow."""


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

    def mask(self, sequence: int) -> NDArray[np.bool_]:
        """Return bool[N, sequence], true where a cell is."""
        inside: NDArray[np.bool_] = np.arange(sequence)[None, :] < self.lengths[:, None]
        return inside

    def flatten(self, grid: Floats) -> Floats:
        """Return the values of ``grid`` (float64[N, T]) at the cells, in order of their numbers."""
        values: Floats = grid[self.mask(grid.shape[1])]
        return values
