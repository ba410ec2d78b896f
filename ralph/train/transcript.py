"""The hash-chained log of a run: one entry per step, without clocks, so that it repeats bit for bit.

An entry is [step, tokens served so far, loss, gradient norm, boundary]: the two numbers as the 8 bytes of a little-endian
float64, the boundary as the digest of the training state committed after this step, or null. Each link is the digest of the
link before it and its entry; the first link is the digest of the head (seed, plan, state at the start), and the last one is the
root. What the worker reported stays a claim; the chain says only that nobody edited it afterwards.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any, NoReturn

from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import digest, envelope, open_envelope, real_text
from ralph.train import segments
from ralph.train.plan import Plan

TAG = "recipe-net/transcript/v1"
HEAD_TAG = "recipe-net/transcript-head/v1"
LINK_TAG = "recipe-net/transcript-link/v1"
MAX_BYTES = 16 * 1024 * 1024
_F64 = struct.Struct("<d")


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptSummary:
    """What a verified transcript says."""

    root: bytes
    seed: int
    losses: tuple[float, ...]
    """The worker's training loss of every step, in nats."""
    gradient_norms: tuple[float, ...]
    boundaries: tuple[bytes, ...]
    """State digests at the plan's boundaries, step 0 first."""
    segments_root: bytes


class TranscriptWriter:
    """Builds a transcript while the run goes on.

    Entries and links are made when somebody asks for them, many in a row: between two steps the host does as little as it can.
    """

    def __init__(self, *, seed: int, plan: Plan, start_step: int, start_state: bytes) -> None:
        self._plan, self._head = plan, _head(seed, plan, start_step, start_state)
        self._steps: list[tuple[int, bytes, bytes, bytes | None]] = []
        self._entries: list[list[Any]] = []
        self._root = digest(HEAD_TAG, self._head)
        self.boundaries = {start_step: start_state}
        """Step -> digest of the state committed there."""

    @classmethod
    def continued(cls, data: bytes, plan: Plan) -> "TranscriptWriter":
        """Return a writer that goes on after the last entry of a transcript from step 0.

        Raises:
            UntrustedInputError: as ``verify``.
        """
        seed, start, entries, _ = _opened(data, plan, limit=MAX_BYTES)
        writer = cls(seed=seed, plan=plan, start_step=0, start_state=start)
        for step, _, loss, norm, boundary in entries:
            writer.append(step=step, loss=loss, gradient_norm=norm, boundary=boundary)
        return writer

    @property
    def root(self) -> bytes:
        """Return the link of the last entry so far."""
        for step, loss, gradient_norm, boundary in self._steps[len(self._entries) :]:
            entry = [step, self._plan.tokens_after(step), loss, gradient_norm, boundary]
            self._entries.append(entry)
            self._root = _link(self._root, entry)
        return self._root

    @property
    def losses(self) -> list[float]:
        """Return the loss of every step so far, in nats."""
        return [float_of(loss) for _, loss, _, _ in self._steps]

    @property
    def gradient_norms(self) -> list[float]:
        """Return the gradient norm of every step so far."""
        return [float_of(gradient_norm) for _, _, gradient_norm, _ in self._steps]

    def append(self, *, step: int, loss: bytes, gradient_norm: bytes, boundary: bytes | None) -> None:
        """Add the entry of one step."""
        self._steps.append((step, loss, gradient_norm, boundary))
        if boundary is not None:
            self.boundaries[step] = boundary

    def to_bytes(self) -> bytes:
        """Return the whole transcript."""
        root = self.root
        return envelope(TAG, {"head": self._head, "entries": self._entries, "root": root})


def verify(data: bytes, plan: Plan, *, limit: int = MAX_BYTES) -> TranscriptSummary:
    """Check foreign bytes: a transcript of a whole run over ``plan``, one unbroken chain.

    Raises:
        UntrustedInputError: ``INT-SIZE``, ``INT-SCHEMA`` when it is no canonical CBOR, else ``FRD-CHAIN``.
    """
    seed, start, entries, root = _opened(data, plan, limit=limit)
    if len(entries) != plan.steps:
        _broken(f"it must have {plan.steps} entries")
    digests = (start, *(entry[4] for entry in entries if entry[4] is not None))
    return TranscriptSummary(
        root=root,
        seed=seed,
        losses=tuple(float_of(entry[2]) for entry in entries),
        gradient_norms=tuple(float_of(entry[3]) for entry in entries),
        boundaries=digests,
        segments_root=segments.root(plan.boundaries, digests),
    )


def _opened(data: bytes, plan: Plan, *, limit: int) -> tuple[int, bytes, list[list[Any]], bytes]:
    """Return seed, state at step 0, entries and root of an unbroken chain over the first steps of ``plan``."""
    value = open_envelope(TAG, data, limit=limit)
    if not isinstance(value, dict) or set(value) != {"head", "entries", "root"}:
        _broken("it is no transcript")
    head, entries = value["head"], value["entries"]
    if not isinstance(head, dict):
        _broken("it has no head")
    seed, start = head.get("seed"), head.get("start_state")
    if type(seed) is not int or not isinstance(start, bytes) or len(start) != 32 or head != _head(seed, plan, 0, start):
        _broken("its head does not name this plan from step 0")
    if not isinstance(entries, list) or len(entries) > plan.steps:
        _broken(f"it must have {plan.steps} entries")
    root = digest(HEAD_TAG, head)
    for step, entry in enumerate(entries, start=1):
        _check_entry(entry, step, plan)
        root = _link(root, entry)
    if root != value["root"]:
        _broken("its root is not the last link of its entries")
    return seed, start, entries, root


def float_of(data: bytes) -> float:
    """Return the float64 of 8 little-endian bytes."""
    number: float = _F64.unpack(data)[0]
    return number


def _head(seed: int, plan: Plan, start_step: int, start_state: bytes) -> dict[str, Any]:
    return {
        "seed": seed,
        "stages": [[stage.steps, stage.batch_rows, stage.sequence] for stage in plan.stages],
        "segments": plan.segments,
        "mixture": [[source, real_text(weight)] for source, weight in plan.mixture],
        "packing": plan.packing,
        "start_step": start_step,
        "start_state": start_state,
    }


def _link(previous: bytes, entry: list[Any]) -> bytes:
    return digest(LINK_TAG, [previous, entry])


def _check_entry(entry: Any, step: int, plan: Plan) -> None:
    if not isinstance(entry, list) or len(entry) != 5 or type(entry[0]) is not int or type(entry[1]) is not int:
        _broken(f"entry {step} is not [step, tokens, loss, gradient norm, boundary]")
    if entry[0] != step or entry[1] != plan.tokens_after(step):
        _broken(f"entry {step} counts step {entry[0]} and {entry[1]} tokens")
    for number in entry[2:4]:
        if not isinstance(number, bytes) or len(number) != _F64.size or not math.isfinite(float_of(number)):
            _broken(f"entry {step} has a number that is no finite float64")
    if _is_digest(entry[4]) != (step in plan.boundaries) or (entry[4] is not None and step not in plan.boundaries):
        _broken(f"entry {step} has a state digest where the plan has none, or none where it has one")


def _is_digest(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == 32


def _broken(detail: str) -> NoReturn:
    raise UntrustedInputError("FRD-CHAIN", f"transcript: {detail}")
