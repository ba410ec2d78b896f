"""Best-fit packing: which stretch of which document stands where in rows that all begin with BOS.

Knows lengths only, no tokens. Documents arrive in the order of a permutation, pass after pass without end. A pool of pending
pieces is kept full from them; a piece is a document, or what is left of one, and takes one place more than it has tokens, for
its BOS. A row is filled with the longest piece that fits into what is left of it, again and again; where none fits, the longest
piece of all is cropped to fill the row, and its rest stays in the pool. So no token is dropped or repeated, and none is padding.

Decisions:
- One place left over holds a BOS with nothing behind it. It is never an input, only the last target of its row, and a true one:
  such a row's last document has just ended, because a crop leaves no place. The packed stream says the same at the same place.
- Of equally long pieces the one whose document arrived first goes first.
- Lengths that nobody wants would wait for ever, and fill the pool. So a row begins with the oldest piece, cropped if it must be,
  once ``PATIENCE`` times as many documents as the pool holds have arrived after it.
- The pool never holds more pieces than a quarter of a pass's documents. A pool that held all of them would be emptied in the order
  of their lengths, whatever the seed.
- An empty document has nothing to serve and is passed over.

Not promised: that a pass ends before the next one begins. What the pool holds is handed on.

The idea is best-fit packing (Ding et al. 2024, "Fewer Truncations Improve Language Modeling") done online over a bounded pool.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[np.uint32]
Permutation = Callable[[int], npt.NDArray[np.int64]]
"""Pass -> the numbers of all documents in the order of that pass."""

POOL = 256
"""Most pending pieces."""
POOL_PART = 4
"""Documents of a pass for each pending piece, at least."""
PATIENCE = 4
"""Pools of documents that may arrive after a piece before a row begins with it."""
BLOCK = 4096
"""Documents that become Python objects at once."""


class Piece(NamedTuple):
    """Consecutive tokens of a document, which stand in a row behind a BOS of their own."""

    document: int
    start: int
    tokens: int


class Packer:
    """Rows of one source, one after the other.

    Args:
        lengths: Tokens of every document, without BOS; one of them at least has some.
        permutation: The order of the documents in each pass.
    """

    def __init__(self, lengths: Lengths, permutation: Permutation) -> None:
        if not lengths.any():
            raise ValueError("there is no token to pack")
        self._size = min(POOL, max(1, int(np.count_nonzero(lengths)) // POOL_PART))
        self._arriving = _documents(lengths, permutation)
        self._arrived = 0
        self._pending: dict[int, Piece] = {}
        """Number of arrival -> what is left of the document; the oldest first."""
        self._pool: list[tuple[int, int]] = []
        """(tokens, minus the number of arrival) of all that is pending, sorted."""

    def row(self, width: int) -> list[Piece]:
        """Return the pieces of the next row of ``width`` places, at least two."""
        pieces, room = list[Piece](), width - 1
        while room > 0:
            self._fill()
            arrival = self._choose(room, begins=not pieces)
            document, start, left = self._pending[arrival]
            tokens = min(left, room)
            pieces.append(Piece(document, start, tokens))
            if tokens == left:
                del self._pending[arrival]
            else:
                self._pending[arrival] = Piece(document, start + tokens, left - tokens)
                insort(self._pool, (left - tokens, -arrival))
            room -= tokens + 1
        return pieces

    def _fill(self) -> None:
        while len(self._pool) < self._size:
            document, tokens = next(self._arriving)
            self._pending[self._arrived] = Piece(document, 0, tokens)
            insort(self._pool, (tokens, -self._arrived))
            self._arrived += 1

    def _choose(self, room: int, *, begins: bool) -> int:
        """Take a piece for ``room`` tokens out of the pool; return its number of arrival."""
        oldest = next(iter(self._pending))
        if begins and self._arrived - oldest > PATIENCE * self._size:
            place = bisect_left(self._pool, (self._pending[oldest].tokens, -oldest))
        else:
            place = bisect_right(self._pool, (room, 1)) - 1  # where none fits this is the last one, the longest
        return -self._pool.pop(place)[1]


def _documents(lengths: Lengths, permutation: Permutation) -> Iterator[tuple[int, int]]:
    """Yield (document, its tokens) of every document that is not empty, for ever."""
    for number in count():
        order = permutation(number)
        for start in range(0, order.size, BLOCK):
            block = order[start : start + BLOCK]
            for document, tokens in zip(block.tolist(), lengths[block].tolist(), strict=True):
                if tokens:
                    yield document, tokens
