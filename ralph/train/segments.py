"""Training states at segment boundaries: their bytes, their digests and the Merkle root over them.

A state is a set of named tensors, stored as a safetensors file, and its digest is the plain SHA-256 of that file: the key
under which a content-addressed store keeps it. The root is the Merkle tree hash of RFC 6962 section 2.1 over one
domain-separated leaf per boundary, so one state can later be shown to belong to a run without the others.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import envelope
from ralph.protocol.merkle import tree_hash
from ralph.train import safetensors, wire
from ralph.train.safetensors_header import TensorLimits, parse

LEAF_TAG = "recipe-net/segment-boundary/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """The training state after ``step`` steps."""

    step: int
    digest: bytes
    data: bytes = field(repr=False)
    """The state as a safetensors file; SHA-256 of it is ``digest``."""

    def tensors(self, limits: TensorLimits) -> tuple[wire.Tensor, ...]:
        """Return the named tensors of a foreign state, over its own bytes.

        Raises:
            UntrustedInputError: ``FRD-SEGMENT`` when the bytes are not those of the digest, else as the header's parser.
        """
        if hashlib.sha256(self.data).digest() != self.digest:
            raise UntrustedInputError("FRD-SEGMENT", f"the state of step {self.step} does not have the digest {self.digest.hex()[:16]}")
        return parse(self.data, limits)


class StateSink(Protocol):
    """Where a run's states go."""

    def keep(self, boundary: Boundary) -> None:
        """Take one state; called in the order of the steps."""
        ...


class MemoryStates:
    """A StateSink that keeps everything in memory: for short runs and for the next segment check."""

    def __init__(self) -> None:
        self.boundaries: list[Boundary] = []

    def keep(self, boundary: Boundary) -> None:
        """Append the state."""
        self.boundaries.append(boundary)


def commit(step: int, tensors: Sequence[wire.Tensor], *sinks: StateSink) -> bytes:
    """Return the digest of a state, and hand its bytes to every sink."""
    parts = safetensors.parts(tensors)
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    digest = hasher.digest()
    if sinks:
        boundary = Boundary(step=step, digest=digest, data=b"".join(parts))
        for sink in sinks:
            sink.keep(boundary)
    return digest


def root(steps: Sequence[int], digests: Sequence[bytes]) -> bytes:
    """Return the Merkle root over (step, state digest) pairs in order."""
    return tree_hash([envelope(LEAF_TAG, [step, digest]) for step, digest in zip(steps, digests, strict=True)])
