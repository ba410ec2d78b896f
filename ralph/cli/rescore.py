"""`ralph rescore`: what weights are worth, from prefixes alone."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ralph.cli.models import open_recipe, open_rung, open_weights, public_exam, public_rows
from ralph.cli.output import JsonOption, emit
from ralph.cli.sandboxes import open_sandbox
from ralph.config import load_config
from ralph.evaluate.appeal import rescore
from ralph.evaluate.loading import Model
from ralph.protocol.network import LADDER
from ralph.repository.trees import materialise


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
    tree = open_recipe(recipe)
    sandbox = open_sandbox(load_config(config) if config is not None else None)
    with tempfile.TemporaryDirectory(prefix="ralph-rescore-") as folder:
        place = Path(folder) / "recipe"
        materialise(tree, place)
        model = Model(sandbox=sandbox, recipe=place, weights=open_weights(weights, scale), rung=scale, vocabulary=opened.vocabulary)
        exam = public_exam(model, public_rows(opened, documents, scale), probes=draws, key=os.urandom(32))
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
