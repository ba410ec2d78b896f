"""The draw and the score by their definitions, all cells in memory at once: what the pieces of ``ralph.evaluate`` must come to."""

from dataclasses import dataclass

import numpy as np

from ralph.data.dataset import Rows
from ralph.evaluate.cells import Cells
from ralph.evaluate.draw import CLAIMS_TAG, DRAW_TAG, Draw, words
from ralph.evaluate.estimator import LN2, Totals, totals
from ralph.protocol.canonical import digest


def weights(claims: np.ndarray, reference: np.ndarray | None) -> np.ndarray | None:
    """Return w of every cell, proportional to (reference - claim)+ and summing to 1, or None where nothing is claimed to be better."""
    if reference is None:
        return None
    excess = np.maximum(reference - claims, 0.0)
    total = float(excess.sum())
    return excess / total if total > 0 else None


def probabilities(count: int, weight: np.ndarray | None, *, uniform: int, weighted: int) -> np.ndarray:
    """Return pi of every cell."""
    if weight is None:
        return np.full(count, 1.0 / count)
    total = uniform + weighted
    return (uniform / total) / count + (weighted / total) * weight


def draw(key: bytes, claims: np.ndarray, reference: np.ndarray | None, *, uniform: int, weighted: int) -> Draw:
    """Draw cells."""
    claims_digest = digest(CLAIMS_TAG, np.ascontiguousarray(claims, dtype="<f8").tobytes())
    bound = digest(DRAW_TAG, {"key": key, "claims": claims_digest})
    unit = (words(bound, "cells", uniform + weighted) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    weight = weights(claims, reference)
    split = uniform if weight is not None else uniform + weighted
    cells = np.minimum((unit[:split] * claims.size).astype(np.int64), claims.size - 1)
    if weight is not None:
        cumulative = np.cumsum(weight)
        found = np.searchsorted(cumulative, unit[split:] * cumulative[-1], side="right").astype(np.int64)
        cells = np.concatenate([cells, np.minimum(found, int(np.flatnonzero(weight)[-1]))])
    pi = probabilities(claims.size, weight, uniform=uniform, weighted=weighted)
    return Draw(cells=cells, probability=pi[cells], uniform=split, seed=bound)


def grouped(claims: np.ndarray, drawn: Draw, truths: np.ndarray, *, groups: np.ndarray, count: int) -> Totals:
    """Estimate the sum of every group, where ``groups`` names that of every cell and ``truths`` the losses of the drawn ones."""
    claimed = np.bincount(groups, weights=claims, minlength=count).astype(np.float64)
    return totals(drawn, claims[drawn.cells], truths, claimed=claimed, member=groups[drawn.cells])


@dataclass(frozen=True, kw_only=True)
class Values:
    """The values of a score."""

    val_bpb: float
    claimed_bpb: float
    correction_nats: float
    standard_error_nats: float
    sources: dict[str, tuple[float, float, float, int, int, int]]
    """Source -> val_bpb, claimed_bpb, standard_error_bpb, documents, tokens, bytes."""
    document_nats: np.ndarray


def values(claims: np.ndarray, drawn: Draw, truths: np.ndarray, rows: Rows) -> Values:
    """Compute a score; ``truths`` are those of the drawn cells."""
    cells = Cells.of(rows.lengths)
    row_of_cell = cells.row(np.arange(cells.count))
    names = sorted(set(rows.sources))
    source_of_row = np.array([names.index(source) for source in rows.sources])
    size = rows.byte_counts
    whole = grouped(claims, drawn, truths, groups=np.zeros_like(row_of_cell), count=1)
    slices = grouped(claims, drawn, truths, groups=source_of_row[row_of_cell], count=len(names))
    documents = grouped(claims, drawn, truths, groups=row_of_cell, count=len(rows))
    sources = {}
    for number, name in enumerate(names):
        inside = source_of_row == number
        divisor = LN2 * int(size[inside].sum())
        numbers = [float(part[number]) / divisor for part in (slices.nats, slices.claimed, slices.standard_error)]
        sources[name] = (*numbers, int(inside.sum()), int(cells.lengths[inside].sum()), int(size[inside].sum()))
    return Values(
        val_bpb=float(whole.nats[0]) / (LN2 * int(size.sum())),
        claimed_bpb=float(whole.claimed[0]) / (LN2 * int(size.sum())),
        correction_nats=float(whole.correction[0]) / cells.count,
        standard_error_nats=float(whole.standard_error[0]) / cells.count,
        sources=sources,
        document_nats=documents.nats,
    )
