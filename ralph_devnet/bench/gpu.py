"""What a GPU does with S1 to S3: speed, compilation, memory, two kinds of attention side by side, and the noise between seeds.

Text is what `ralph data prepare` has put into `gpu-data` below the benchmark's home; by default the standard library of this Python with a
BPE of its own, which S1 sees in many passes: good for speed and for noise, not for comparing losses with anybody else's. On a machine
without a GPU there are no figures, and that is said.
"""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from ralph.agent.bench import Bench
from ralph.cli.models import public_exam, public_rows
from ralph.data.dataset import DataSet
from ralph.data.layout import read_manifest
from ralph.data.shards import open_data, prepare
from ralph.errors import ConfigurationError, InfrastructureError
from ralph.evaluate.calibrate import calibrate
from ralph.evaluate.loading import Model
from ralph.protocol.data import DataManifest
from ralph.protocol.network import LADDER, devnet_rules
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import Rung
from ralph.repository.genesis import genesis_recipe, variant
from ralph.repository.trees import materialise
from ralph.sandbox import gpu
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train.run import RunResult
from ralph_devnet.bench.ablation import changed
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.throughput import Course, speed, step_seconds
from ralph_devnet.bench.world import scratch

VOCABULARY = 32_768
PEAK_FLOPS = {"H100": 989.4e12, "H200": 989.4e12, "B200": 2250e12, "A100": 312e12}
"""Dense bfloat16 peak by a word of the card's name, from NVIDIA's data sheets."""
STEADY_STEPS = 200
MEETING_STEPS = 10
"""Enough for the first step of every stage, and a sum of which a stage of 0.3 is whole, so that windows and rows grow at the same step."""
AGREEMENT_STEPS = 20
MISMATCH_STEPS = 60
PROBES = 2000
PROBED_DOCUMENTS = 128
SEEDS = 5
SAMPLE_S = 0.5
SMI = ("nvidia-smi", "--query-gpu=name,memory.used", "--format=csv,noheader,nounits", "--id=0")


def gpus(context: Context) -> list[Figure]:
    """Measure S1 and S2 whole and S3 over steady steps, where this machine has a GPU."""
    try:
        gpu.require(1)
    except ConfigurationError as error:
        context.say(f"gpu: nothing is measured: {error.detail}")
        return []
    folder = context.home / "gpu-data"
    if not folder.is_dir():
        prepare(folder, hidden=context.home / "gpu-hidden", vocabulary=VOCABULARY)
    data = open_data(folder, expect=read_manifest(folder, DataManifest).digest())
    scene = Scene(context=context, data=data, tree=variant(genesis_recipe(), "strong"), peak=peak())
    small, middle, large = (rung for rung in LADDER if rung.device == "cuda")
    steady = shortened(large, scene, STEADY_STEPS + MEETING_STEPS)
    figures = [*scene.whole(steady), *scene.mismatch(shortened(large, scene, MISMATCH_STEPS)), *scene.whole(small), *scene.whole(middle)]
    return [*figures, *scene.agreement(shortened(small, scene, AGREEMENT_STEPS)), *scene.noise(small)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What all of these measurements share."""

    context: Context
    data: DataSet
    tree: RecipeTree
    peak: float | None
    """Operations per second of the card; None where it is not known."""
    seeds: int = SEEDS

    def course(self, rung: Rung, tree: RecipeTree) -> Course:
        """Return a place to train one tree on one rung."""
        folder = scratch(self.context, f"gpu-{rung.name}")
        materialise(tree, folder / "recipe")
        return Course(rung=rung, recipe=folder / "recipe", data=self.data, folder=folder)

    def whole(self, rung: Rung) -> list[Figure]:
        """Train once; return speed, efficiency, the first step and the card's memory."""
        with watched() as memory:
            run = self.course(rung, self.tree).run(0)
        name, tokens_per_s = f"{rung.name}, {run.plan.steps} steps", speed(run)
        figures = [
            Figure.of(f"{name}: training", "tokens/s", [tokens_per_s], goal=">= 520k on an H200" if rung.name == "S3" else ""),
            Figure.of(f"{name}: first step, compilation included", "s", [step_seconds(run)[0]]),
            Figure.of(f"{name}: all steps", "s", [sum(step_seconds(run))]),
            Figure.of(f"{name}: passes over the text", "", [self.passes(run)]),
        ]
        if memory.peaks:
            figures.append(Figure.of(f"{name}: memory of the card at its peak", "MiB", [max(memory.peaks)]))
        if self.peak is not None:
            share = 100 * tokens_per_s * run.flops_per_token / self.peak
            figures.append(Figure.of(f"{name}: MFU", "% of the dense bf16 peak", [share], goal=">= 42 %" if rung.name == "S3" else ""))
        self.context.say(f"gpu: {name}: {tokens_per_s:,.0f} tokens/s")
        return figures

    def passes(self, run: RunResult) -> float:
        """Return how often the text was seen, all sources together."""
        return run.plan.tokens / sum(shard.token_count for source in self.data.manifest.sources for shard in source.shards)

    def agreement(self, rung: Rung) -> list[Figure]:
        """Train a few steps with attention written out and fused; return how far the losses are apart."""
        plain, fused = (
            self.course(rung, changed(self.tree, {"attention": kind, "window_pattern": "L", "window_warmup": 0.0})).run(0).losses
            for kind in ("plain", "fused")
        )
        apart = [abs(one - other) for one, other in zip(plain, fused, strict=True)]
        name = f"{rung.name}, {len(apart)} steps: losses with plain and fused attention apart"
        return [Figure(name=name, unit="nats", median=sorted(apart)[len(apart) // 2], low=min(apart), high=max(apart), repetitions=1)]

    def mismatch(self, rung: Rung) -> list[Figure]:
        """Train a little, claim and probe; return how far an honest model's claims and probes are apart."""
        course = self.course(rung, self.tree)
        model = Model(
            sandbox=BubblewrapSandbox(),
            recipe=course.recipe,
            weights=course.run(0).weights,
            rung=rung,
            vocabulary=self.data.vocabulary,
        )
        exam = public_exam(model, public_rows(self.data, PROBED_DOCUMENTS, rung), probes=PROBES, key=os.urandom(32))
        found = calibrate(exam, probes=PROBES)
        sizes = np.abs(found.mismatch)
        name = f"{rung.name}: claims and probes of an honest model apart, root mean square"
        return [
            Figure(name=name, unit="nats", median=found.rms_nats, low=float(sizes.min()), high=float(sizes.max()), repetitions=sizes.size)
        ]

    def noise(self, rung: Rung) -> list[Figure]:
        """Train several seeds; return the mean of val_bpb and its standard deviation."""
        rules = devnet_rules(genesis_tree=bytes(32), manifest=bytes(32), vocabulary=self.data.vocabulary, hidden=bytes(32), sources=())
        bench = Bench(
            sandbox=BubblewrapSandbox(), data=self.data, rules=rules, rung=rung, scratch=scratch(self.context, "gpu-noise"), documents=2000
        )
        found = []
        for seed in range(self.seeds):
            run = bench.run(self.tree, seed)
            if run.val_bpb is None:
                raise InfrastructureError(f"a run on {rung.name} failed: {run.failure}")
            found.append(run.val_bpb)
            self.context.say(f"gpu: {rung.name}, seed {seed}: {run.val_bpb:.5f} bpb")
        sigma = stdev(found)
        return [
            Figure.of(f"{rung.name}: val_bpb over {len(found)} seeds", "bpb", found),
            Figure(name=f"{rung.name}: sigma of val_bpb", unit="bpb", median=sigma, low=sigma, high=sigma, repetitions=len(found)),
            Figure.of(f"{rung.name}: mean of val_bpb", "bpb", [fmean(found)]),
        ]


def shortened(rung: Rung, scene: Scene, steps: int) -> Rung:
    """Return the rung with a budget of so many steps of the main stage, of which the first stage is a part, and no boundary on the way."""
    fixed = scene.course(rung, scene.tree).plan
    return rung.model_copy(update={"tokens": steps * fixed.batch_rows * fixed.sequence, "segments": 1})


def peak() -> float | None:
    """Return the dense bfloat16 peak of the first card, by its name."""
    name = _smi()[0]
    return next((flops for word, flops in PEAK_FLOPS.items() if word in name), None)


@dataclass(slots=True)
class Memory:
    """What the card held, MiB, as the driver says."""

    peaks: list[int] = field(default_factory=list)
    failure: InfrastructureError | None = None


@contextmanager
def watched() -> Iterator[Memory]:
    """Read the card's memory again and again; nothing is read where there is no card."""
    memory, stop = Memory(), threading.Event()

    def watch() -> None:
        try:
            while not stop.wait(SAMPLE_S):
                memory.peaks.append(int(_smi()[1]))
        except InfrastructureError as error:
            memory.failure = error

    thread = threading.Thread(target=watch, daemon=True)
    if Path("/dev/nvidiactl").exists():
        thread.start()
    try:
        yield memory
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()
    if memory.failure is not None:
        raise memory.failure


def _smi() -> list[str]:
    try:
        printed = subprocess.run(SMI, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise InfrastructureError(f"nvidia-smi does not answer: {error}") from error
    return [part.strip() for part in printed.strip().split(",")]
