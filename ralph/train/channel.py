"""The host's side of a worker: one request, one reply of exactly the expected kind, or a reason code.

Nothing that arrives is trusted. Each reply has a deadline and a size limit that are set before it is read; a frame of another
kind, step, name, dtype or shape is ``RUN-SHAPE``; a late one is ``RUN-STALL``. The deadline of the whole run is the
judges' own: running over it is an ``InfrastructureError``.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.interfaces import SandboxedWorker
from ralph.train import wire
from ralph.train.safetensors_header import TensorLimits

REPLY_TIMEOUT_S = 60.0
START_TIMEOUT_S = 120.0
LAUNCH_SLACK_S = 5.0
"""The sandbox's own deadline began this much before ours at most; a stall so close to the end is put down to the deadline."""
SMALL_BYTES = 16 * 1024
"""Limit of a reply without tensors, and room for the header of one with tensors that are few and known."""
MOST_IN_FLIGHT = 4
"""Answers that a worker may have given before it failed and that were not read yet."""
MAX_DETAIL = 2000
MAX_FLOPS = 1 << 62
"""What is printed of a recipe's own count of its operations."""
WORKER_CODES = frozenset({"RUN-IMPORT", "RUN-CRASH", "RUN-NAN", "RUN-OOM", "RUN-SHAPE"})


Read = TypeVar("Read")
Parts = Sequence[bytes | bytearray | memoryview]
"""The buffers of one frame, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What the worker says of the model that it built: claims."""

    parameters: int
    flops_per_token: int
    """0 when the recipe does not say."""
    depth: int
    """Blocks; 0 when the recipe does not say."""


HELLO_FIELDS: Mapping[str, type] = {"python": str, "torch": str, "cpu": str, "threads": int}


class WorkerChannel:
    """Requests to one sandboxed worker.

    Args:
        worker: A launched sandbox.
        deadline_s: Seconds from now that the whole exchange may take.
        reply_timeout_s: Seconds that one reply may take.
    """

    def __init__(self, worker: SandboxedWorker, *, deadline_s: float, reply_timeout_s: float = REPLY_TIMEOUT_S) -> None:
        self._worker = worker
        self._reply_timeout_s = reply_timeout_s
        self._limit_s = deadline_s
        self._run_deadline = time.monotonic() + deadline_s
        self._deadline = self._run_deadline
        self.continues = False
        """Whether the built recipe says that it answers ``extend``."""

    def hello(self) -> dict[str, str | int]:
        """Read the worker's first frame, sent before the recipe is imported: its absence is ours."""
        try:
            frame = self._reply(wire.Kind.HELLO, HELLO_FIELDS, limit=SMALL_BYTES, timeout_s=START_TIMEOUT_S)
        except UntrustedInputError as error:
            raise InfrastructureError(f"the worker did not start: {error.detail}") from error
        return {name: value[:100] if isinstance(value, str) else value for name, value in frame.header.items()}

    def setup(self, header: Mapping[str, Any]) -> Built:
        """Build the recipe."""
        self._send(wire.Kind.SETUP, header)
        return self._ready()

    def calibrated(self, header: Mapping[str, Any], *, products: int) -> dict[str, Any]:
        """Ask for a calibration; return rates per second, as many of products as were asked for."""
        self._send(wire.Kind.SETUP, header)
        fields = {"product_flops": list, "attention_flops": int, "copy_bytes": int}
        rates = self._reply(wire.Kind.CALIBRATED, fields, limit=SMALL_BYTES).header
        if len(rates["product_flops"]) != products or not all(type(rate) is int for rate in rates["product_flops"]):
            raise InfrastructureError("the calibration answered something else than was asked")
        return rates

    def load(self, tensors: Sequence[wire.Tensor]) -> Built:
        """Load weights or a state."""
        for part, more in wire.split(tensors):
            self._send(wire.Kind.LOAD, {"more": more}, part)
        return self._ready()

    def send_batch(self, batch: Parts) -> None:
        """Hand over what ``pack_batch`` made. A worker that failed meanwhile has said so before it stopped listening."""
        try:
            self._send_parts(batch)
        except UntrustedInputError as error:
            raise self._last_word(error) from error

    def stepped(self, step: int) -> tuple[bytes, bytes]:
        """Wait until the step is made; return the bits of its loss and of its gradient norm."""
        answer = self._read(wire.read_stepped, wire.Kind.STEPPED, limit=SMALL_BYTES)
        if isinstance(answer, wire.Frame):
            raise _unexpected(answer, wire.Kind.STEPPED)
        answered, loss, gradient_norm = answer
        if answered != step:
            raise UntrustedInputError("RUN-SHAPE", f"step {step} was answered with step {answered}")
        return loss, gradient_norm

    def tensors(self, kind: wire.Kind, limits: TensorLimits) -> tuple[wire.Tensor, ...]:
        """Ask for the state or the weights; return all tensors, sorted by name."""
        self._send(kind)
        received: list[wire.Tensor] = []
        more = True
        while more:
            left = limits.size_bytes - sum(tensor.size_bytes for tensor in received)
            frame = self._reply(wire.Kind.TENSORS, {"more": bool}, limit=left + wire.MAX_HEADER_BYTES, tensors=True)
            received += frame.tensors
            more = frame.header["more"]
            self._check(received, limits, progress=bool(frame.tensors) or not more)
        return tuple(received)

    def claim(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Return the claimed losses float64[R, T] of int32[R, T+1], all finite."""
        shape = (tokens.shape[0], tokens.shape[1] - 1)
        self._send(wire.Kind.CLAIM, {}, [tensor_of("tokens", tokens)])
        return self._array(wire.Kind.CLAIMS, "losses", shape)

    def probe(self, tokens: npt.NDArray[np.int32], positions: npt.NDArray[np.int32], vocabulary: int) -> npt.NDArray[np.float64]:
        """Return the logits float64[R, V] of the token after ``positions`` int32[R] in int32[R, T], all finite."""
        self._send(wire.Kind.PROBE, {}, [tensor_of("tokens", tokens), tensor_of("positions", positions)])
        return self._array(wire.Kind.LOGITS, "logits", (tokens.shape[0], vocabulary))

    def extend(self, prefix: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Return the claims float64[2, K, S] on int32[K, S], each row a continuation of int32[P]: losses and leads, all finite."""
        self._send(wire.Kind.EXTEND, {}, [tensor_of("prefix", prefix), tensor_of("rows", rows)])
        return self._array(wire.Kind.EXTENDED, "answers", (2, *rows.shape))

    def _array(self, kind: wire.Kind, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        frame = self._reply(kind, {}, limit=SMALL_BYTES + 8 * math.prod(shape), tensors=True)
        try:
            tensor = frame.tensor(name, "f64", shape)
        except wire.WireError as error:
            raise UntrustedInputError("RUN-SHAPE", str(error)) from error
        values: npt.NDArray[np.float64] = np.frombuffer(tensor.data, "<f8").reshape(shape)
        if not np.isfinite(values).all():
            raise UntrustedInputError("RUN-NAN", f"{name} that are not finite")
        return values

    def _ready(self) -> Built:
        fields = {"parameters": int, "flops_per_token": int, "depth": int, "continues": bool}
        header = self._reply(wire.Kind.READY, fields, limit=SMALL_BYTES).header
        self.continues = header["continues"]
        flops, depth = (min(max(header[name], 0), MAX_FLOPS) for name in ("flops_per_token", "depth"))
        return Built(parameters=header["parameters"], flops_per_token=flops, depth=depth)

    def _send(self, kind: wire.Kind, header: Mapping[str, Any] | None = None, tensors: Sequence[wire.Tensor] = ()) -> None:
        self._send_parts(wire.joined(wire.pack(kind, header, tensors)))

    def _send_parts(self, parts: Parts) -> None:
        try:
            for part in parts:
                self._worker.send(part)
        except UntrustedInputError as error:
            self._ours_if_late(error)
            raise

    def _reply(
        self, kind: wire.Kind, fields: Mapping[str, type], *, limit: int, tensors: bool = False, timeout_s: float | None = None
    ) -> wire.Frame:
        """Read the next frame: FAILED becomes its reason, anything but ``kind`` with exactly ``fields`` RUN-SHAPE."""
        frame = self._read(wire.read, kind, limit=limit, timeout_s=timeout_s)
        if frame.kind is not kind or (frame.tensors and not tensors):
            raise _unexpected(frame, kind)
        if {name: type(value) for name, value in frame.header.items()} != fields:
            raise UntrustedInputError("RUN-SHAPE", f"{kind.name} has other fields than {sorted(fields)}")
        return frame

    def _read(self, read: Callable[..., Read], kind: wire.Kind, *, limit: int, timeout_s: float | None = None) -> Read:
        """Read what comes next, before the deadline that a reply has from now."""
        self._deadline = min(time.monotonic() + (timeout_s or self._reply_timeout_s), self._run_deadline)
        try:
            return read(self._receive, limit=limit)
        except wire.WireError as error:
            raise UntrustedInputError("RUN-SHAPE", f"while waiting for {kind.name}: {error}") from error
        except UntrustedInputError as error:
            self._ours_if_late(error)
            raise

    def _last_word(self, error: UntrustedInputError) -> UntrustedInputError:
        """Return the failure that is still to be read from a worker that no longer listens, else ``error``."""
        self._deadline = min(time.monotonic() + LAUNCH_SLACK_S, self._run_deadline)
        try:
            for _ in range(MOST_IN_FLIGHT):
                frame = wire.read(self._receive, limit=SMALL_BYTES)
                if frame.kind is wire.Kind.FAILED:
                    return _failure(frame.header)
        except (wire.WireError, UntrustedInputError):
            pass  # there is no such frame
        return error

    def _receive(self, size: int) -> memoryview:
        view = memoryview(bytearray(size))
        if size:
            self._worker.receive_into(view, max(0.0, self._deadline - time.monotonic()))
        return view

    def _ours_if_late(self, error: UntrustedInputError) -> None:
        if error.code == "RUN-STALL" and time.monotonic() >= self._run_deadline - LAUNCH_SLACK_S:
            raise InfrastructureError(f"the run took longer than its {self._limit_s:.0f} s on this machine", code="OPS-LATE") from error

    @staticmethod
    def _check(received: Sequence[wire.Tensor], limits: TensorLimits, *, progress: bool) -> None:
        names = [tensor.name for tensor in received]
        if not progress or len(names) > limits.tensors or any(a >= b for a, b in itertools.pairwise(names)):
            raise UntrustedInputError("RUN-SHAPE", f"tensors must be unique, sorted by name and at most {limits.tensors}")
        numbers = sum(tensor.size_bytes // wire.ITEM_BYTES[tensor.dtype] for tensor in received)
        if numbers > limits.numbers:
            raise UntrustedInputError("RUN-PARAMS", f"{numbers} numbers in the tensors, limit {limits.numbers}")


def pack_batch(step: int, tokens: npt.NDArray[np.int32]) -> Parts:
    """Return the frame that hands over int32[B, T+1] to train on."""
    return wire.joined(wire.pack(wire.Kind.BATCH, {"step": step}, [tensor_of("tokens", tokens)]))


def tensor_of(name: str, array: npt.NDArray[np.int32]) -> wire.Tensor:
    """Return an int32 array as a tensor of the wire, over the array's own buffer where it is contiguous."""
    contiguous = np.ascontiguousarray(array, dtype="<i4")
    return wire.Tensor(name, "i32", contiguous.shape, contiguous.reshape(-1).view(np.uint8).data)


def _unexpected(frame: wire.Frame, kind: wire.Kind) -> UntrustedInputError:
    """Return what ends a run whose worker sent this in place of ``kind``."""
    if frame.kind is wire.Kind.FAILED:
        return _failure(frame.header)
    return UntrustedInputError("RUN-SHAPE", f"the worker sent {frame.kind.name}, expected {kind.name}")


def _failure(header: Mapping[str, Any]) -> UntrustedInputError:
    code, detail = header.get("code"), header.get("detail")
    if code not in WORKER_CODES or not isinstance(detail, str):
        return UntrustedInputError("RUN-SHAPE", "the worker reported a failure that is none")
    printable = "".join(character if character.isprintable() or character == "\n" else "?" for character in detail[-MAX_DETAIL:])
    return UntrustedInputError(str(code), printable.strip())
