"""The one channel between host and worker: frames over a socket pair.

A frame is ``u32 length | u8 kind | CBOR header | raw tensors``: length counts everything after itself,
the header is one canonical CBOR map of at most 64 KiB preceded by its own u32 length, and ``tensors`` in
the header lists [name, dtype, shape] of the C-contiguous little-endian buffers that follow in order.
The header of STEPPED, which answers every step, is 24 bytes as they are: u64 step, then the bits of two numbers.
A frame is at most 1 GiB, so that any one tensor fits; a series of tensors is split over frames of about 32 MiB. The
reader says how much it is prepared to receive and checks every length before it allocates anything, and the host
checks kind, names, dtypes and shapes against what it expects; what is inside remains a claim.

This module is shared by both sides, so it needs nothing of ours and no torch.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import prod
from typing import Any

import cbor2

MAX_FRAME_BYTES = 1024 * 1024 * 1024
PART_BYTES = 32 * 1024 * 1024
"""A series of tensors goes to the next frame here; only a single tensor may make a larger one."""
PART_TENSORS = 256
SMALL_BYTES = 64 * 1024
"""A buffer up to this size is copied to its neighbours, so that one system call writes them all."""
MAX_HEADER_BYTES = 64 * 1024
MAX_TENSORS = 4096
MAX_DIMENSIONS = 8
MAX_NAME = 200
ITEM_BYTES: Mapping[str, int] = {"u8": 1, "u16": 2, "i32": 4, "i64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8}
_PREFIX = struct.Struct("<IBI")
_STEPPED = struct.Struct("<Q8s8s")
_STEPPED_FIELDS = ("step", "loss", "gradient_norm")


class WireError(Exception):
    """A frame that breaks the format. On the host it means RUN-SHAPE."""


class Kind(IntEnum):
    """What a frame says. Host to worker below 100, worker to host from 100 on."""

    SETUP = 1
    """{mode: train|score, width, sequence, vocabulary, batch_rows, steps, threads, seed, ranks, device}."""
    LOAD = 2
    """Named weights (score) or a named training state (train resume) for the recipe to load."""
    BATCH = 3
    """{step}; tensor tokens i32[B, T+1]: train one step."""
    STATE = 4
    """{}; send the training state as it is now."""
    WEIGHTS = 5
    """{}; send the model's parameters and buffers."""
    CLAIM = 6
    """{}; tensor tokens i32[R, T+1]: answer one claimed loss per token."""
    PROBE = 7
    """{}; tensors tokens i32[R, T], positions i32[R]: answer the next-token logits at each position."""
    QUIT = 8
    EXTEND = 9
    """{}; tensors prefix i32[P], rows i32[K, S]: answer every token of rows that each continue the prefix. Only where READY says so."""
    HELLO = 100
    """{python, torch, cpu, threads}: sent once at start, before the recipe is imported."""
    READY = 101
    """{parameters, flops_per_token, depth, continues}: the recipe is built or the weights are loaded."""
    STEPPED = 102
    """{step, loss, gradient_norm}: the two numbers as 8-byte little-endian float64 bytes."""
    TENSORS = 103
    """{more}: named tensors; a state larger than a frame continues while ``more`` is true."""
    CLAIMS = 104
    """{}; tensor losses f64[R, T] in nats."""
    LOGITS = 105
    """{}; tensor logits f64[R, V]."""
    CALIBRATED = 106
    """{product_flops, attention_flops, copy_bytes}: rates per second, of a calibration."""
    EXTENDED = 107
    """{}; tensor answers f64[2, K, S]: losses in nats, and by how much each token's logit is ahead of all others."""
    FAILED = 199
    """{code, detail}: the recipe raised; detail is its traceback's end."""


_KINDS = {int(kind): kind for kind in Kind}
_STEPPED_KIND = int(Kind.STEPPED)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named buffer with a declared type: raw bytes, C-contiguous, little-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """Return the size that dtype and shape imply."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: Kind
    header: dict[str, Any]
    tensors: tuple[Tensor, ...] = ()

    def tensor(self, name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
        """Return the only tensor of the frame, which must be exactly this. Raises WireError."""
        if len(self.tensors) != 1 or (self.tensors[0].name, self.tensors[0].dtype, self.tensors[0].shape) != (name, dtype, shape):
            described = [(tensor.name[:40], tensor.dtype, tensor.shape) for tensor in self.tensors[:3]]
            raise WireError(f"expected {name} {dtype}{list(shape)}, got {described}")
        return self.tensors[0]


def pack(kind: Kind, header: Mapping[str, Any] | None = None, tensors: Sequence[Tensor] = ()) -> list[bytes | bytearray | memoryview]:
    """Return the buffers of one frame, to be written in order."""
    described = {**(header or {}), "tensors": [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in tensors]}
    encoded = cbor2.dumps(described, canonical=True) if kind != Kind.STEPPED else _stepped(described)
    length = 1 + 4 + len(encoded) + sum(tensor.size_bytes for tensor in tensors)
    if len(encoded) > MAX_HEADER_BYTES or length > MAX_FRAME_BYTES:
        raise WireError(f"frame of {length} bytes with a header of {len(encoded)}")
    return [_PREFIX.pack(length, kind, len(encoded)) + encoded, *(tensor.data for tensor in tensors)]


def _stepped(described: Mapping[str, Any]) -> bytes:
    return _STEPPED.pack(*(described[name] for name in _STEPPED_FIELDS))


def joined(parts: Sequence[bytes | bytearray | memoryview]) -> list[bytes | bytearray | memoryview]:
    """Return the same bytes in few buffers: neighbours are copied together as long as they are small."""
    result: list[bytes | bytearray | memoryview] = []
    small: list[bytes | bytearray | memoryview] = []
    for part in parts:
        if memoryview(part).nbytes <= SMALL_BYTES:
            small.append(part)
            continue
        if small:
            result.append(b"".join(small))
            small = []
        result.append(part)
    return [*result, b"".join(small)] if small else result


def is_name(name: Any) -> bool:
    """Return whether this may be the name of a tensor: short printable ASCII."""
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isascii() and name.isprintable()


def split(tensors: Sequence[Tensor]) -> Iterator[tuple[Sequence[Tensor], bool]]:
    """Yield (tensors of one frame, whether more follow); one empty part for no tensors at all."""
    start = 0
    while True:
        stop, size = start, 0
        while stop < len(tensors) and stop - start < PART_TENSORS and (stop == start or size + tensors[stop].size_bytes <= PART_BYTES):
            size += tensors[stop].size_bytes
            stop += 1
        yield tensors[start:stop], stop < len(tensors)
        if stop >= len(tensors):
            return
        start = stop


def read(receive: Callable[[int], memoryview], *, limit: int = MAX_FRAME_BYTES) -> Frame:
    """Read one frame of at most ``limit`` bytes.

    Args:
        receive: Returns exactly as many bytes as asked for, or raises; it owns the deadline.
        limit: What the caller is prepared to receive now. Set it close to the expected size.
    """
    return _rest(receive, limit, *_PREFIX.unpack(receive(_PREFIX.size)))


def read_stepped(receive: Callable[[int], memoryview], *, limit: int) -> tuple[int, bytes, bytes] | Frame:
    """Read the answer to a step, (step, loss, gradient norm), or the frame that came in its place.

    It is read as often as there are steps, by a host that counts microseconds: so no frame is made of it.
    """
    length, kind_number, header_length = _PREFIX.unpack(receive(_PREFIX.size))
    if kind_number == _STEPPED_KIND and header_length == _STEPPED.size == length - 5:
        step, loss, gradient_norm = _STEPPED.unpack(receive(_STEPPED.size))
        return step, loss, gradient_norm
    return _rest(receive, limit, length, kind_number, header_length)


def _rest(receive: Callable[[int], memoryview], limit: int, length: int, kind_number: int, header_length: int) -> Frame:
    if length > min(limit, MAX_FRAME_BYTES) or header_length > MAX_HEADER_BYTES or length < 5 + header_length:
        raise WireError(f"frame of {length} bytes with a header of {header_length}, limit {limit}")
    if kind_number == _STEPPED_KIND:
        if not header_length == _STEPPED.size == length - 5:
            raise WireError(f"the answer to a step of {length} bytes")
        return Frame(Kind.STEPPED, dict(zip(_STEPPED_FIELDS, _STEPPED.unpack(receive(header_length)), strict=True)))
    try:
        kind = _KINDS[kind_number]
        header = cbor2.loads(bytes(receive(header_length)))
        specs = _specs(header.pop("tensors"))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, cbor2.CBORDecodeError) as error:
        raise WireError(f"bad frame: {type(error).__name__}") from error
    left = length - 5 - header_length
    if left != sum(prod(shape) * ITEM_BYTES[dtype] for _, dtype, shape in specs):
        raise WireError("the tensors do not fill the frame")
    tensors = [Tensor(name, dtype, shape, receive(prod(shape) * ITEM_BYTES[dtype])) for name, dtype, shape in specs]
    return Frame(kind, header, tuple(tensors))


def _specs(rows: Any) -> list[tuple[str, str, tuple[int, ...]]]:
    if not isinstance(rows, list) or len(rows) > MAX_TENSORS:
        raise ValueError("tensor list")
    specs: list[tuple[str, str, tuple[int, ...]]] = []
    for name, dtype, shape in rows:
        if not is_name(name) or dtype not in ITEM_BYTES or len(shape) > MAX_DIMENSIONS:
            raise ValueError("tensor")
        if not all(type(size) is int and 0 <= size <= MAX_FRAME_BYTES for size in shape):
            raise ValueError("shape")
        specs.append((name, dtype, tuple(shape)))
    if len({name for name, _, _ in specs}) != len(specs):
        raise ValueError("duplicate names")
    return specs
