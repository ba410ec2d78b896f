"""The secret draw of the cells that are probed, and every other random choice of an evaluation.

Randomness is SHAKE-256 (FIPS 202) over a digest of key and purpose: unpredictable without the key, the same on
every machine and numpy version, so that an auditor who is given the key repeats the draw.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ralph.errors import ConfigurationError
from ralph.evaluate.cells import Floats, Integers
from ralph.protocol.canonical import digest

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


def weights(claims: Floats, reference: Floats | None) -> Floats | None:
    """Return w of every cell, proportional to (reference - claim)+ and summing to 1, or None where nothing is claimed to be better.

    Args:
        claims: float64[C] frozen claims.
        reference: float64[C] the king's losses on the same cells, or None when the king himself is measured.
    """
    if reference is None:
        return None
    excess: Floats = np.maximum(reference - claims, 0.0)
    total = float(excess.sum())
    return excess / total if total > 0 else None


def probabilities(count: int, weight: Floats | None, *, uniform: int, weighted: int) -> Floats:
    """Return pi of every cell: (n_u/n)/N + (n_w/n) w. Without weights all draws are uniform."""
    if weight is None:
        return np.full(count, 1.0 / count)
    total = uniform + weighted
    mixed: Floats = (uniform / total) / count + (weighted / total) * weight
    return mixed


def claims_digest(claims: Floats) -> bytes:
    """Return the digest of the frozen claims (float64[C]), which fixes the draw for a given key."""
    return digest(CLAIMS_TAG, np.ascontiguousarray(claims, dtype="<f8").tobytes())


def draw(key: bytes, claims: Floats, reference: Floats | None, *, uniform: int, weighted: int) -> Draw:
    """Draw ``uniform`` cells uniformly and ``weighted`` cells in proportion to what they claim to gain.

    The stream is bound to the frozen claims, so that there is nothing to draw before they are final.

    Args:
        key: 32 secret bytes that no worker has seen.
        claims: float64[C], finite, frozen.
        reference: float64[C] the king's losses, or None.
        uniform: n_u >= 2: every cell must have a chance, or the estimate would be biased.
        weighted: n_w, not 1: its spread is estimated.
    """
    if len(key) != KEY_BYTES or uniform < 2 or weighted == 1 or claims.size < 1:
        raise ConfigurationError(f"{uniform} uniform and {weighted} weighted draws of {claims.size} cells with a key of {len(key)} bytes")
    bound = digest(DRAW_TAG, {"key": key, "claims": claims_digest(claims)})
    unit = (words(bound, "cells", uniform + weighted) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    weight = weights(claims, reference)
    split = uniform if weight is not None else uniform + weighted
    cells = np.minimum((unit[:split] * claims.size).astype(np.int64), claims.size - 1)
    if weight is not None:
        cells = np.concatenate([cells, _by_weight(unit[split:], weight)])
    pi = probabilities(claims.size, weight, uniform=uniform, weighted=weighted)
    return Draw(cells=cells, probability=pi[cells], uniform=split, seed=bound)


def _by_weight(unit: Floats, weight: Floats) -> Integers:
    cumulative = np.cumsum(weight)
    found = np.searchsorted(cumulative, unit * cumulative[-1], side="right").astype(np.int64)
    last: int = int(np.flatnonzero(weight)[-1])
    cells: Integers = np.minimum(found, last)
    return cells
