"""A sandbox in this process whose worker is a few lines of numpy, honest or hostile. It speaks the real wire.

It implements ``interfaces.Sandbox`` and records what the host sends when, so that tests can say what a worker got to see.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from ralph.errors import UntrustedInputError
from ralph.interfaces import SandboxSpec
from ralph.train import wire

VOCABULARY = 40


class Bigram:
    """An honest model: a table of logits, the loaded weights. Hostile models override a method."""

    def __init__(self) -> None:
        self.table = np.zeros((VOCABULARY, VOCABULARY))

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        logits = self.table[tokens[:, :-1]]
        picked = np.take_along_axis(logits, tokens[:, 1:, None].astype(np.int64), 2)[:, :, 0]
        return np.log(np.exp(logits).sum(2)) - picked

    def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return self.table[tokens[np.arange(len(positions)), positions]]


@dataclass(kw_only=True)
class SimulatedWorker:
    """Implements ``interfaces.SandboxedWorker``."""

    model: Bigram
    number: int
    events: list[tuple[int, str]]
    recorded: bool = True
    frames: list[wire.Frame] = field(default_factory=list)
    _inbox: bytearray = field(default_factory=bytearray)
    _outbox: bytearray = field(default_factory=bytearray)
    _dead: bool = False

    def __post_init__(self) -> None:
        self._reply(wire.Kind.HELLO, {"python": "3", "torch": "none", "cpu": "numpy", "threads": 1})

    def send(self, data: bytes | bytearray | memoryview) -> None:
        if self._dead:
            raise UntrustedInputError("RUN-CRASH", "sent to a dead worker")
        self._inbox += data
        while len(self._inbox) >= 4 and len(self._inbox) >= 4 + struct.unpack_from("<I", self._inbox)[0]:
            position = 0
            whole = bytes(self._inbox)

            def take(size: int) -> memoryview:
                nonlocal position
                position += size
                return memoryview(whole)[position - size : position]  # noqa: B023 - used before the loop goes on

            frame = wire.read(take)
            del self._inbox[:position]
            self._answer(frame)

    def receive_into(self, buffer: memoryview, timeout_s: float) -> None:
        if self._dead or len(self._outbox) < len(buffer):
            raise UntrustedInputError("RUN-STALL", "nothing to receive")
        buffer[:] = self._outbox[: len(buffer)]
        del self._outbox[: len(buffer)]

    def stderr_tail(self) -> str:
        return ""

    def cpu_seconds(self) -> float:
        return 0.25

    def peak_memory_bytes(self) -> int:
        return 0

    def supervision_cpu_seconds(self) -> float:
        return 0.0

    def kill(self) -> None:
        if not self._dead:
            self.events.append((self.number, "killed"))
        self._dead = True

    def _answer(self, frame: wire.Frame) -> None:
        if self.recorded:
            self.events.append((self.number, frame.kind.name))
            self.frames.append(frame)
        arrays = [np.frombuffer(tensor.data, {"i32": "<i4", "f32": "<f4"}[tensor.dtype]).reshape(tensor.shape) for tensor in frame.tensors]
        match frame.kind:
            case wire.Kind.SETUP:
                self._reply(wire.Kind.READY, {"parameters": VOCABULARY**2, "flops_per_token": 0, "depth": 0, "continues": False})
            case wire.Kind.LOAD:
                self.model.table = arrays[0].astype(np.float64)
                self._reply(wire.Kind.READY, {"parameters": VOCABULARY**2, "flops_per_token": 0, "depth": 0, "continues": False})
            case wire.Kind.CLAIM:
                self._array(wire.Kind.CLAIMS, "losses", self.model.claim(*arrays))
            case wire.Kind.PROBE:
                self._array(wire.Kind.LOGITS, "logits", self.model.probe(*arrays))

    def _array(self, kind: wire.Kind, name: str, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, "<f8").tobytes()
        self._reply(kind, {}, [wire.Tensor(name, "f64", values.shape, data)])

    def _reply(self, kind: wire.Kind, header: dict[str, object], tensors: list[wire.Tensor] | None = None) -> None:
        self._outbox += b"".join(wire.pack(kind, header, tensors or []))


@dataclass(kw_only=True)
class SimulatedSandbox:
    """Implements ``interfaces.Sandbox``; ``models`` is called once for every launch, with its number.

    What is sent is not kept where ``recorded`` is false: it is as large as all rows.
    """

    models: Callable[[int], Bigram]
    name: str = "simulated"
    recorded: bool = True
    events: list[tuple[int, str]] = field(default_factory=list)
    workers: list[SimulatedWorker] = field(default_factory=list)

    @contextmanager
    def launch(self, spec: SandboxSpec) -> Iterator[SimulatedWorker]:
        worker = SimulatedWorker(model=self.models(len(self.workers)), number=len(self.workers), events=self.events, recorded=self.recorded)
        self.workers.append(worker)
        self.events.append((worker.number, "launched"))
        yield worker
        worker.kill()
