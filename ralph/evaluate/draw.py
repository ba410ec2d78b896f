"""The secret draw of the cells that are probed, and every other random choice of an evaluation.

Randomness is SHAKE-256 (FIPS 202) over a digest of key and purpose: unpredictable without the key, the same on
every machine and numpy version, so that an auditor who is given the key repeats the draw.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ralph.errors import ConfigurationError
from ralph.evaluate.cells import PIECE_CELLS, Floats, Integers
from ralph.protocol.canonical import bytes_digest, digest

KEY_BYTES = 32
DRAW_TAG = "recipe-net/evaluate/draw/v1"
CLAIMS_TAG = "recipe-net/evaluate/claims/v1"
WORDS_TAG = "recipe-net/evaluate/words/v1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """Cells drawn with replacement.

    Args:
        cells: int64[n], in order of the draw; the same cell may occur more than once.
        probability: float64[n], pi of each drawn cell: the mixture over uniform and weighted draws.
        uniform: How many of the draws are uniform; they come first.
        seed: Digest of key and frozen claims, from which the cells follow.
    """

    cells: Integers
    probability: Floats
    uniform: int
    seed: bytes = field(repr=False)


def words(key: bytes, purpose: str, count: int) -> NDArray[np.uint64]:
    """Return ``count`` uniform 64-bit words for one purpose."""
    stream = hashlib.shake_256(digest(WORDS_TAG, {"key": key, "purpose": purpose}))
    return np.frombuffer(stream.digest(8 * count), dtype="<u8").astype(np.uint64)


def permutation(key: bytes, purpose: str, count: int) -> Integers:
    """Return a random order of ``count`` things."""
    return np.argsort(words(key, purpose, count), kind="stable").astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gains:
    """What is claimed to be gained on every cell, (reference - claim)+, read in pieces.

    ``total`` and everything that is found by it come from one running sum in the order of the cells, so that neither depends on the pieces.

    Args:
        claims: float64[C] frozen claims.
        reference: float64[C] the king's losses on the same cells.
        total: Sum over all cells, above 0.
        piece: Cells that are looked at together.
    """

    claims: Floats
    reference: Floats
    total: float
    piece: int

    @classmethod
    def of(cls, claims: Floats, reference: Floats | None, *, piece: int = PIECE_CELLS) -> "Gains | None":
        """Return the gains, or None where there is no king or nothing is claimed to be better."""
        if reference is None:
            return None
        empty = cls(claims=claims, reference=reference, total=0.0, piece=piece)
        total = 0.0
        for _, running in empty._running():
            total = float(running[-1])
        return replace(empty, total=total) if total > 0 else None

    def weight(self, cells: Integers) -> Floats:
        """Return w of these cells, proportional to their gains; over all cells w sums to 1."""
        shares: Floats = _excess(self.claims[cells], self.reference[cells]) / self.total
        return shares

    def find(self, unit: Floats) -> Integers:
        """Return the cell of each number in [0, 1): the first one at which the running sum exceeds that part of the total."""
        wanted = np.minimum(unit * self.total, np.nextafter(self.total, 0.0))  # the product may be rounded up to the total
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        found, begin = np.empty_like(order), 0
        for start, running in self._running():
            end = int(np.searchsorted(ascending, running[-1], side="left"))
            found[order[begin:end]] = start + np.searchsorted(running, ascending[begin:end], side="right")
            begin = end
        return found

    def _running(self) -> Iterator[tuple[int, Floats]]:
        """Yield the first cell of each piece and the running sum of gains behind each of its cells."""
        carried = 0.0
        for start in range(0, self.claims.size, self.piece):
            excess = _excess(self.claims[start : start + self.piece], self.reference[start : start + self.piece])
            excess[0] += carried
            running = np.cumsum(excess)
            carried = float(running[-1])
            yield start, running


def _excess(claims: Floats, reference: Floats) -> Floats:
    excess: Floats = np.maximum(reference - claims, 0.0)
    return excess


def probabilities(cells: Integers, gains: Gains | None, *, count: int, uniform: int, weighted: int) -> Floats:
    """Return pi of these of ``count`` cells: (n_u/n)/C + (n_w/n) w. Without gains all draws are uniform."""
    if gains is None:
        return np.full(cells.size, 1.0 / count)
    total = uniform + weighted
    mixed: Floats = (uniform / total) / count + (weighted / total) * gains.weight(cells)
    return mixed


def claims_digest(claims: Floats) -> bytes:
    """Return the digest of the frozen claims (float64[C]), which fixes the draw for a given key."""
    return bytes_digest(CLAIMS_TAG, np.ascontiguousarray(claims, dtype="<f8").view(np.uint8).data)


def no_draw(key: bytes, claims: Floats) -> Draw:
    """Return a draw of no cells, bound to the claims as every draw is."""
    none = np.zeros(0, np.int64)
    return Draw(cells=none, probability=np.zeros(0), uniform=0, seed=_bound(key, claims))


def _bound(key: bytes, claims: Floats) -> bytes:
    return digest(DRAW_TAG, {"key": key, "claims": claims_digest(claims)})


def draw(key: bytes, claims: Floats, reference: Floats | None, *, uniform: int, weighted: int, piece: int = PIECE_CELLS) -> Draw:
    """Draw ``uniform`` cells uniformly and ``weighted`` cells in proportion to what they claim to gain.

    The stream is bound to the frozen claims, so that there is nothing to draw before they are final.

    Args:
        key: 32 secret bytes that no worker has seen.
        claims: float64[C], finite, frozen; mapped as a rule, and read from beginning to end three times.
        reference: float64[C] the king's losses, or None.
        uniform: n_u >= 2: every cell must have a chance, or the estimate would be biased.
        weighted: n_w, not 1: its spread is estimated.
        piece: Cells that are looked at together; the draw does not depend on it.
    """
    if len(key) != KEY_BYTES or uniform < 2 or weighted == 1 or claims.size < 1:
        raise ConfigurationError(f"{uniform} uniform and {weighted} weighted draws of {claims.size} cells with a key of {len(key)} bytes")
    bound = _bound(key, claims)
    unit = (words(bound, "cells", uniform + weighted) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    gains = Gains.of(claims, reference, piece=piece)
    split = uniform if gains is not None else uniform + weighted
    cells = np.minimum((unit[:split] * claims.size).astype(np.int64), claims.size - 1)
    if gains is not None:
        cells = np.concatenate([cells, gains.find(unit[split:])])
    pi = probabilities(cells, gains, count=claims.size, uniform=uniform, weighted=weighted)
    return Draw(cells=cells, probability=pi, uniform=split, seed=bound)
