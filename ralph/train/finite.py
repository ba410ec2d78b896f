"""Refuse weights that hold a number which is none, for every floating-point type and without torch."""

from collections.abc import Sequence

import numpy as np

from ralph.errors import UntrustedInputError
from ralph.train import wire

_BF16_EXPONENT = 0x7F80


def check(tensors: Sequence[wire.Tensor]) -> None:
    """Raise UntrustedInputError ``RUN-NAN`` when a number in a floating-point tensor is not finite."""
    for tensor in tensors:
        if not _is_finite(tensor):
            raise UntrustedInputError("RUN-NAN", f"tensor {tensor.name[:80]!r} holds numbers that are not finite")


def _is_finite(tensor: wire.Tensor) -> bool:
    match tensor.dtype:
        case "f16" | "f32" | "f64":
            return bool(np.isfinite(np.frombuffer(tensor.data, f"<f{wire.ITEM_BYTES[tensor.dtype]}")).all())
        case "bf16":
            return bool(((np.frombuffer(tensor.data, "<u2") & _BF16_EXPONENT) != _BF16_EXPONENT).all())
        case _:
            return True
