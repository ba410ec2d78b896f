"""Claims: the first phase. Whole rows go to sandbox A, one number per token comes back, and is frozen.

A worker that sees a whole row can look at the token it predicts, so a claim is worth nothing by itself. Rows arrive in
an order that the host chose, in batches of one fixed shape.
"""

from collections.abc import Callable

import numpy as np

from ralph.data.dataset import Rows
from ralph.errors import UntrustedInputError
from ralph.evaluate.cells import MAX_LOSS_NATS, Cells, Floats, Tokens
from ralph.evaluate.draw import permutation

ORDER = "order of rows"

Claim = Callable[[Tokens], Floats]
"""Rows int32[R, T+1] -> claimed losses float64[R, T], finite: ``WorkerChannel.claim`` or ``TrainingRun.claim``."""


def padding(rows: Rows) -> Tokens:
    """Return a row of nothing but unrelated public text: int32[T+1], BOS first."""
    width = rows.tokens.shape[1]
    row = np.resize(rows.filler, width).astype(np.int32) if rows.filler.size else np.zeros(width, np.int32)
    row[:1] = rows.tokens[:1, 0]
    return row


def collect(claim: Claim, rows: Rows, *, batch_rows: int, key: bytes) -> Floats:
    """Ask for the claims on all rows and freeze them.

    Args:
        claim: Asks the worker for one batch.
        rows: N documents.
        batch_rows: Rows of every batch; the last one is filled up with padding.
        key: The measurement's key; it fixes the order of the rows.

    Returns:
        float64[N, T] in the order of ``rows``, read-only, 0 where no token is scored. Some may be negative, which no loss is:
        the audit probes those in any case.

    Raises:
        UntrustedInputError: ``RUN-NAN``, claims that are not finite or out of all bounds.
    """
    count, sequence = len(rows), rows.tokens.shape[1] - 1
    order = permutation(key, ORDER, count)
    losses = np.zeros((count, sequence))
    batch = np.empty((batch_rows, sequence + 1), np.int32)
    for start in range(0, count, batch_rows):
        chosen = order[start : start + batch_rows]
        batch[:] = padding(rows)
        batch[: chosen.size] = rows.tokens[chosen]
        losses[chosen] = claim(batch)[: chosen.size]
    if not (np.abs(losses) <= MAX_LOSS_NATS).all():
        raise UntrustedInputError("RUN-NAN", f"a claimed loss that is not finite or beyond {MAX_LOSS_NATS:g} nats")
    losses[~Cells.of(rows.lengths).mask(sequence)] = 0.0
    losses.flags.writeable = False
    return losses
