"""`ralph calibrate`: how far claims and probes of an honest model are apart on this machine."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ralph.cli.models import open_recipe, open_rung, public_exam, public_rows
from ralph.cli.output import JsonOption, emit, progress
from ralph.cli.sandboxes import open_sandbox
from ralph.config import load_config
from ralph.evaluate.calibrate import QUANTILES, Calibrated, calibrate
from ralph.evaluate.loading import Model
from ralph.protocol.network import LADDER
from ralph.repository.genesis import variant
from ralph.repository.trees import materialise
from ralph.sandbox.limits import limits_for
from ralph.train import host
from ralph.train.run import RunJob, StepReport


def calibrate_command(
    rung: Annotated[str, typer.Option(help=f"Scale: {', '.join(one.name for one in LADDER)}, smallest first.")] = "C1",
    recipe: Annotated[Path | None, typer.Option(help="Directory of a recipe that you trust; by default the genesis recipe.")] = None,
    configuration: Annotated[str, typer.Option("--variant", help="Configuration: config/NAME.toml takes the place of base.toml.")] = "base",
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Of the training.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Public data; by default those of --config, else HOME/data/public.")] = None,
    config: Annotated[Path | None, typer.Option(help="A node's TOML, for its data, its network's ladder and its sandbox.")] = None,
    documents: Annotated[int, typer.Option(min=1, help="Public validation documents.")] = 1024,
    probes: Annotated[int, typer.Option(min=100, help="Cells that are probed.")] = 20_000,
    json: JsonOption = False,
) -> None:
    """Train a trusted recipe, claim and probe it, and print the tolerance that its mismatches suggest for the Rules.

    On a CPU both are the same to 1e-14 nats. In bfloat16 on a GPU they are not, and what is honest depends on the card.
    """
    scale, opened = open_rung(rung, data, config)
    tree = variant(open_recipe(recipe), configuration)
    sandbox = open_sandbox(load_config(config) if config is not None else None)
    with tempfile.TemporaryDirectory(prefix="ralph-calibrate-") as folder, progress(f"calibrate {scale.name}", quiet=json) as meter:
        materialise(tree, Path(folder) / "recipe")
        job = RunJob(recipe=Path(folder) / "recipe", rung=scale, seed=seed, vocabulary=opened.vocabulary, limits=limits_for(scale))

        def report(step: StepReport) -> None:
            meter.update(step.step, step.steps, f"loss {step.loss_nats:.4f} nats")

        trained = host.train(job, sandbox=sandbox, data=opened, on_step=report)
        model = Model(sandbox=sandbox, recipe=job.recipe, weights=trained.weights, rung=scale, vocabulary=opened.vocabulary)
        exam = public_exam(model, public_rows(opened, documents, scale), probes=probes, key=os.urandom(32))
        found = calibrate(exam, probes=probes)
    value = _value(found, rung=scale.name, tree=tree.digest())
    emit(value, list(_lines(value)), as_json=json)


def _value(found: Calibrated, *, rung: str, tree: bytes) -> dict[str, Any]:
    names = [*(f"{100 * quantile:g}%" for quantile in QUANTILES), "largest"]
    return {
        "rung": rung,
        "tree": tree.hex(),
        "device": found.device,
        "probes": found.mismatch.size,
        "rms_nats": found.rms_nats,
        "mean_nats": found.mean_nats,
        "mismatch_nats": dict(zip(names, found.quantiles(), strict=True)),
        "tolerance": found.tolerance().model_dump(),
    }


def _lines(value: dict[str, Any]) -> Iterator[str]:
    yield f"rung {value['rung']} on {value['device']}, tree {value['tree']}, {value['probes']} probes of an honest model"
    yield f"probe less claim: root mean square {value['rms_nats']:.3g} nats, mean {value['mean_nats']:.3g} nats"
    yield "size: " + ", ".join(f"{name} {size:.3g}" for name, size in value["mismatch_nats"].items())
    yield "suggested for the Rules: " + ", ".join(f"{name} {limit}" for name, limit in value["tolerance"].items())
