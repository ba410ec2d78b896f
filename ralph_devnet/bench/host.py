"""What the host costs: its CPU time as a part of the worker's, at C1 and C2, and the time to start a worker."""

from ralph.cli.nodes import open_public_data
from ralph.config import load_config
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import materialise
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.limits import limits_for
from ralph.train import host
from ralph.train.run import RunJob
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import devnet, scratch

GOALS = {"C1": "", "C2": "< 3 %"}


def host_overhead(context: Context) -> list[Figure]:
    """Train the genesis recipe on two rungs and compare CPU times of the same run."""
    net = devnet(context, "host")
    data = open_public_data(load_config(net.config("validator")), net.profile)
    recipe = scratch(context, "host-recipe") / "recipe"
    materialise(genesis_recipe(), recipe)
    sandbox = BubblewrapSandbox()
    figures = []
    for name, goal in GOALS.items():
        rung = net.profile.rules.rung(name)
        runs = []
        for seed in range(context.repeat):
            job = RunJob(recipe=recipe, rung=rung, seed=seed, vocabulary=data.vocabulary, limits=limits_for(rung))
            runs.append(host.train(job, sandbox=sandbox, data=data))
            context.say(f"host: {name} run {seed + 1} of {context.repeat}")
        figures += [
            Figure.of(f"{name} host / worker CPU time", "%", [100 * run.host_cpu_s / run.worker_cpu_s for run in runs], goal=goal),
            Figure.of(f"{name} worker CPU time", "s", [run.worker_cpu_s for run in runs]),
            Figure.of(f"{name} wall time", "s", [run.wall_s for run in runs]),
            Figure.of(f"{name} tokens per worker CPU second", "1/s", [run.plan.tokens / run.worker_cpu_s for run in runs]),
            Figure.of(f"{name} peak memory", "MiB", [run.peak_memory_bytes / 2**20 for run in runs]),
        ]
    return figures
