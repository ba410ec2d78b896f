"""`ralph rescore`: what weights are worth, from prefixes alone."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ralph.cli.output import JsonOption, emit
from ralph.cli.sandboxes import open_sandbox
from ralph.cli.train import BATCH_ROWS, open_rung
from ralph.config import load_config
from ralph.errors import ConfigurationError
from ralph.evaluate.appeal import rescore
from ralph.evaluate.measure import Exam
from ralph.protocol.network import CPU_TOLERANCE, GPU_TOLERANCE, LADDER
from ralph.protocol.rules import EvaluationRules
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import materialise, read_tree
from ralph.train.host import weight_limits

DECIMALS = 5


def rescore_command(
    weights: Annotated[Path, typer.Argument(help="A safetensors file, as `ralph train` leaves it and as bundles hold it.")],
    rung: Annotated[str, typer.Option(help=f"Scale: {', '.join(one.name for one in LADDER)}, smallest first.")] = "C1",
    recipe: Annotated[Path | None, typer.Option(help="Directory of the recipe that the weights belong to; by default genesis.")] = None,
    data: Annotated[Path | None, typer.Option(help="Public data; by default those of --config, else HOME/data/public.")] = None,
    config: Annotated[Path | None, typer.Option(help="A node's TOML, for its data, its network's ladder and its sandbox.")] = None,
    documents: Annotated[int, typer.Option(min=1, help="Public validation documents.")] = 1024,
    draws: Annotated[int, typer.Option(min=100, help="Cells that are drawn and probed.")] = 8000,
    json: JsonOption = False,
) -> None:
    """Score weights without believing any claim: every loss comes from a prefix that ends before the token.

    The same measurement decides an appeal, on hidden documents that were opened. It costs more than a measurement by claims and is less
    precise; the standard error says how much.
    """
    scale, opened = open_rung(rung, data, config)
    if recipe is not None and not recipe.is_dir():
        raise ConfigurationError(f"there is no recipe in {recipe}")
    tree = genesis_recipe() if recipe is None else read_tree(recipe)
    with tempfile.TemporaryDirectory(prefix="ralph-rescore-") as folder:
        materialise(tree, Path(folder) / "recipe")
        exam = Exam(
            sandbox=open_sandbox(load_config(config) if config is not None else None),
            recipe=Path(folder) / "recipe",
            weights=_read(weights, weight_limits(scale).size_bytes),
            rung=scale,
            rules=EvaluationRules(
                uniform_cells=draws,
                weighted_cells=0,
                batch_rows=BATCH_ROWS,
                tolerances=(CPU_TOLERANCE, GPU_TOLERANCE),
                published_decimals=DECIMALS,
                max_cost_ratio=0.0,
            ),
            vocabulary=opened.vocabulary,
            rows=opened.validation.rows(min(documents, len(opened.validation)), scale.sequence),
            key=os.urandom(32),
            king=None,
        )
        found = rescore(exam, opened.token_bytes, draws=draws)
    value = {
        "rung": scale.name,
        "tree": tree.digest().hex(),
        "documents": found.documents,
        "draws": found.draws,
        "val_bpb": found.val_bpb,
        "standard_error_bpb": found.standard_error_bpb,
    }
    told = f"{found.val_bpb:.5f} bpb, standard error {found.standard_error_bpb:.5f}"
    emit(
        value,
        [f"rung {scale.name}, tree {value['tree']}", f"{told}, from {found.draws} prefixes of {found.documents} documents"],
        as_json=json,
    )


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > 2 * limit:
            raise ConfigurationError(f"{path} is larger than any weights of this rung")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read the weights {path}: {error.strerror}; give the safetensors file of a run") from error
