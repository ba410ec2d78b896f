"""A model in a sandbox: the recipe built and foreign weights loaded, ready to answer claims and probes."""

from collections.abc import Sequence
from pathlib import Path

from ralph.interfaces import SandboxedWorker
from ralph.protocol.rules import Rung
from ralph.sandbox.limits import limits_for
from ralph.train import wire
from ralph.train.budget import check_parameters
from ralph.train.channel import WorkerChannel
from ralph.train.plan import plan

SEED = 0
"""Scoring draws nothing; all its sandboxes are seeded alike."""


def open_model(worker: SandboxedWorker, *, recipe: Path, rung: Rung, vocabulary: int, tensors: Sequence[wire.Tensor]) -> WorkerChannel:
    """Build the recipe and load the weights in a started sandbox.

    Raises:
        UntrustedInputError: what a recipe may do wrong, ``RUN-PARAMS`` among it.
    """
    limits = limits_for(rung)
    fixed = plan(recipe, rung)
    channel = WorkerChannel(worker, deadline_s=limits.timeout_s)
    channel.hello()
    built = channel.setup(
        {
            "mode": "score",
            "width": rung.width,
            "sequence": rung.sequence,
            "vocabulary": vocabulary,
            "batch_rows": fixed.batch_rows,
            "steps": fixed.steps,
            "threads": limits.threads,
            "seed": SEED,
            "ranks": limits.ranks,
            "device": rung.device,
        }
    )
    check_parameters(built.parameters, rung)
    channel.load(tensors)
    return channel
