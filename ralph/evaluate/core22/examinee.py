"""The one who is examined: what a worker is asked, and the check that its answers have the shape they must have.

The callables are those of ``ralph.train.channel.WorkerChannel`` or of a trusted model in this process. What they return is foreign.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ralph.errors import UntrustedInputError
from ralph.evaluate.cells import MAX_LOSS_NATS, Floats, Tokens
from ralph.evaluate.claims import Claim
from ralph.evaluate.probes import Probe

SharedClaim = Callable[[Tokens, list[Tokens]], list[Floats]]
"""A prefix int32[P] and suffixes int32[S_k] that continue it, each by itself -> claims float64[2, S_k] on every suffix: losses, and by how
much each token's logit is ahead of all others.

For a model that computes the prefix once. The numbers must be those of whole rows up to the tolerance of the audit, which probes
what was claimed this way like everything else.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examinee:
    """One running worker.

    Args:
        claim: Rows int32[R, T+1] -> claimed losses float64[R, T].
        probe: Prefixes int32[R, T] and positions int32[R] -> logits float64[R, V].
        vocabulary: V.
        shared: Claims for rows with a common prefix, if the worker can.
    """

    claim: Claim
    probe: Probe
    vocabulary: int
    shared: SharedClaim | None = None

    def claims(self, rows: Tokens) -> Floats:
        """Return the claims on a batch; raises UntrustedInputError ``RUN-SHAPE``."""
        return _shaped(self.claim(rows), (rows.shape[0], rows.shape[1] - 1), "claims")

    def logits(self, prefixes: Tokens, positions: NDArray[np.int32]) -> Floats:
        """Return the logits behind prefixes; raises UntrustedInputError ``RUN-SHAPE``."""
        return _shaped(self.probe(prefixes, positions), (positions.size, self.vocabulary), "logits")

    def suffix_claims(self, shared: SharedClaim, prefix: Tokens, suffixes: Sequence[Tokens]) -> list[Floats]:
        """Return the claims on suffixes; raises UntrustedInputError ``RUN-SHAPE`` or ``RUN-NAN``."""
        found = shared(prefix, list(suffixes))
        if not isinstance(found, list) or len(found) != len(suffixes):
            raise UntrustedInputError("RUN-SHAPE", f"no list of claims on {len(suffixes)} suffixes")
        claimed = [_shaped(values, (2, suffix.size), "claims on a suffix") for values, suffix in zip(found, suffixes, strict=True)]
        if not all((np.abs(values) <= MAX_LOSS_NATS).all() for values in claimed):
            raise UntrustedInputError("RUN-NAN", f"a claim that is not finite or beyond {MAX_LOSS_NATS:g} nats")
        return claimed


Start = Callable[[], AbstractContextManager[Examinee]]
"""Starts a fresh sandbox with the model and destroys it at the end."""


def _shaped(values: object, shape: tuple[int, ...], what: str) -> Floats:
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.shape != shape:
        kind = f"{values.dtype}{list(values.shape)}" if isinstance(values, np.ndarray) else type(values).__name__
        raise UntrustedInputError("RUN-SHAPE", f"{what} are {kind}, not float64{list(shape)}")
    return values
