"""How fast training is: tokens per second against this machine's best matrix product, and beside a plain torch training."""

import itertools
import json
import os
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ralph.agent import knobs
from ralph.cli.nodes import open_public_data
from ralph.config import load_config
from ralph.data.dataset import DataSet
from ralph.data.order import TrainingOrder
from ralph.data.stages import Stage
from ralph.errors import InfrastructureError
from ralph.protocol.canonical import open_envelope
from ralph.protocol.rules import Rung
from ralph.repository.genesis import genesis_recipe, variant
from ralph.repository.trees import materialise
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.limits import limits_for
from ralph.sandbox.options import Program
from ralph.train import calibration, host
from ralph.train.plan import Plan, plan
from ralph.train.run import RunJob, RunResult
from ralph_devnet.bench.kills import killed_runs
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import devnet, scratch
from ralph_devnet.processes import python

GOALS = {"C1": "", "C2": ">= 39 %", "C3": ">= 47 %"}
HOST_GOALS = {"C1": "< 3 %", "C2": "< 1 %", "C3": "< 1 %"}
DEPTHS = {32: 2, 64: 2, 128: 4}
"""Width -> blocks, as the recipe's dial gives them."""
PEER = Path(__file__).with_name("peer.py")
TRIAL_STEPS = 30
"""Steps of each trial that tunes the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One rung to be measured on."""

    rung: Rung
    recipe: Path
    data: DataSet
    folder: Path

    @property
    def plan(self) -> Plan:
        """Return what a run does."""
        return plan(self.recipe, self.rung)

    def batches(self, seed: int, rows: int, steps: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Return what the host serves in one stage: int32[steps, rows, T+1]."""
        stage = Stage(steps=steps, batch_rows=rows, sequence=self.plan.sequence)
        order = TrainingOrder(self.data, seed=seed, stages=(stage,), mixture=dict(self.plan.mixture), packing=self.plan.packing)
        return np.stack(list(order.batches(0, steps)))

    def run(self, seed: int) -> RunResult:
        """Train the recipe through the host."""
        job = RunJob(recipe=self.recipe, rung=self.rung, seed=seed, vocabulary=self.data.vocabulary, limits=limits_for(self.rung))
        return host.train(job, sandbox=BubblewrapSandbox(), data=self.data)

    def best_product(self) -> float:
        """Return operations per second of the fastest product at the model's shapes, now."""
        fixed = self.plan
        shapes = calibration.Shapes.of(
            rows=fixed.batch_rows, sequence=fixed.sequence, width=self.rung.width, vocabulary=self.data.vocabulary
        )
        box = BubblewrapSandbox(program=Program(module=calibration.MODULE))
        return calibration.calibrate(box, shapes, limits_for(self.rung)).product_flops

    def peer(self, batches: np.ndarray[Any, np.dtype[np.int32]], *, threads: int, seed: int) -> dict[str, Any]:
        """Train the peer in a process of its own."""
        settings, file = self.folder / "peer.json", self.folder / "batches.npy"
        values = {knob.name: knob.value for knob in knobs.read(genesis_recipe())}
        width = self.rung.width
        shape = {"width": width, "depth": DEPTHS[width], "heads": width // max(16, width // 4), "sequence": self.plan.sequence}
        settings.write_text(json.dumps({**values, **shape, "vocabulary": self.data.vocabulary, "threads": threads, "seed": seed}))
        np.save(file, batches)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = python(str(PEER), str(settings), str(file))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InfrastructureError(f"the peer failed: {done.stderr[-500:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def tuned(self) -> tuple[int, int]:
        """Return (rows, threads) with which the peer is fastest."""
        speeds = {}
        for rows, threads in itertools.product((8, 16, 32, 64), range(1, (os.cpu_count() or 1) + 1)):
            speeds[rows, threads] = self.peer(self.batches(0, rows, TRIAL_STEPS), threads=threads, seed=0)["tokens_per_s"]
        return max(speeds, key=speeds.__getitem__)


def training(context: Context) -> list[Figure]:
    """Measure speed, and what becomes of a run that is killed."""
    return [*throughput(context), *killed_runs(context)]


def throughput(context: Context) -> list[Figure]:
    """Train the genesis recipe and its peer by turns on every CPU rung."""
    net = devnet(context, "train")
    data = open_public_data(load_config(net.config("validator")), net.profile)
    folder = scratch(context, "train-recipe")
    materialise(genesis_recipe(), folder / "recipe")
    materialise(variant(genesis_recipe(), "strong"), folder / "strong")
    figures = []
    for name in GOALS:
        genesis, strong = (
            Course(rung=net.profile.rules.rung(name), recipe=folder / which, data=data, folder=folder) for which in ("recipe", "strong")
        )
        figures += [*_figures(context, genesis), *_alone(context, strong)]
    return figures


def _alone(context: Context, course: Course) -> list[Figure]:
    """Measure the strong configuration, which has no peer; what Muon multiplies is not counted as the model's work."""
    name, speeds, share = course.rung.name, [], []
    for seed in range(context.repeat):
        best, run = course.best_product(), course.run(seed)
        speeds.append(speed(run))
        share.append(100 * speeds[-1] * run.flops_per_token / best)
        context.say(f"train: {name} strong run {seed + 1} of {context.repeat}")
    return [
        Figure.of(f"{name} strong training", "tokens/s", speeds),
        Figure.of(f"{name} strong of the best product", "%", share, goal=GOALS[name]),
    ]


def _figures(context: Context, course: Course) -> list[Figure]:
    name, fixed = course.rung.name, course.plan
    rows, threads = course.tuned()
    context.say(f"train: {name}: the peer is fastest with {rows} rows and {threads} threads")
    runs, products, equal, fastest = [], [], [], []
    for seed in range(context.repeat):
        products.append(course.best_product())
        runs.append(course.run(seed))
        equal.append(course.peer(course.batches(seed, fixed.batch_rows, fixed.steps), threads=1, seed=seed))
        fastest.append(
            course.peer(course.batches(seed, rows, max(TRIAL_STEPS, fixed.steps * fixed.batch_rows // rows)), threads=threads, seed=seed)
        )
        context.say(f"train: {name} run {seed + 1} of {context.repeat}")
    speeds = [speed(run) for run in runs]
    share = [100 * speed * run.flops_per_token / best for speed, run, best in zip(speeds, runs, products, strict=True)]
    return [
        Figure.of(f"{name} best product at its shapes", "GFLOP/s", [best / 1e9 for best in products]),
        Figure.of(f"{name} training", "tokens/s", speeds),
        Figure.of(f"{name} of the best product", "%", share, goal=GOALS[name]),
        Figure.of(f"{name} host / worker CPU time", "%", [100 * run.host_cpu_s / run.worker_cpu_s for run in runs], goal=HOST_GOALS[name]),
        Figure.of(f"{name} peer, same batch, one thread", "tokens/s", [run["tokens_per_s"] for run in equal]),
        Figure.of(f"{name} peer, {rows} rows, {threads} threads", "tokens/s", [run["tokens_per_s"] for run in fastest]),
        Figure.of(
            f"{name} speed / peer's at the same batch and threads",
            "",
            [ours / run["tokens_per_s"] for ours, run in zip(speeds, equal, strict=True)],
        ),
        Figure.of(f"{name} loss curve less the peer's", "sigma of seeds, tenth by tenth", _apart(runs, equal), goal="within 3"),
    ]


def step_seconds(run: RunResult) -> list[float]:
    """Return how long every step took, boundaries included."""
    return [one / 1e6 for one in open_envelope(host.TIMING_TAG, run.timing, limit=len(run.timing))]


def speed(run: RunResult) -> float:
    """Return tokens per second without the first step of each stage, which meets new shapes."""
    firsts = [0, *itertools.accumulate(stage.steps for stage in run.plan.stages[:-1])]
    met = sum(stage.step_tokens for stage in run.plan.stages)
    seconds = step_seconds(run)
    return (run.plan.tokens - met) / (sum(seconds) - sum(seconds[first] for first in firsts))


def _apart(runs: list[RunResult], peers: list[dict[str, Any]]) -> list[float]:
    """Return for every tenth of the steps how far the mean losses are apart, in standard deviations of a seed's mean loss there."""
    curves = ([run.losses for run in runs], [run["losses"] for run in peers])
    apart = []
    for tenth in range(10):
        ours, theirs = ([float(np.array_split(losses, 10)[tenth].mean()) for losses in side] for side in curves)
        sigma = ((statistics.variance(ours) + statistics.variance(theirs)) / 2) ** 0.5 if len(ours) > 1 else float("inf")
        apart.append((statistics.fmean(ours) - statistics.fmean(theirs)) / sigma)
    return apart
