"""`ralph train`: train a recipe once, by the same host code, in the same sandbox and with the same budget as a validator.

A run has a directory. It can be killed at any time and goes on with ``--resume``, to the same bytes.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ralph.agent import knobs
from ralph.cli.models import BATCH_ROWS, open_recipe, open_rung, public_rows
from ralph.cli.output import JsonOption, Meter, emit, progress
from ralph.cli.sandboxes import open_sandbox
from ralph.cli.snapshots import Snapshots
from ralph.config import default_home, load_config
from ralph.data.dataset import DataSet, Rows
from ralph.evaluate import claims
from ralph.evaluate.estimator import bits_per_byte
from ralph.interfaces import Sandbox
from ralph.protocol.canonical import digest, open_envelope
from ralph.protocol.network import LADDER
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import Rung
from ralph.repository.genesis import variant as configured
from ralph.repository.trees import materialise
from ralph.sandbox.limits import limits_for
from ralph.sandbox.options import Program
from ralph.sandbox.preflight import Attackable
from ralph.train import calibration, host
from ralph.train.calibration import Shapes
from ralph.train.directory import finish, identity, journal_of
from ralph.train.journal import Identity, Journal
from ralph.train.run import RunJob, RunResult, StepReport
from ralph.train.sinks import Sink, Track, open_sink

DOCUMENTS = 256
"""Public validation documents that are scored."""
KEY_TAG = "recipe-net/cli-train-order/v1"
MEBI = 1 << 20


def train(
    rung: Annotated[str, typer.Option(help=f"Scale: {', '.join(one.name for one in LADDER)}, smallest first.")] = "C1",
    recipe: Annotated[Path | None, typer.Option(help="Directory of a recipe; by default the genesis recipe.")] = None,
    variant: Annotated[str, typer.Option(help="Configuration of the recipe: config/NAME.toml takes the place of base.toml.")] = "base",
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="The same seed gives the same run, bit for bit.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Public data; by default those of --config, else HOME/data/public.")] = None,
    config: Annotated[Path | None, typer.Option(help="A node's TOML, for its data, its network's ladder and its sandbox.")] = None,
    documents: Annotated[int, typer.Option(min=1, help="Public validation documents to score at the end.")] = DOCUMENTS,
    out: Annotated[Path | None, typer.Option(help="Directory of the run; by default one of its own under HOME/runs.")] = None,
    ranks: Annotated[int, typer.Option(min=1, max=64, help="Processes that train together, each on its share of every batch.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the same run after a kill, at its last boundary.")] = False,
    snapshots: Annotated[bool, typer.Option("--snapshots", help="Measure the model at every boundary, in two more sandboxes.")] = False,
    track: Annotated[Track | None, typer.Option(help="Also show the steps in TensorBoard files or at Weights & Biases.")] = None,
    json: JsonOption = False,
) -> None:
    """Train a recipe once and print what a bundle would claim of the run.

    The value at the end is the recipe's own claim on public documents. What counts is measured by
    validators, on other seeds and hidden documents.
    """
    scale, opened = open_rung(rung, data, config)
    tree = configured(open_recipe(recipe), variant)
    rows = public_rows(opened, documents, scale)
    directory = (out or default_home() / "runs" / f"{scale.name}-{tree.digest().hex()[:8]}-{seed}").absolute()
    run = identity(tree=tree.digest(), rung=scale, seed=seed, data=opened.manifest.digest(), ranks=ranks)
    journal = journal_of(directory, run, resume=resume)
    sandbox = open_sandbox(load_config(config) if config is not None else None)
    with tempfile.TemporaryDirectory(prefix="ralph-train-") as folder:
        materialise(tree, Path(folder) / "recipe")
        limits = limits_for(scale, ranks=ranks)
        job = RunJob(recipe=Path(folder) / "recipe", rung=scale, seed=seed, vocabulary=opened.vocabulary, limits=limits)
        best = _best_product(job, run, tree, sandbox)
        with progress(f"train {scale.name}", quiet=json) as meter, _sink(track, directory, run) as sink:
            measured = Snapshots(directory, job=job, sandbox=sandbox, data=opened, rows=rows, resume=resume) if snapshots else None
            result, val_bpb = _run(job, sandbox, opened, rows, journal, measured, meter, best, sink)
    value = _value(result, val_bpb, tree.digest(), scale, len(rows), best)
    if measured is not None:
        value["snapshots"] = {str(step): snapshot for step, snapshot in measured.found.items()}
    finish(journal, result, value)
    value["directory"] = str(directory)
    emit(value, list(_lines(value)), as_json=json)


@contextmanager
def _sink(track: Track | None, directory: Path, run: Identity) -> Iterator[Sink | None]:
    """Open the sink that was asked for, and close it also when the run fails."""
    if track is None:
        yield None
        return
    sink = open_sink(track, directory, dict(run))
    try:
        yield sink
    finally:
        sink.close()


def _best_product(job: RunJob, run: Identity, tree: RecipeTree, sandbox: Attackable) -> float:
    """Return operations per second of this machine's best matrix product at a rank's shapes and in the recipe's type, times the ranks."""
    fixed, rung, ranks = host.fixed_plan(job), job.rung, job.limits.ranks
    shapes = Shapes.of(rows=fixed.batch_rows // ranks, sequence=fixed.sequence, width=rung.width, vocabulary=job.vocabulary)
    precision = next((knob.value for knob in knobs.read(tree) if knob.name == "precision"), "auto")
    dtype = "bf16" if precision == "bf16" or (precision == "auto" and rung.device == "cuda") else "f32"
    machine = {name: run[name] for name in ("python", "torch", "processor")} | {"shapes": repr(shapes), "dtype": dtype}
    place = default_home() / "calibration" / f"{rung.name}-{dtype}.json"
    box, one = sandbox.running(Program(module=calibration.MODULE)), limits_for(rung)
    found = calibration.remembered(place, machine, lambda: calibration.calibrate(box, shapes, one, device=rung.device, dtype=dtype))
    return ranks * found.product_flops


def _run(
    job: RunJob,
    sandbox: Sandbox,
    data: DataSet,
    rows: Rows,
    journal: Journal,
    measured: Snapshots | None,
    meter: Meter,
    best: float,
    sink: Sink | None,
) -> tuple[RunResult, float]:
    """Train and ask for the claimed losses on public documents."""

    def report(step: StepReport) -> None:
        speed = step.tokens_now / step.wall_s if step.wall_s > 0 else 0.0
        left = (step.steps - step.step) * step.wall_s / max(1, step.steps_now)
        rates = f"{speed:,.0f} tokens/s, {speed * step.flops_per_token / best:.0%} of the best product"
        if sink is not None:
            sink.report(step)
        meter.update(step.step, step.steps, f"loss {step.loss_nats:.4f} nats, {rates}, {left:.0f} s left")

    with host.start(job, sandbox=sandbox, data=data) as run:
        result = run.train(on_step=report, states=measured, journal=journal)
        losses = claims.collect(run.claim, rows, batch_rows=BATCH_ROWS, key=digest(KEY_TAG, {"seed": job.seed}))
    return result, bits_per_byte(float(np.sum(losses)), int(rows.byte_counts.sum()))


def _value(result: RunResult, val_bpb: float, tree: bytes, rung: Rung, documents: int, best: float) -> dict[str, Any]:
    training_s = sum(_microseconds(result)) / 1e6
    return {
        "rung": rung.name,
        "seed": result.seed,
        "tree": tree.hex(),
        "transcript_root": result.transcript_root.hex(),
        "segments_root": result.segments_root.hex(),
        "weights": result.weights_digest.hex(),
        "tokens_served": result.served_digest.hex(),
        "documents": documents,
        "final_loss_nats": result.final_loss_nats,
        "val_bpb": val_bpb,
        "training_seconds": round(training_s, 3),
        "total_seconds": round(result.wall_s, 3),
        "peak_memory_mb": round(result.peak_memory_bytes / MEBI, 1),
        "mfu_percent": round(100 * result.plan.tokens * result.flops_per_token / training_s / best, 2),
        "total_tokens_M": result.plan.tokens / 1e6,
        "num_steps": result.plan.steps,
        "num_params_M": result.parameters / 1e6,
        "depth": result.depth,
    }


def _microseconds(result: RunResult) -> list[int]:
    steps: list[int] = open_envelope(host.TIMING_TAG, result.timing, limit=len(result.timing))
    return steps


def _lines(value: dict[str, Any]) -> Iterator[str]:
    yield f"rung {value['rung']}, seed {value['seed']}, tree {value['tree']}"
    yield f"weights, transcript and summary: {value['directory']}"
    for name in ("transcript_root", "segments_root", "weights", "tokens_served"):
        yield f"{name}: {value[name]}"
    yield f"val_bpb is the recipe's own claim on {value['documents']} public documents"
    for step, snapshot in value.get("snapshots", {}).items():
        yield f"after step {step}: {snapshot:.6f} bpb, measured"
    yield "---"
    yield f"val_bpb:          {value['val_bpb']:.6f}"
    yield f"training_seconds: {value['training_seconds']:.1f}"
    yield f"total_seconds:    {value['total_seconds']:.1f}"
    yield f"peak_memory_mb:   {value['peak_memory_mb']:.1f}"
    yield f"mfu_percent:      {value['mfu_percent']:.2f}"
    yield f"total_tokens_M:   {value['total_tokens_M']:.3f}"
    yield f"num_steps:        {value['num_steps']}"
    yield f"num_params_M:     {value['num_params_M']:.6f}"
    yield f"depth:            {value['depth']}"
