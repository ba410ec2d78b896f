"""Parse the header of a foreign safetensors file, strictly, before anything looks at its buffers.

Refused: a header over 1 MiB, duplicate keys, unknown fields, metadata, dtypes outside the list, more tensors or numbers
than the caller allows, sizes that are not the product of the shape, and any gap or overlap between buffers.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ralph.errors import UntrustedInputError
from ralph.train import wire

MAX_HEADER_BYTES = 1024 * 1024
MAX_NUMBERS = 2**40
DTYPES: Mapping[str, str] = {
    "U8": "u8",
    "U16": "u16",
    "I32": "i32",
    "I64": "i64",
    "F16": "f16",
    "BF16": "bf16",
    "F32": "f32",
    "F64": "f64",
}
"""Accepted dtypes: their name in the file and on the wire."""

FLOATS = frozenset({"f16", "bf16", "f32", "f64"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLimits:
    """What a set of tensors may be at most."""

    tensors: int = wire.MAX_TENSORS
    numbers: int
    """Elements of all tensors together."""
    size_bytes: int
    """Bytes of all tensors together."""


def parse(data: bytes, limits: TensorLimits) -> tuple[wire.Tensor, ...]:
    """Return the tensors of a file in the order of their buffers, as views of ``data``.

    Raises:
        UntrustedInputError: ``INT-SIZE`` for the file, ``RUN-PARAMS`` for too many numbers, ``INT-SCHEMA`` for the rest.
    """
    if len(data) > 8 + MAX_HEADER_BYTES + limits.size_bytes:
        raise UntrustedInputError("INT-SIZE", f"a tensor file of {len(data)} bytes, limit {8 + MAX_HEADER_BYTES + limits.size_bytes}")
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER_BYTES, len(data) - 8):
        _refuse(f"the header of {length} bytes does not fit")
    header = _header(data[8 : 8 + length])
    if len(header) > limits.tensors:
        _refuse(f"{len(header)} tensors, limit {limits.tensors}")
    body = memoryview(data)[8 + length :]
    rows = sorted((_row(name, entry) for name, entry in header.items()), key=lambda row: (row[3], row[4]))
    numbers = sum(math.prod(shape) for _, _, shape, _, _ in rows)
    if numbers > limits.numbers:
        raise UntrustedInputError("RUN-PARAMS", f"{numbers} numbers in the tensors, limit {limits.numbers}")
    end = 0
    for name, _, _, start, stop in rows:
        if start != end:
            _refuse(f"a gap or an overlap before {name[:40]!r}")
        end = stop
    if end != len(body):
        _refuse(f"the tensors end at {end}, the file at {len(body)}")
    return tuple(wire.Tensor(name, dtype, shape, body[start:stop]) for name, dtype, shape, start, stop in rows)


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        _refuse(f"its header is no JSON: {type(error).__name__}", error)
    if text[:1] != b"{" or not isinstance(header, dict):
        _refuse("its header is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        _refuse("a key occurs twice")
    return unique


def _row(name: str, entry: Any) -> tuple[str, str, tuple[int, ...], int, int]:
    if not wire.is_name(name) or not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(f"{name[:40]!r} is no tensor entry")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        _refuse(f"{name[:40]!r} has a dtype that is not accepted")
    if not isinstance(shape, list) or len(shape) > wire.MAX_DIMENSIONS or not isinstance(offsets, list) or len(offsets) != 2:
        _refuse(f"{name[:40]!r} has no acceptable shape")
    if not all(type(number) is int and 0 <= number < MAX_NUMBERS for number in (*shape, *offsets)):
        _refuse(f"{name[:40]!r} has a size that is no acceptable whole number")
    if math.prod(max(1, size) for size in shape) >= MAX_NUMBERS:
        _refuse(f"{name[:40]!r} has a shape beyond all limits")
    if offsets[1] - offsets[0] != math.prod(shape) * wire.ITEM_BYTES[DTYPES[dtype]]:
        _refuse(f"{name[:40]!r} has {offsets[1] - offsets[0]} bytes, which is not what its shape and dtype need")
    return name, DTYPES[dtype], tuple(shape), offsets[0], offsets[1]


def _refuse(detail: str, cause: Exception | None = None) -> NoReturn:
    raise UntrustedInputError("INT-SCHEMA", f"tensor file: {detail}") from cause
