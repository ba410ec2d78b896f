"""Refuse a recipe that carries its own luck: initial values that the seed does not decide (protocol section 4).

Two runs of one recipe under two seeds give two states at step 0. Every parameter tensor must be a constant, the same in both, or be
uncorrelated between them: |r| < max(0.05, 6 / sqrt(n)) for its n values. Tensors of fewer than 256 values are pooled, because
so few values say little alone. It does not see luck that is hidden below that correlation; that is what paired fresh seeds are for.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ralph.errors import UntrustedInputError
from ralph.train import wire

PREFIX = "model."
POOL_BELOW = 256
LEAST_BOUND = 0.05
SIGMAS = 6.0
_NUMPY: Mapping[str, str] = {"u8": "u1", "u16": "<u2", "i32": "<i4", "i64": "<i8", "f16": "<f2", "f32": "<f4", "f64": "<f8"}

Values = npt.NDArray[np.float64]


def check(first: Sequence[wire.Tensor], second: Sequence[wire.Tensor]) -> None:
    """Compare the states of one recipe at step 0 under two seeds; raise UntrustedInputError ``RUN-INIT``."""
    one, other = _parameters(first), _parameters(second)
    if {name: values.shape for name, values in one.items()} != {name: values.shape for name, values in other.items()}:
        raise UntrustedInputError("RUN-INIT", "the seed changes the names or shapes of the parameters")
    pools: tuple[list[Values], list[Values]] = ([], [])
    for name, values in one.items():
        if _is_constant(values) and _is_constant(other[name]):
            continue
        if values.size < POOL_BELOW:
            pools[0].append(values.ravel())
            pools[1].append(other[name].ravel())
        else:
            _check_uncorrelated(f"tensor {name[:80]!r}", values.ravel(), other[name].ravel())
    if pools[0]:
        _check_uncorrelated("the small tensors together", np.concatenate(pools[0]), np.concatenate(pools[1]))


def _parameters(tensors: Sequence[wire.Tensor]) -> dict[str, Values]:
    return {tensor.name.removeprefix(PREFIX): _values(tensor) for tensor in tensors if tensor.name.startswith(PREFIX)}


def _values(tensor: wire.Tensor) -> Values:
    if tensor.dtype == "bf16":
        wide = np.frombuffer(tensor.data, "<u2").astype("<u4") << np.uint32(16)
        return wide.view("<f4").astype(np.float64).reshape(tensor.shape)
    return np.frombuffer(tensor.data, _NUMPY[tensor.dtype]).astype(np.float64).reshape(tensor.shape)


def _is_constant(values: Values) -> bool:
    return values.size == 0 or bool((values == values.flat[0]).all())


def _check_uncorrelated(what: str, first: Values, second: Values) -> None:
    bound = max(LEAST_BOUND, SIGMAS / math.sqrt(first.size))
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UntrustedInputError("RUN-INIT", f"{what}: values that are not finite")
    first, second = _centred(first), _centred(second)
    scale = math.sqrt(float(first @ first) * float(second @ second))
    correlation = float(first @ second) / scale if scale else 0.0
    if not abs(correlation) < bound:
        detail = f"{what}: correlation {correlation:.3f} between two seeds over {first.size} values, allowed below {bound:.3f}"
        raise UntrustedInputError("RUN-INIT", detail)


def _centred(values: Values) -> Values:
    scaled = values / max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
    centred: Values = scaled - scaled.mean()
    return centred
