"""`ralph core private`: items that were never published. Nothing here prints one."""

from pathlib import Path
from typing import Annotated

import typer

from ralph.cli.output import JsonOption, emit
from ralph.config import load_config, load_profile
from ralph.data.pool import read_leaves
from ralph.data.poolkey import PoolKey, key_beside
from ralph.errors import ConfigurationError
from ralph.evaluate.core22.private import ASKED_SHARD, licences, open_items, read_items
from ralph.evaluate.core22.sealing import add, all_items, renew, seal
from ralph.protocol.pool import PoolCommitment, verify_refresh

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Seal items that were never published, and commit to them."
)

OutArgument = Annotated[Path, typer.Argument(help="Directory of the sealed items.")]
FilesArgument = Annotated[list[Path], typer.Argument(help="Files with one item a line: its fields, `type` and `licence`.")]
PoolOption = Annotated[Path, typer.Option("--from", help="Directory of the items that are sealed already.")]
KeyOption = Annotated[Path | None, typer.Option(help="Key of the sealed items; by default beside the directory, as DIRECTORY.key.")]


@app.callback()
def _group() -> None:
    """Seal items that were never published, and commit to them."""


@app.command()
def commit(out: OutArgument, files: FilesArgument, key: KeyOption = None, json: JsonOption = False) -> None:
    """Seal items under a new key and print the commitment, which the Rules name. Remove or lock away the files afterwards."""
    items, place = read_items(files), key or key_beside(out)
    if not items:
        raise ConfigurationError("the files hold no items")
    _show(seal(out, items, key=PoolKey.load(place) if place.exists() else PoolKey.create(place)), out, place, as_json=json)


@app.command("add")
def add_command(out: OutArgument, files: FilesArgument, old: PoolOption, key: KeyOption = None, json: JsonOption = False) -> None:
    """Seal old items and new ones together, under the key of the old ones. The commitment is another; nothing else changes."""
    place = key or key_beside(old)
    _show(add(out, open_items(old, key=place, expect=None), read_items(files)), out, place, as_json=json)


@app.command("refresh")
def refresh_command(out: OutArgument, files: FilesArgument, old: PoolOption, key: KeyOption = None, json: JsonOption = False) -> None:
    """Replace a tenth of the items of each shard by new ones. Everybody can check by the leaves that it was no more."""
    place = key or key_beside(old)
    before = open_items(old, key=place, expect=None)
    made = renew(out, before, read_items(files))
    verify_refresh(before.commitment, before.leaves, made, read_leaves(out, made))
    _show(made, out, place, as_json=json)


@app.command()
def show(
    directory: OutArgument,
    key: KeyOption = None,
    config: Annotated[Path | None, typer.Option(help="A validator's TOML: open what it names, as its Rules name it.")] = None,
    json: JsonOption = False,
) -> None:
    """Open sealed items, compare every one with its leaf, and print how many there are and by what licences."""
    expect = None
    if config is not None:
        guard = load_profile(load_config(config).profile).rules.guards.private_items
        if guard is None:
            raise ConfigurationError(f"the Rules of {config} guard no private items")
        expect = guard.commitment
    place = key or key_beside(directory)
    pool = open_items(directory, key=place, expect=expect)
    _show(pool.commitment, directory, place, as_json=json, licences=list(licences(all_items(pool))))


def _show(commitment: PoolCommitment, out: Path, key: Path, *, as_json: bool, licences: list[str] | None = None) -> None:
    shards = {one.shard: one.documents for one in commitment.shards}
    schemas = {
        name: sum(shard.sources[number].documents for shard in commitment.shards) for number, name in enumerate(commitment.source_names)
    }
    value = {"items": out, "key": key, "commitment": commitment.digest().hex(), "shards": shards, "schemas": schemas}
    lines = [
        f"sealed items: {out}, {sum(shards.values())} in all, {shards[ASKED_SHARD]} of them in the shard that is asked",
        *(f"{name}: {count}" for name, count in schemas.items()),
        *(f"licence: {one}" for one in licences or ()),
        f"their key: {key} (keep it to the validator, and keep a copy: without it they are lost)",
        f"commitment: {commitment.digest().hex()}, refresh {commitment.refresh}",
    ]
    emit(value if licences is None else {**value, "licences": licences}, lines, as_json=as_json)
