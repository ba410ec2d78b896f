"""Claims: the first phase. Whole rows go to sandbox A, one number per token comes back, and is frozen.

A worker that sees a whole row can look at the token it predicts, so a claim is worth nothing by itself. Rows arrive in
an order that the host chose, in batches of one fixed shape. What comes back lies in a file: a host holds one batch in memory.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ralph.data.dataset import Rows
from ralph.errors import UntrustedInputError
from ralph.evaluate.cells import MAX_LOSS_NATS, PIECE_CELLS, Cells, Floats, Integers, Tokens
from ralph.evaluate.draw import permutation
from ralph.evaluate.sheet import new_sheet

ORDER = "order of rows"

Claim = Callable[[Tokens], Floats]
"""Rows int32[R, T+1] -> claimed losses float64[R, T], finite: ``WorkerChannel.claim`` or ``TrainingRun.claim``."""


def padding(rows: Rows) -> Tokens:
    """Return a row of nothing but unrelated public text: int32[T+1], the first token that of the rows."""
    row: Tokens = rows.filler.copy()
    row[:1] = rows.stream[rows.starts[:1]]
    return row


def answers(claim: Claim, rows: Rows, *, batch_rows: int, key: bytes) -> Iterator[tuple[Integers, Floats]]:
    """Ask for the claims on all rows, batch by batch in the key's order; the arguments are those of ``collect``.

    Yields:
        Some of the rows, int64[K], and what is claimed for them, float64[K, T].
    """
    order = permutation(key, ORDER, len(rows))
    filler, batch = padding(rows), np.empty((batch_rows, rows.sequence + 1), np.int32)
    for start in range(0, len(rows), batch_rows):
        chosen = order[start : start + batch_rows]
        batch[: chosen.size], batch[chosen.size :] = rows.take(chosen), filler
        losses = claim(batch)[: chosen.size]
        if not (np.abs(losses) <= MAX_LOSS_NATS).all():
            raise UntrustedInputError("RUN-NAN", f"a claimed loss that is not finite or beyond {MAX_LOSS_NATS:g} nats")
        yield chosen, losses


def collect(claim: Claim, rows: Rows, *, batch_rows: int, key: bytes, scratch: Path | None = None) -> Floats:
    """Ask for the claims on all rows and freeze them.

    Args:
        claim: Asks the worker for one batch.
        rows: N documents.
        batch_rows: Rows of every batch; the last one is filled up with padding.
        key: The measurement's key; it fixes the order of the rows.
        scratch: Directory of the file that the claims lie in; None for the system's, which on some machines is in memory.

    Returns:
        float64[C] by cell, read-only and mapped: see ``ralph.evaluate.sheet``. Some may be negative, which no loss is: the audit
        probes those in any case.

    Raises:
        UntrustedInputError: ``RUN-NAN``, claims that are not finite or out of all bounds.
        InfrastructureError: ``OPS-DISK``, no room for them.
    """
    with new_sheet(Cells.of(rows.lengths), scratch) as sheet:
        for chosen, losses in answers(claim, rows, batch_rows=batch_rows, key=key):
            sheet.write(chosen, losses)
        return sheet.frozen()


def below(claims: Floats, limit: float, *, most: int, piece: int = PIECE_CELLS) -> Integers:
    """Return the first cells, at most so many, whose claim is below ``limit``: int64[K], ascending."""
    found = np.zeros(0, np.int64)
    for start in range(0, claims.size, piece):
        here = start + np.flatnonzero(claims[start : start + piece] < limit)
        found = np.concatenate([found, here])[:most]
        if found.size == most:
            break
    return found
