"""What the host costs: its CPU time as a part of the worker's, what it costs to start, and how long workers wait for it.

Counted as the host's are all threads that work for a run, from the moment the worker stands to the result: the one that makes the
batches, sends, reads, hashes and writes the transcript, and the one that watches the sandbox. Counted as the worker's is all CPU time
in the sandbox. Starting and ending a sandbox is a figure of its own, for this process only: the launcher's processes are in neither.
"""

import time
from dataclasses import dataclass

from ralph.cli.nodes import open_public_data
from ralph.config import load_config
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import materialise
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.limits import limits_for
from ralph.train import host
from ralph.train.run import RunJob, RunResult
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import devnet, scratch

GOALS = {"C1": "< 3 %", "C2": "< 1 %", "C3": "< 1 %"}
WAIT_GOAL = "< 1 %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costed:
    """A run, and the CPU seconds of this process that starting and ending its sandbox took."""

    run: RunResult
    start_cpu_s: float


def host_overhead(context: Context) -> list[Figure]:
    """Train the genesis recipe on every CPU rung and compare CPU times of the same run."""
    net = devnet(context, "host")
    data = open_public_data(load_config(net.config("validator")), net.profile)
    recipe = scratch(context, "host-recipe") / "recipe"
    materialise(genesis_recipe(), recipe)
    sandbox = BubblewrapSandbox()
    figures = []
    for name in GOALS:
        rung = net.profile.rules.rung(name)
        runs = []
        for seed in range(context.repeat):
            job = RunJob(recipe=recipe, rung=rung, seed=seed, vocabulary=data.vocabulary, limits=limits_for(rung))
            before = time.process_time()
            run = host.train(job, sandbox=sandbox, data=data)
            runs.append(Costed(run=run, start_cpu_s=time.process_time() - before - run.host_cpu_s))
            context.say(f"host: {name} run {seed + 1} of {context.repeat}")
        figures += _figures(name, runs)
    return figures


def _figures(name: str, costed: list[Costed]) -> list[Figure]:
    runs = [one.run for one in costed]
    shares = [100 * run.host_cpu_s / run.worker_cpu_s for run in runs]
    waits = [100 * run.worker_waits_s / run.wall_s for run in runs]
    return [
        Figure.of(f"{name} host / worker CPU time", "%", shares, goal=GOALS[name]),
        Figure.of(f"{name} start and end of the sandbox, host CPU time", "ms", [1000 * one.start_cpu_s for one in costed]),
        Figure.of(f"{name} worker waits for its next batch, of wall time", "%", waits, goal=WAIT_GOAL),
        Figure.of(f"{name} worker CPU time", "s", [run.worker_cpu_s for run in runs]),
        Figure.of(f"{name} wall time", "s", [run.wall_s for run in runs]),
        Figure.of(f"{name} tokens per worker CPU second", "1/s", [run.plan.tokens / run.worker_cpu_s for run in runs]),
        Figure.of(f"{name} peak memory", "MiB", [run.peak_memory_bytes / 2**20 for run in runs]),
    ]
