"""The worker's end of the channel: whole frames over one inherited descriptor, and tensors in and out of them."""

import os
import select
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from ralph.train import wire

DTYPES: Mapping[torch.dtype, str] = {
    torch.uint8: "u8",
    torch.uint16: "u16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float32: "f32",
    torch.float64: "f64",
}
TORCH_DTYPES: Mapping[str, torch.dtype] = {name: dtype for dtype, name in DTYPES.items()}


class ShapeError(Exception):
    """The recipe returned something of another type or shape than its interface says."""


class Channel:
    """Frames to and from the host. The host is trusted here; an end of file ends the worker."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self) -> wire.Frame:
        """Return the next frame."""
        return wire.read(self._receive)

    def waiting(self) -> bool:
        """Return whether the host has sent something that was not read yet."""
        return bool(select.select([self._fd], [], [], 0)[0])

    def send(self, kind: wire.Kind, header: Mapping[str, Any] | None = None, tensors: Iterable[wire.Tensor] = ()) -> None:
        """Send one frame."""
        for part in wire.joined(wire.pack(kind, header, tuple(tensors))):
            left = memoryview(part).cast("B")
            while left:
                left = left[os.write(self._fd, left) :]

    def send_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Send named tensors, sorted by name, in as many TENSORS frames as they need."""
        described = [to_wire(name, tensors[name]) for name in sorted(tensors)]
        for part, more in wire.split(described):
            self.send(wire.Kind.TENSORS, {"more": more}, part)

    def _receive(self, size: int) -> memoryview:
        view = memoryview(bytearray(size))
        done = 0
        while done < size:
            count = os.readv(self._fd, [view[done:]])
            if count == 0:
                raise EOFError("the host closed the channel")
            done += count
        return view


def to_wire(name: str, tensor: torch.Tensor) -> wire.Tensor:
    """Describe a tensor of the recipe for the wire. Raises ShapeError."""
    plain = isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided and tensor.dtype in DTYPES
    if not plain or not wire.is_name(name):
        raise ShapeError(f"{name!r} is no named dense tensor of a supported type")
    flat = tensor.detach().contiguous().cpu().reshape(-1)
    data = flat.view(torch.uint8).numpy().data if flat.numel() else b""
    return wire.Tensor(name, DTYPES[tensor.dtype], tuple(tensor.shape), data)


def from_wire(tensor: wire.Tensor) -> torch.Tensor:
    """Return the tensor in a received frame, over the frame's own buffer."""
    if not tensor.size_bytes:
        return torch.empty(tensor.shape, dtype=TORCH_DTYPES[tensor.dtype])
    flat = torch.frombuffer(tensor.data, dtype=TORCH_DTYPES[tensor.dtype])
    return flat.reshape(tensor.shape)


def tokens_from_wire(tensor: wire.Tensor) -> torch.Tensor:
    """Return received numbers as the int64 that recipes work with, on the device where they work."""
    tokens = torch.from_numpy(np.frombuffer(tensor.data, dtype="<i4").astype(np.int64)).reshape(tensor.shape)
    device = torch.get_default_device()
    return tokens if device.type == "cpu" else tokens.pin_memory().to(device, non_blocking=True)
