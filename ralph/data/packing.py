"""Best-fit packing: which stretch of which document stands where in rows that all begin with BOS.

Knows lengths only, no tokens. Documents arrive in the order of a permutation, pass after pass without end. A pool of pending
pieces is kept full from them; a piece is a document, or what is left of one, and takes one place more than it has tokens, for
its BOS. A row is filled with the longest piece that fits into what is left of it, again and again; where none fits, the longest
piece of all is cropped to fill the row, and its rest stays in the pool. So no token is dropped or repeated, and none is padding.

Decisions:
- One place left over holds a BOS with nothing behind it. It is never an input, only the last target of its row, and a true one:
  such a row's last document has just ended, because a crop leaves no place. The packed stream says the same at the same place.
- Of equally long pieces the one whose document arrived first goes first.
- The pool never holds more pieces than a pass has documents, so that a small source is not served from many passes at once.
- An empty document has nothing to serve and is passed over.

Not promised: that a piece is served within its pass. Pieces of a length that is never wanted wait, at most ``POOL`` of them.

The idea is best-fit packing (Ding et al. 2024, "Fewer Truncations Improve Language Modeling") done online over a bounded pool.
"""

from bisect import bisect_right, insort
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
BLOCK = 4096
"""Documents that become Python objects at once."""


class Piece(NamedTuple):
    """Consecutive tokens of a document, which stand in a row behind a BOS of their own."""

    document: int
    start: int
    tokens: int


class _Pending(NamedTuple):
    """What waits, in the order of a sorted pool: shorter ones first, of equal ones the youngest first."""

    tokens: int
    age: int
    """Minus the number of documents that arrived before: larger is older."""
    document: int
    start: int


class Packer:
    """Rows of one source, one after the other.

    Args:
        lengths: Tokens of every document, without BOS; one of them at least has some.
        permutation: The order of the documents in each pass.
    """

    def __init__(self, lengths: Lengths, permutation: Permutation) -> None:
        if not lengths.any():
            raise ValueError("there is no token to pack")
        self._size = min(POOL, int(np.count_nonzero(lengths)))
        self._arriving = _documents(lengths, permutation)
        self._arrived = 0
        self._pool: list[_Pending] = []

    def row(self, width: int) -> list[Piece]:
        """Return the pieces of the next row of ``width`` places, at least two."""
        pool, pieces, space = self._pool, list[Piece](), width
        while space > 1:
            while len(pool) < self._size:
                document, tokens = next(self._arriving)
                insort(pool, _Pending(tokens, -self._arrived, document, 0))
                self._arrived += 1
            place = bisect_right(pool, _Pending(space - 1, 1, 0, 0))
            tokens, age, document, start = pool.pop(place - 1)  # before the first comes the last, the longest of all
            if place == 0:
                insort(pool, _Pending(tokens - (space - 1), age, document, start + space - 1))
                tokens = space - 1
            pieces.append(Piece(document, start, tokens))
            space -= tokens + 1
        return pieces


def _documents(lengths: Lengths, permutation: Permutation) -> Iterator[tuple[int, int]]:
    """Yield (document, its tokens) of every document that is not empty, for ever."""
    for number in count():
        order = permutation(number)
        for start in range(0, order.size, BLOCK):
            block = order[start : start + BLOCK]
            for document, tokens in zip(block.tolist(), lengths[block].tolist(), strict=True):
                if tokens:
                    yield document, tokens
