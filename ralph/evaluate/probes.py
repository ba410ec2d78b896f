"""Probes: the second phase. A fresh sandbox B gets prefixes only, and the host computes the true losses.

What B answers cannot depend on what it predicts, because it has not received it: behind the prefix there is filler
from unrelated public text, two prefixes of one document are never in the same batch, and a longer prefix of a document
is sent only after the answers to the shorter ones have arrived. B returns the logits; the softmax is the host's.

B is told where each prefix ends, so the shape of a batch can follow it: short prefixes go first, in short rows (docs/adr/0020).

Not promised: B may learn from prefixes it has seen, and a little from which cells are asked, since the weighted draws follow
the claims. Neither helps: what it answers must equal a claim that was frozen before anything was drawn.
"""

import heapq
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ralph.data.dataset import Rows
from ralph.errors import UntrustedInputError
from ralph.evaluate.cells import MAX_LOSS_NATS, Cells, Floats, Integers, Tokens
from ralph.evaluate.claims import padding
from ralph.evaluate.draw import permutation

ORDER = "order of documents"

Probe = Callable[[Tokens, NDArray[np.int32]], Floats]
"""Prefixes int32[R, T] and positions int32[R] -> logits float64[R, V] of the token after each position."""


def schedule(cells: Cells, wanted: Integers, *, batch_rows: int, key: bytes) -> Iterator[Integers]:
    """Yield batches of cells: every row at most once in a batch, positions of a row ascending over the batches.

    Rows with the most cells left go first, which gives the fewest batches; ties are in a random order.

    Args:
        cells: Numbering of the scored cells.
        wanted: int64[M], unique and ascending.
        batch_rows: Most cells in a batch.
        key: The measurement's key; it fixes the order among equals.
    """
    rows, starts, counts = np.unique(cells.row(wanted), return_index=True, return_counts=True)
    ranks = permutation(key, ORDER, rows.size)
    waiting = list(zip((-counts).tolist(), ranks.tolist(), starts.tolist(), strict=True))
    heapq.heapify(waiting)
    while waiting:
        batch = [heapq.heappop(waiting) for _ in range(min(batch_rows, len(waiting)))]
        yield wanted[[index for _, _, index in batch]]
        for left, rank, index in batch:
            if left < -1:
                heapq.heappush(waiting, (left + 1, rank, index + 1))


def lengths(sequence: int, multiple: int | None) -> tuple[int, ...]:
    """Return the lengths that prefixes are filled up to, ascending: multiples up to ``sequence``, which is the last one."""
    return (*range(multiple or sequence, sequence, multiple or sequence), sequence)


def losses(logits: Floats, targets: NDArray[np.integer]) -> Floats:
    """Return -log softmax(logits)[target] of every row in float64.

    Everything is relative to the row's largest logit, so that adding a constant, however large, changes nothing.

    Raises:
        UntrustedInputError: ``RUN-NAN``, logits that are not finite or a loss out of all bounds.
    """
    if not np.isfinite(logits).all():
        raise UntrustedInputError("RUN-NAN", "logits that are not finite")
    with np.errstate(over="ignore"):
        relative = logits - logits.max(axis=1, keepdims=True)
        nats: Floats = np.log(np.exp(relative).sum(axis=1)) - relative[np.arange(targets.size), targets]
    if not (nats <= MAX_LOSS_NATS).all():
        raise UntrustedInputError("RUN-NAN", f"logits so far apart that a loss is above {MAX_LOSS_NATS:g} nats")
    return nats


def answers(
    probe: Probe, rows: Rows, wanted: Integers, *, batch_rows: int, key: bytes, multiple: int | None = None
) -> Iterator[tuple[Integers, Tokens, Floats]]:
    """Probe cells batch by batch.

    Args:
        probe: Asks the worker for one batch.
        rows: N documents.
        wanted: int64[M] cells, unique and ascending.
        batch_rows: Rows of every batch, the same as for the claims; a batch with fewer cells is filled up with padding.
        key: The measurement's key; it fixes the order.
        multiple: Prefixes are filled up to a multiple of so many tokens; None for the claims' length.

    Yields:
        Some of the cells, int64[K], the token that each predicts, int32[K], and the logits behind its prefix, float64[K, V].
    """
    cells = Cells.of(rows.lengths)
    position, shorter = cells.position(wanted), 0
    for length in lengths(rows.sequence, multiple):
        inside = wanted[(shorter <= position) & (position < length)]
        shorter = length
        columns, filler = np.arange(length), padding(rows)[:length]
        for batch in schedule(cells, inside, batch_rows=batch_rows, key=key):
            row = cells.row(batch)
            last = batch - cells.offsets[row]
            prefixes = np.tile(filler, (batch_rows, 1))
            positions = np.zeros(batch_rows, np.int32)
            prefixes[: batch.size] = np.where(columns <= last[:, None], rows.take(row)[:, :length], filler)
            positions[: batch.size] = last
            yield batch, rows.at(row, last + 1), probe(prefixes, positions)[: batch.size]


def collect(probe: Probe, rows: Rows, wanted: Integers, *, batch_rows: int, key: bytes, multiple: int | None = None) -> Floats:
    """Probe cells and return their true losses, float64[M] in nats; the arguments are those of ``answers``."""
    found = np.empty(wanted.size)
    for batch, targets, logits in answers(probe, rows, wanted, batch_rows=batch_rows, key=key, multiple=multiple):
        found[np.searchsorted(wanted, batch)] = losses(logits, targets)
    return found
