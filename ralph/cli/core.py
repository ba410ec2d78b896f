"""`ralph core`: the public bundle of CORE-22, its items, and what a model answers to them.

A score is measured as validators measure it: answers are claims of one sandbox, probed in another.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ralph.cli import private
from ralph.cli.errors import Exit
from ralph.cli.models import BATCH_ROWS, open_recipe, open_rung, open_weights
from ralph.cli.output import JsonOption, emit, progress
from ralph.cli.sandboxes import open_sandbox
from ralph.config import load_config, load_profile
from ralph.data.dataset import DataSet
from ralph.data.tokenizer import open_tokenizer
from ralph.errors import ConfigurationError
from ralph.evaluate.core22.bundle import Bundle, open_bundle
from ralph.evaluate.core22.download import download
from ralph.evaluate.core22.examining import Examination, Examined, examine, starting
from ralph.evaluate.core22.guarded import Setting, audited_examination
from ralph.evaluate.core22.manifest import Manifest, build
from ralph.evaluate.core22.results import Result, TaskResult, grade
from ralph.evaluate.core22.tasks import Table
from ralph.evaluate.loading import Model
from ralph.protocol.canonical import digest
from ralph.protocol.network import DEVNET_EXAM, LADDER
from ralph.protocol.rules import Rung
from ralph.repository.trees import materialise

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Fetch, show and score downstream tasks.")
app.add_typer(private.app, name="private")

KEY_TAG = "recipe-net/cli-core/v1"
DIGEST_DIGITS = 64

TaskOption = Annotated[list[str] | None, typer.Option("--task", help="Label of a task. Repeatable; by default all that are there.")]
ItemsOption = Annotated[int | None, typer.Option("--items", min=1, help="The first items of each task; by default all.")]


@app.callback()
def _group() -> None:
    """Fetch, show and score downstream tasks."""


@app.command()
def fetch(
    url: Annotated[str, typer.Argument(help="https address of the bundle, a zip file.")],
    out: Annotated[Path, typer.Argument(help="Where the file goes.")],
    sha256: Annotated[str, typer.Option(help="SHA-256 of the file, 64 hexadecimal digits. Pin it: nothing else is trusted.")],
    json: JsonOption = False,
) -> None:
    """Fetch a bundle, keep it only if it has the pinned digest, and print what it holds. A file that is there already is kept."""
    try:
        pinned = bytes.fromhex(sha256 if len(sha256) == DIGEST_DIGITS else "none")
    except ValueError as error:
        raise ConfigurationError(f"--sha256 {sha256!r} is not {DIGEST_DIGITS} hexadecimal digits") from error
    download(url, sha256=pinned, destination=out)
    show(out, json=json)


@app.command()
def show(
    bundle: Annotated[Path, typer.Argument(help="Folder or zip file of the bundle.")],
    task: TaskOption = None,
    items: ItemsOption = None,
    ids: Annotated[bool, typer.Option("--ids", help="Also print the id of every item.")] = False,
    config: Annotated[Path | None, typer.Option(help="A node's TOML: say whether its Rules guard these very items; exit 1 if not.")] = None,
    json: JsonOption = False,
) -> None:
    """Print the tasks of a bundle, how many items each has, and the digest that names them for the Rules."""
    manifest = _chosen(open_bundle(bundle), task, items)
    value = _manifest_value(manifest)
    lines = [*_manifest_lines(manifest)]
    if ids:
        value["ids"] = [str(item) for entry in manifest.entries for item in entry.ids()]
        lines += value["ids"]
    status = Exit.OK
    if config is not None:
        status, said = _compared(manifest, config)
        value["guarded"] = status is Exit.OK
        lines.append(said)
    emit(value, lines, as_json=json)
    raise typer.Exit(status)


@app.command()
def score(
    bundle: Annotated[Path, typer.Argument(help="Folder or zip file of the bundle.")],
    weights: Annotated[Path, typer.Option(help="Weights of a trained model: weights.safetensors of a run of `ralph train`.")],
    recipe: Annotated[Path | None, typer.Option(help="Directory of its recipe; by default the genesis recipe.")] = None,
    rung: Annotated[str, typer.Option(help=f"Scale of the model: {', '.join(one.name for one in LADDER)}.")] = "C1",
    data: Annotated[
        Path | None, typer.Option(help="Public data, for the tokenizer; by default those of --config, else HOME/data/public.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A node's TOML, for its data, its network's ladder and its sandbox.")] = None,
    task: TaskOption = None,
    items: ItemsOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a trained model the items of some tasks, probe its answers, and print accuracies by both tables of chance levels."""
    scale, opened = open_rung(rung, data, config)
    held = open_bundle(bundle)
    manifest = _chosen(held, task, items)
    tree = open_recipe(recipe)
    sandbox = open_sandbox(load_config(config) if config is not None else None)
    secret = os.urandom(32)
    with tempfile.TemporaryDirectory(prefix="ralph-core-") as folder, progress("core", quiet=json) as meter:
        materialise(tree, Path(folder) / "recipe")
        place, held_weights = Path(folder) / "recipe", open_weights(weights, scale)
        model = Model(sandbox=sandbox, recipe=place, weights=held_weights, rung=scale, vocabulary=opened.vocabulary)
        examined = examine(
            _examination(held, manifest, scale, opened),
            starting(model),
            key=lambda purpose: digest(KEY_TAG, {"secret": secret, "purpose": purpose}),
            king=None,
            progress=meter.update,
        )
    result = grade(examined.answers, absent=manifest.absent)
    value = _value(result, examined, scale, tree.digest(), model.worker_cpu_s)
    emit(value, list(_lines(result, value)), as_json=json)


def _chosen(bundle: Bundle, tasks: list[str] | None, items: int | None) -> Manifest:
    manifest = build(bundle)
    if tasks:
        manifest = manifest.only(tasks)
    return manifest if items is None else manifest.first(items)


def _manifest_value(manifest: Manifest) -> dict[str, Any]:
    return {
        "manifest": manifest.digest().hex(),
        "tasks": {
            entry.task.label: {
                "items": len(entry.items),
                "of": entry.pool,
                "pool": entry.pool_digest.hex(),
                "type": entry.task.type.value,
                "shots": entry.task.shots,
            }
            for entry in manifest.entries
        },
        "left_out": list(manifest.absent),
    }


def _manifest_lines(manifest: Manifest) -> Iterator[str]:
    for entry in manifest.entries:
        task = entry.task
        yield f"{task.label:32} {len(entry.items):6} of {entry.pool:6} items, {task.shots:2} shots, {task.type.value}"
    if manifest.absent:
        yield f"left out, or not in the bundle: {', '.join(manifest.absent)}"
    yield f"manifest: {manifest.digest().hex()}"


def _compared(manifest: Manifest, config: Path) -> tuple[Exit, str]:
    """Say whether the Rules of a node guard exactly these items."""
    guard = load_profile(load_config(config).profile).rules.guards.tasks
    if guard is None:
        return Exit.NEGATIVE, "the Rules guard no tasks"
    chosen = manifest.only(guard.tasks).first(guard.items).digest()
    if chosen != guard.manifest:
        return Exit.NEGATIVE, f"the Rules guard other items: {guard.manifest.hex()}; of these tasks, this bundle gives {chosen.hex()}"
    return Exit.OK, f"the Rules guard {guard.items} items of each of {len(guard.tasks)} tasks of this bundle: {guard.manifest.hex()}"


def _examination(bundle: Bundle, manifest: Manifest, rung: Rung, data: DataSet) -> Examination:
    setting = Setting(
        tokenizer=open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary),
        sequence=rung.sequence,
        batch_rows=BATCH_ROWS,
        filler=data.validation.rows(1, rung.sequence).filler.astype(np.int32),
    )
    return audited_examination("score", bundle, manifest, setting, DEVNET_EXAM)


def _value(result: Result, examined: Examined, rung: Rung, tree: bytes, worker_cpu_s: float) -> dict[str, Any]:
    return {
        "name": result.name,
        "rung": rung.name,
        "tree": tree.hex(),
        "manifest": examined.examination.exam.manifest.digest().hex(),
        **{table.value: result.core(table) for table in Table},
        "gold_bpb": result.gold_bpb,
        "probes": examined.probes,
        "worker_cpu_s": round(worker_cpu_s, 2),
        "tasks": {task.entry.task.label: _task_value(task) for task in result.tasks},
        "left_out": list(result.absent),
    }


def _task_value(task: TaskResult) -> dict[str, Any]:
    return {
        "items": len(task.entry.items),
        "accuracy": task.accuracy,
        **{f"centred_{table.value}": task.centred(table) for table in Table},
        "gold_nats": float(task.gold_nats.sum()),
        "gold_bytes": int(task.gold_bytes.sum()),
        "gold_bpb": task.gold_bpb,
    }


def _lines(result: Result, value: dict[str, Any]) -> Iterator[str]:
    yield f"{'task':32} {'items':>6} {'accuracy':>9} {'core_v1':>8} {'core_v2':>8} {'gold nats':>11} {'gold bytes':>10} {'bpb':>7}"
    for label, task in value["tasks"].items():
        centred = f"{task['centred_core_v1']:8.4f} {task['centred_core_v2']:8.4f}"
        gold = f"{task['gold_nats']:11.2f} {task['gold_bytes']:10} {task['gold_bpb']:7.4f}"
        yield f"{label:32} {task['items']:6} {task['accuracy']:9.4f} {centred} {gold}"
    if result.absent:
        yield f"left out, or not in the bundle: {', '.join(result.absent)}"
    yield f"{result.name}: {value['core_v1']:.4f} by the table core_v1, {value['core_v2']:.4f} by core_v2"
    yield f"bits per byte of right answers, mean over tasks: {value['gold_bpb']:.4f}"
    yield f"{value['probes']} tokens were probed in a second sandbox and agreed; manifest {value['manifest']}"
