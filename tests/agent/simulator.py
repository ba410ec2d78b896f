"""A sandbox in this process that reads the recipe's real configuration and answers with losses of a known function of it.

It implements ``interfaces.Sandbox`` and speaks the real wire, so everything of the agent but the training itself is real.
"""

import struct
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.interfaces import SandboxSpec
from ralph.train import wire

Values = Mapping[str, object]
Level = Callable[[Values, int], float | None]
"""Values of all knobs and the seed -> loss per token in nats; None crashes the run."""


@dataclass(kw_only=True)
class SimulatedWorker:
    """Implements ``interfaces.SandboxedWorker``."""

    values: Values
    level: Level
    cpu_s: float = 0.5
    _loss: float | None = None
    _inbox: bytearray = field(default_factory=bytearray)
    _outbox: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._reply(wire.Kind.HELLO, {"python": "3", "torch": "none", "cpu": "numpy", "threads": 1})

    def send(self, data: bytes | bytearray | memoryview) -> None:
        self._inbox += data
        while len(self._inbox) >= 4 and len(self._inbox) >= 4 + struct.unpack_from("<I", self._inbox)[0]:
            whole, position = bytes(self._inbox), 0

            def take(size: int) -> memoryview:
                nonlocal position
                position += size
                return memoryview(whole)[position - size : position]  # noqa: B023 - used before the loop goes on

            frame = wire.read(take)
            del self._inbox[:position]
            self._answer(frame)

    def receive_into(self, buffer: memoryview, timeout_s: float) -> None:
        if len(self._outbox) < len(buffer):
            raise UntrustedInputError("RUN-STALL", "nothing to receive")
        buffer[:] = self._outbox[: len(buffer)]
        del self._outbox[: len(buffer)]

    def stderr_tail(self) -> str:
        return "printed by the recipe"

    def cpu_seconds(self) -> float:
        return self.cpu_s

    def peak_memory_bytes(self) -> int:
        return 250_000_000

    def supervision_cpu_seconds(self) -> float:
        return 0.0

    def kill(self) -> None:
        pass

    def _answer(self, frame: wire.Frame) -> None:
        tensor = wire.Tensor("w", "f32", (1,), bytes(4))
        match frame.kind:
            case wire.Kind.SETUP:
                self._loss = self.level(self.values, int(frame.header["seed"]))
                self._reply(wire.Kind.READY, {"parameters": 1, "flops_per_token": 0, "depth": 0, "continues": False})
            case wire.Kind.BATCH if self._loss is None:
                self._reply(wire.Kind.FAILED, {"code": "RUN-NAN", "detail": "Traceback\nFloatingPointError: loss is nan"})
            case wire.Kind.BATCH:
                number = struct.pack("<d", self._loss or 0.0)
                self._reply(wire.Kind.STEPPED, {"step": frame.header["step"], "loss": number, "gradient_norm": number})
            case wire.Kind.STATE | wire.Kind.WEIGHTS:
                self._reply(wire.Kind.TENSORS, {"more": False}, [tensor])
            case wire.Kind.CLAIM:
                rows, width = frame.tensors[0].shape
                losses = np.full((rows, width - 1), self._loss, "<f8")
                self._reply(wire.Kind.CLAIMS, {}, [wire.Tensor("losses", "f64", losses.shape, losses.tobytes())])

    def _reply(self, kind: wire.Kind, header: dict[str, object], tensors: list[wire.Tensor] | None = None) -> None:
        self._outbox += b"".join(wire.pack(kind, header, tensors or []))


@dataclass(kw_only=True)
class SimulatedSandbox:
    """Implements ``interfaces.Sandbox``. ``fails_at`` names the launch that our own side spoils, counted from 0."""

    level: Level
    name: str = "simulated"
    launches: int = 0
    fails_at: int | None = None

    @contextmanager
    def launch(self, spec: SandboxSpec) -> Iterator[SimulatedWorker]:
        number, self.launches = self.launches, self.launches + 1
        if number == self.fails_at:
            raise InfrastructureError("the machine is on fire")
        knobs = tomllib.loads((spec.recipe / "config" / "base.toml").read_text(encoding="utf-8"))
        yield SimulatedWorker(values={name: table["value"] for name, table in knobs.items()}, level=self.level)


def noise(seed: int, *subjects: object) -> float:
    """Return a standard normal number that depends on nothing but the arguments."""
    words = [seed % 2**32, seed // 2**32, *np.frombuffer(repr(subjects).encode().ljust(64, b" ")[:64], np.uint32)]
    return float(np.random.default_rng(words).standard_normal())
