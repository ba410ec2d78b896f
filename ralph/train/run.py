"""What goes into a run and what comes out of it."""

from dataclasses import dataclass, field
from pathlib import Path

from ralph.interfaces import SandboxLimits
from ralph.protocol.rules import Rung
from ralph.train.channel import REPLY_TIMEOUT_S
from ralph.train.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJob:
    """One training to run."""

    recipe: Path
    """A materialised recipe tree."""
    rung: Rung
    seed: int
    vocabulary: int
    limits: SandboxLimits
    reply_timeout_s: float = REPLY_TIMEOUT_S
    """Longest wait for one answer of the worker, a step for example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One finished step, for progress displays."""

    step: int
    steps: int
    tokens: int
    """Trained since step 0."""
    steps_now: int
    """Made by this process, which may have continued another's run."""
    tokens_now: int
    """Trained in them."""
    loss_nats: float
    gradient_norm: float
    flops_per_token: int
    """Floating-point operations, as the recipe says; 0 when it does not."""
    wall_s: float
    """Seconds since this process's first step began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A finished run. Losses are the worker's claims; everything else is the host's."""

    plan: Plan
    seed: int
    transcript: bytes = field(repr=False)
    transcript_root: bytes
    timing: bytes = field(repr=False)
    """Envelope of the microseconds that each step took, the state of a boundary included, and the weights in the last one. It does
    not repeat, and no record holds anything of it."""
    timing_digest: bytes
    segments: tuple[bytes, ...]
    """State digests at the plan's boundaries, step 0 first."""
    segments_root: bytes
    served_digest: bytes
    """SHA-256 over the token batches of all steps in order, int32 little-endian: the same for every number of ranks."""
    weights: bytes = field(repr=False)
    """Parameters and buffers of the model as a safetensors file."""
    weights_digest: bytes
    parameters: int
    flops_per_token: int
    """Floating-point operations, as the recipe says; 0 when it does not."""
    depth: int
    """Blocks, as the recipe says; 0 when it does not."""
    final_loss_nats: float
    """Mean training loss of the last tenth of the steps."""
    losses: tuple[float, ...] = field(repr=False)
    gradient_norms: tuple[float, ...] = field(repr=False)
    worker_cpu_s: float
    host_cpu_s: float
    """CPU seconds of the thread that drives the run and of the one that watches the sandbox, from the moment the worker stands to
    this result. Not in it: starting and ending the sandbox, and the launcher's own processes."""
    wall_s: float
    training_s: float
    """Seconds of the steps after the first, states and weights included: what a limit of time looks at."""
    worker_waits_s: float
    """Seconds between a step's numbers and the next batch, in which the worker waits for the host. Handing over a state, at which it
    works itself, is not in it; the host's hashing of the state is."""
    peak_memory_bytes: int
    hello: dict[str, str | int]
    """Python, torch, CPU capability and threads as the worker saw them before the recipe was imported."""
