"""The outside world as small Protocols: one file per implementation, none of them named here."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A block as the chain reports it."""

    number: int
    hash: bytes
    timestamp: float
    """Unix seconds, as the block's author wrote it."""
    finalised: int
    """Number of the newest block that cannot be reverted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neuron:
    """One registered hotkey at a pinned block."""

    uid: int
    hotkey: str
    coldkey: str
    stake: int
    validator_permit: bool
    last_update: int
    registered_at: int
    incentive: int
    """Emission earned so far, in the chain's smallest unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metagraph:
    """All registered hotkeys at one block."""

    block: int
    neurons: tuple[Neuron, ...]

    def by_hotkey(self) -> dict[str, Neuron]:
        """Return hotkey -> neuron."""
        return {neuron.hotkey: neuron for neuron in self.neurons}


@dataclass(frozen=True, slots=True, kw_only=True)
class DrandRound:
    """One round of the public randomness beacon."""

    number: int
    signature: bytes


class Chain(Protocol):
    """A Bittensor chain, seen through one hotkey.

    Raises ``ChainUnavailable`` when there is no answer in time and ``ChainRejected`` when the chain
    says no. A failed read is unknown, never zero and never empty.
    """

    async def head(self) -> Head: ...
    async def block_hash(self, block: int) -> bytes: ...
    async def drand_after(self, block: int) -> DrandRound | None:
        """Return the first drand round that is later than ``block``, or None while there is none."""
        ...

    async def snapshot(self, block: int) -> Metagraph: ...
    async def commitments(self, block: int) -> dict[str, bytes]:
        """Return hotkey -> slot in the state of ``block``."""
        ...

    async def commit(self, payload: bytes) -> int:
        """Overwrite our slot; return the block the extrinsic lands in."""
        ...

    async def set_weights(self, weights: dict[str, int], *, version_key: int) -> int:
        """Set weights by hotkey (u16 scale); return the block it lands in."""
        ...

    async def weights(self, block: int) -> dict[str, dict[str, int]]:
        """Return validator hotkey -> hotkey -> weight in the state of ``block``."""
        ...

    async def owner_hotkey(self) -> str: ...
    async def allow(self, block: int) -> None:
        """Tell a barrier-driven chain that we need nothing before ``block``; no effect elsewhere."""
        ...

    async def close(self) -> None: ...


class BundleStore(Protocol):
    """A content-addressed store: sha256 -> bytes, plus a few named references.

    Raises ``StoreUnavailable`` when the store does not answer or does not have the object, and
    ``UntrustedInputError`` (``INT-SIZE``, ``INT-HASH``) when what it has is not what was asked for.
    """

    def put(self, data: bytes) -> bytes: ...
    def get(self, digest: bytes, *, limit: int) -> bytes: ...
    def has(self, digest: bytes) -> bool: ...
    def put_named(self, name: str, data: bytes) -> None: ...
    def get_named(self, name: str, *, limit: int) -> bytes: ...


class PrivateStore(BundleStore, Protocol):
    """A BundleStore on this machine that nobody else writes to, with objects that need not fit in memory."""

    def put(self, data: bytes | memoryview) -> bytes: ...
    def map(self, digest: bytes, *, limit: int) -> memoryview:
        """Return what ``get`` does, read-only and left on the disk."""
        ...


class Signer(Protocol):
    """A key that can sign 32-byte domain digests."""

    @property
    def key_id(self) -> str: ...
    def sign(self, digest: bytes) -> bytes: ...


class RecordSigner(Signer, Protocol):
    """A Signer whose public key is endorsed by a hotkey."""

    @property
    def public_key(self) -> bytes: ...


class Clock(Protocol):
    """Time as an argument."""

    def now(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What a worker may use: memory, processes, open files and threads for each rank, the rest for the whole sandbox."""

    memory_bytes: int
    processes: int
    open_files: int
    file_bytes: int
    tmp_bytes: int
    timeout_s: float
    """Wall-clock deadline for the whole life of the sandbox."""
    threads: int = 1
    gpus: int = 0
    """The first so many GPUs of the machine are inside; memory is then that of the machine, not of the cards."""
    ranks: int = 1
    """Processes that train together over the sandbox's own loopback; one has no sockets at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What to start: our worker over one read-only recipe directory."""

    recipe: Path
    limits: SandboxLimits


class SandboxedWorker(Protocol):
    """A running sandbox with its one channel."""

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Write all bytes to the channel. Raises ``UntrustedInputError`` RUN-STALL or RUN-CRASH."""
        ...

    def receive_into(self, buffer: memoryview, timeout_s: float) -> None:
        """Fill ``buffer`` from the channel before the deadline. Raises ``UntrustedInputError`` RUN-STALL or RUN-CRASH."""
        ...

    def stderr_tail(self) -> str:
        """Return the end of what the worker printed, at most 4 KiB, made printable."""
        ...

    def cpu_seconds(self) -> float:
        """Return CPU seconds used inside the sandbox so far (final after ``kill``)."""
        ...

    def peak_memory_bytes(self) -> int: ...
    def supervision_cpu_seconds(self) -> float:
        """Return CPU seconds that the host's own threads have spent on watching this sandbox."""
        ...

    def kill(self) -> None:
        """End every process inside and wait until none is left. Idempotent."""
        ...


class Sandbox(Protocol):
    """A launcher of sandboxes."""

    name: str

    def launch(self, spec: SandboxSpec) -> AbstractContextManager[SandboxedWorker]: ...


class Executor(Protocol):
    """Where trainings and evaluations run. Results come back in the order of the jobs, each as soon as it can."""

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]: ...
