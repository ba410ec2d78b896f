"""The host's end of the wire against a scripted worker: whatever it says, the host has a reason code."""

import struct
import time
from typing import Any

import cbor2
import numpy as np
import pytest

from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.train import wire
from ralph.train.channel import WorkerChannel
from ralph.train.safetensors_header import TensorLimits

LIMITS = TensorLimits(tensors=3, numbers=100, size_bytes=800)
TOKENS = np.zeros((2, 5), np.int32)
FINE = {"step": 1, "loss": bytes(8), "gradient_norm": bytes(8)}


class Scripted:
    """A worker whose replies are fixed beforehand, and who stalls when they are used up."""

    def __init__(self, replies: bytes) -> None:
        self.sent = bytearray()
        self._replies = memoryview(replies)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def receive_into(self, buffer: memoryview, timeout_s: float) -> None:
        if len(self._replies) < len(buffer):
            raise UntrustedInputError("RUN-STALL", f"no complete answer within {timeout_s:g} s")
        buffer[:] = self._replies[: len(buffer)]
        self._replies = self._replies[len(buffer) :]

    def stderr_tail(self) -> str:
        return ""

    def cpu_seconds(self) -> float:
        return 0.0

    def peak_memory_bytes(self) -> int:
        return 0

    def supervision_cpu_seconds(self) -> float:
        return 0.0

    def kill(self) -> None:
        return None


def frame(kind: wire.Kind, header: dict[str, Any], tensors: tuple[wire.Tensor, ...] = ()) -> bytes:
    return b"".join(wire.pack(kind, header, tensors))


def channel(*replies: bytes, deadline_s: float = 100.0) -> WorkerChannel:
    return WorkerChannel(Scripted(b"".join(replies)), deadline_s=deadline_s)


def tensor(name: str, count: int) -> wire.Tensor:
    return wire.Tensor(name, "f32", (count,), bytes(4 * count))


def part(*tensors: wire.Tensor, more: bool = False) -> bytes:
    return frame(wire.Kind.TENSORS, {"more": more}, tensors)


def test_a_step_returns_the_bits_that_were_reported() -> None:
    assert channel(frame(wire.Kind.STEPPED, FINE)).stepped(1) == (bytes(8), bytes(8))


def stepped(header: bytes, *, behind: bytes = b"") -> bytes:
    """Return a frame of the kind that answers a step, whatever is in it."""
    return struct.pack("<IBI", 5 + len(header) + len(behind), wire.Kind.STEPPED, len(header)) + header + behind


REPLIES = {
    "another step": frame(wire.Kind.STEPPED, {**FINE, "step": 2}),
    "an answer a byte short": stepped(bytes(23)),
    "an answer a byte long": stepped(bytes(25)),
    "an answer of nothing": stepped(b""),
    "an answer with something behind it": stepped(bytes(24), behind=bytes(4)),
    "an answer in CBOR": stepped(cbor2.dumps({**FINE, "tensors": []}, canonical=True)),
    "the claims that nobody asked for": frame(wire.Kind.CLAIMS, {}, (tensor("losses", 8),)),
    "a second greeting": frame(wire.Kind.HELLO, {"python": "3", "torch": "2", "cpu": "x", "threads": 1}),
    "another kind": frame(wire.Kind.READY, {"parameters": 1}),
    "a kind that is none": b"\x06\x00\x00\x00\x63\x01\x00\x00\x00\xa0",
    "a frame of 4 GiB": b"\xff" * 32,
    "a large answer": stepped(bytes(20_000)),
    "a large frame": frame(wire.Kind.READY, {"note": "x" * 20_000}),
    "a failure that is none": frame(wire.Kind.FAILED, {"code": "OPS-INFRA", "detail": "ours"}),
    "a failure without words": frame(wire.Kind.FAILED, {"code": "RUN-CRASH", "detail": 7}),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_step_answered_with(name: str) -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        channel(REPLIES[name]).stepped(1)
    assert refusal.value.code == "RUN-SHAPE"


def test_a_reported_failure_keeps_its_code_and_loses_its_escapes() -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        channel(frame(wire.Kind.FAILED, {"code": "RUN-OOM", "detail": "a\x1b[2Jb\n" + "x" * 5000})).stepped(1)
    assert refusal.value.code == "RUN-OOM"
    assert "\x1b" not in refusal.value.detail
    assert len(refusal.value.detail) <= 2000


def test_silence_is_a_stall_and_near_the_judges_deadline_it_is_theirs() -> None:
    with pytest.raises(UntrustedInputError, match="RUN-STALL"):
        channel().stepped(1)
    with pytest.raises(InfrastructureError):
        channel(deadline_s=0.0).stepped(1)


def test_a_worker_that_never_says_hello_is_our_failure() -> None:
    for reply in (b"", frame(wire.Kind.READY, {"parameters": 1})):
        with pytest.raises(InfrastructureError):
            channel(reply).hello()


def test_tensors_arrive_over_several_frames() -> None:
    received = channel(part(tensor("a", 3), more=True), part(tensor("b", 2))).tensors(wire.Kind.STATE, LIMITS)
    assert [(one.name, one.shape) for one in received] == [("a", (3,)), ("b", (2,))]


def declared(size: int, *, shape: int) -> bytes:
    """Return the beginning of a frame that announces a tensor of ``shape`` numbers and ``size`` bytes, and nothing behind it."""
    header = cbor2.dumps({"more": False, "tensors": [["a", "f32", [shape]]]}, canonical=True)
    return struct.pack("<IBI", 5 + len(header) + size, wire.Kind.TENSORS, len(header)) + header


SERIES = {
    "a gibibyte declared and nothing sent": ("RUN-SHAPE", [declared((1 << 30) - 100, shape=(1 << 28) - 25)]),
    "other bytes than its shape declares": ("RUN-SHAPE", [declared(400, shape=200)]),
    "a shape beyond all frames": ("RUN-SHAPE", [declared(400, shape=1 << 40)]),
    "a step in its place": ("RUN-SHAPE", [frame(wire.Kind.STEPPED, FINE)]),
    "the same name twice": ("RUN-SHAPE", [part(tensor("a", 1), more=True), part(tensor("a", 1))]),
    "names out of order": ("RUN-SHAPE", [part(tensor("b", 1), tensor("a", 1))]),
    "too many tensors": ("RUN-SHAPE", [part(*(tensor(name, 1) for name in "abcd"))]),
    "empty frames without end": ("RUN-SHAPE", [part(more=True)] * 9),
    "too many numbers": ("RUN-PARAMS", [part(tensor("a", 60), more=True), part(tensor("b", 41))]),
    "too many bytes": ("RUN-SHAPE", [part(tensor("a", 100), more=True), part(tensor("b", 40_000))]),
    "more that is a number": ("RUN-SHAPE", [frame(wire.Kind.TENSORS, {"more": 1}, (tensor("a", 1),))]),
}


@pytest.mark.parametrize("name", SERIES)
def test_a_state_with(name: str) -> None:
    code, replies = SERIES[name]
    with pytest.raises(UntrustedInputError) as refusal:
        channel(*replies).tensors(wire.Kind.STATE, LIMITS)
    assert refusal.value.code == code


@pytest.fixture(params=["claim", "probe"])
def asked(request: pytest.FixtureRequest) -> tuple[str, wire.Kind, Any]:
    positions = np.zeros(2, np.int32)
    calls = {
        "claim": ("losses", wire.Kind.CLAIMS, lambda open_channel: open_channel.claim(TOKENS)),
        "probe": ("logits", wire.Kind.LOGITS, lambda open_channel: open_channel.probe(TOKENS, positions, 4)),
    }
    return calls[request.param]


def test_answers_have_exactly_the_expected_shape_and_are_finite(asked: tuple[str, wire.Kind, Any]) -> None:
    name, kind, ask = asked

    def answered(values: np.ndarray, *, under: str = name, dtype: str = "f64") -> np.ndarray:
        return ask(channel(frame(kind, {}, (wire.Tensor(under, dtype, values.shape, values.tobytes()),))))

    assert np.array_equal(answered(np.ones((2, 4))), np.ones((2, 4)))
    with pytest.raises(UntrustedInputError, match="RUN-NAN"):
        answered(np.full((2, 4), np.inf))
    for values, under, dtype in (
        (np.ones((2, 5)), name, "f64"),
        (np.ones((4, 2)), name, "f64"),
        (np.ones((2, 4), np.float32), name, "f32"),
        (np.ones((2, 4)), "other", "f64"),
    ):
        with pytest.raises(UntrustedInputError, match="RUN-SHAPE"):
            answered(values, under=under, dtype=dtype)


def test_answers_to_continued_rows_have_exactly_the_expected_shape() -> None:
    prefix, rows = np.zeros(3, np.int32), np.zeros((2, 4), np.int32)

    def answered(values: np.ndarray) -> np.ndarray:
        tensor = wire.Tensor("answers", "f64", values.shape, values.tobytes())
        return channel(frame(wire.Kind.EXTENDED, {}, (tensor,))).extend(prefix, rows)

    assert answered(np.ones((2, 2, 4))).shape == (2, 2, 4)
    for shape in ((2, 4), (1, 2, 4), (2, 4, 2)):
        with pytest.raises(UntrustedInputError, match="RUN-SHAPE"):
            answered(np.ones(shape))
    with pytest.raises(UntrustedInputError, match="RUN-NAN"):
        answered(np.full((2, 2, 4), np.nan))


@pytest.mark.parametrize("continues", [None, 1, "yes"])
def test_a_worker_says_plainly_whether_it_continues_prefixes(continues: object) -> None:
    header = {"parameters": 1, "flops_per_token": 0, "depth": 0}
    with pytest.raises(UntrustedInputError, match="RUN-SHAPE"):
        channel(frame(wire.Kind.READY, header if continues is None else {**header, "continues": continues})).setup({})
    able = channel(frame(wire.Kind.READY, {**header, "continues": True}))
    assert not able.continues
    able.setup({})
    assert able.continues


def test_a_reply_that_drips_cannot_outlast_its_deadline() -> None:
    """Every piece of a frame is waited for until the same moment."""
    asked_for: list[float] = []

    class Dripping(Scripted):
        def receive_into(self, buffer: memoryview, timeout_s: float) -> None:
            asked_for.append(time.monotonic() + timeout_s)
            super().receive_into(buffer, timeout_s)

    open_channel = WorkerChannel(Dripping(part(*(tensor(name, 1) for name in "abc"))), deadline_s=1000.0, reply_timeout_s=50.0)
    open_channel.tensors(wire.Kind.STATE, LIMITS)
    assert len(asked_for) == 5
    assert max(asked_for) - min(asked_for) < 1.0
