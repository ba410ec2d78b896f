"""`ralph keys`: make and show keys. A private key is never printed."""

from pathlib import Path
from typing import Annotated

import typer

from ralph.chain.wallet import Hotkey, RecordKey, hotkey_path, read_coldkey_address
from ralph.cli.output import JsonOption, emit
from ralph.config import load_config
from ralph.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Make and show keys.")


@app.callback()
def _group() -> None:
    """Make and show keys."""


@app.command()
def new(
    wallets: Annotated[Path | None, typer.Option(help="Directory of wallets in Bittensor's layout, for a hotkey.")] = None,
    coldkey: Annotated[str, typer.Option(help="Name of the wallet.")] = "default",
    hotkey: Annotated[str, typer.Option(help="Name of the hotkey.")] = "default",
    record_key: Annotated[Path | None, typer.Option(help="File for a new record key, which signs a validator's records.")] = None,
    json: JsonOption = False,
) -> None:
    """Make a hotkey, a record key, or both. A key file is never overwritten."""
    if wallets is None and record_key is None:
        raise ConfigurationError("nothing to make: give --wallets DIR for a hotkey, --record-key FILE for a record key, or both")
    made: dict[str, str] = {}
    if wallets is not None:
        made["hotkey"] = Hotkey.create(wallets, coldkey, hotkey).key_id
        made["hotkey_file"] = str(hotkey_path(wallets, coldkey, hotkey))
    if record_key is not None:
        made["record_key"] = RecordKey.create(record_key).key_id
        made["record_key_file"] = str(record_key)
    emit(
        dict(made),
        [*(f"{name}: {value}" for name, value in made.items()), "Keep a copy of the files: nobody can make them again."],
        as_json=json,
    )


@app.command()
def show(config: Annotated[Path, typer.Option(help="A node's TOML.")], json: JsonOption = False) -> None:
    """Show the public half of a node's keys."""
    keys = load_config(config).keys
    shown = {"hotkey": Hotkey.load(keys.wallets, keys.coldkey, keys.hotkey).key_id}
    if (keys.wallets / keys.coldkey / "coldkeypub.txt").exists():
        shown["coldkey"] = read_coldkey_address(keys.wallets, keys.coldkey)
    if keys.record_key is not None:
        shown["record_key"] = RecordKey.load(keys.record_key).key_id
    emit(dict(shown), [f"{name}: {value}" for name, value in shown.items()], as_json=json)
