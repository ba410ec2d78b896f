"""A model to be scored: a recipe and foreign weights, started in as many fresh sandboxes as a measurement needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ralph.interfaces import Sandbox, SandboxedWorker, SandboxSpec
from ralph.protocol.rules import Rung
from ralph.sandbox.limits import limits_for
from ralph.train import finite, wire
from ralph.train.budget import check_parameters
from ralph.train.channel import WorkerChannel
from ralph.train.host import weight_limits
from ralph.train.plan import plan
from ralph.train.safetensors_header import parse

SEED = 0
"""Scoring draws nothing; all its sandboxes are seeded alike."""


@dataclass(slots=True, kw_only=True, eq=False)
class Model:
    """A model and where it runs; counts the CPU time of its sandboxes.

    Args:
        sandbox: Where the recipe's code runs.
        recipe: A materialised recipe tree.
        weights: The model's safetensors file, foreign bytes.
        rung: Shape and limits.
        vocabulary: Number of token ids V.

    Raises:
        UntrustedInputError: Weights that are no such file, too large, or not finite.
    """

    sandbox: Sandbox
    recipe: Path
    weights: bytes = field(repr=False)
    rung: Rung
    vocabulary: int
    worker_cpu_s: float = field(init=False, default=0.0)
    """Of all sandboxes so far."""
    tensors: tuple[wire.Tensor, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.tensors = parse(self.weights, weight_limits(self.rung))
        finite.check(self.tensors)

    @contextmanager
    def start(self) -> Iterator[SandboxedWorker]:
        """Start a sandbox, and destroy it at the end. The recipe is not touched in it before ``open``."""
        with self.sandbox.launch(SandboxSpec(recipe=self.recipe, limits=limits_for(self.rung))) as worker:
            try:
                yield worker
            finally:
                worker.kill()
                self.worker_cpu_s += worker.cpu_seconds()

    def open(self, worker: SandboxedWorker) -> WorkerChannel:
        """Build the recipe and load the weights in a started sandbox.

        Raises:
            UntrustedInputError: What a recipe may do wrong, ``RUN-PARAMS`` among it.
        """
        rung, limits, fixed = self.rung, limits_for(self.rung), plan(self.recipe, self.rung)
        channel = WorkerChannel(worker, deadline_s=limits.timeout_s)
        channel.hello()
        built = channel.setup(
            {
                "mode": "score",
                "width": rung.width,
                "sequence": rung.sequence,
                "vocabulary": self.vocabulary,
                "batch_rows": fixed.batch_rows,
                "steps": fixed.steps,
                "threads": limits.threads,
                "seed": SEED,
                "ranks": limits.ranks,
                "device": rung.device,
            }
        )
        check_parameters(built.parameters, rung)
        channel.load(self.tensors)
        return channel
