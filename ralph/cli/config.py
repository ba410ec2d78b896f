"""`ralph config`: show and check configuration files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from ralph.cli.doctor import as_json, as_lines, failed
from ralph.cli.errors import Exit
from ralph.cli.output import JsonOption, emit
from ralph.cli.probes import node
from ralph.config import load_config, load_profile

ConfigOption = Annotated[Path, typer.Option(help="A node's TOML.")]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Show and check configuration files.")


@app.callback()
def _group() -> None:
    """Show and check configuration files."""


@app.command()
def show(config: ConfigOption, json: JsonOption = False) -> None:
    """Print every effective value and where it comes from."""
    known = load_config(config)
    values = {name: (value, origin) for name, value, origin in _flat(known, "")}
    lines = [f"{name} = {_text(value)}  ({origin})" for name, (value, origin) in values.items()]
    profile = load_profile(known.profile)
    rules = profile.rules.digest().hex()
    lines.append(f"the profile is {profile.name}, chain {profile.chain.hex()}, rules {rules}")
    emit(
        {
            "values": {
                name: {"value": None if value is None else str(value), "origin": origin} for name, (value, origin) in values.items()
            },
            "profile": {"name": profile.name, "chain": profile.chain.hex(), "rules": rules},
        },
        lines,
        as_json=json,
    )


@app.command()
def check(config: ConfigOption, json: JsonOption = False) -> None:
    """Check everything that a configuration names: profile, data, keys, store, chain. Exit 3 when something is wrong."""
    probes = list(node(load_config(config)))
    emit(as_json(probes), as_lines(probes), as_json=json)
    raise typer.Exit(Exit.CONFIGURATION if failed(probes) else Exit.OK)


def _flat(section: BaseModel, prefix: str) -> Iterator[tuple[str, object, str]]:
    """Yield (dotted name, value, origin); only what the file says counts as set."""
    for name, value in section:
        if isinstance(value, BaseModel):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, "file" if name in section.model_fields_set else "default"


def _text(value: object) -> str:
    return "not set" if value is None else str(value)
