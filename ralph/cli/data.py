"""`ralph data`: prepare and verify the data that recipes train on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ralph.cli.errors import Exit
from ralph.cli.output import JsonOption, emit, progress
from ralph.config import default_home, load_config, load_profile
from ralph.data.partition import Progress
from ralph.data.prepare import prepare
from ralph.data.verify import Finding, verify
from ralph.errors import ConfigurationError
from ralph.protocol.reasons import Reason

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Prepare and verify the data.")


@app.callback()
def _group() -> None:
    """Prepare and verify the data that recipes train on."""


@app.command("prepare")
def prepare_command(
    out: Annotated[Path | None, typer.Option(help="Directory of the public data; by default HOME/data/public.")] = None,
    hidden: Annotated[Path | None, typer.Option(help="Directory of the hidden pool; by default HOME/data/hidden.")] = None,
    vocabulary: Annotated[int, typer.Option(min=257, help="Token ids of the tokenizer that is trained.")] = 512,
    json: JsonOption = False,
) -> None:
    """Build data from the standard library of this Python: documentation and source, tokenised on the spot."""
    public, private = out or default_home() / "data" / "public", hidden or default_home() / "data" / "hidden"
    with progress("data", quiet=json) as meter:

        def report(step: Progress) -> None:
            meter.update(step.done, step.total, step.stage)

        manifest = prepare(public, hidden=private, vocabulary=vocabulary, progress=report)
    digest = manifest.digest().hex()
    emit(
        {"data": public, "hidden": private, "manifest": digest, "corpus": manifest.corpus},
        [f"public data: {public}", f"hidden pool: {private} (keep it to the validator)", f"manifest: {digest}"],
        as_json=json,
    )


@app.command("verify")
def verify_command(
    directory: Annotated[list[Path] | None, typer.Argument(help="Public data or hidden pools; by default those of --config.")] = None,
    config: Annotated[Path | None, typer.Option(help="A node's TOML: check that these are the data that its Rules name.")] = None,
    json: JsonOption = False,
) -> None:
    """Check every byte of prepared data against its manifest; exit 1 says what differs."""
    wanted = _wanted(directory or [], config)
    found = {place: verify(place, expect=expect) for place, expect in wanted.items()}
    value: dict[str, Any] = {
        str(place): [{"file": one.file, "problem": one.problem} for one in findings] for place, findings in found.items()
    }
    emit(value, [text for place, findings in found.items() for text in _said(place, findings)], as_json=json)
    raise typer.Exit(Exit.NEGATIVE if any(found.values()) else Exit.OK)


def _wanted(directories: list[Path], config: Path | None) -> dict[Path, bytes | None]:
    """Return directory -> digest that its manifest must have, None for any."""
    wanted: dict[Path, bytes | None] = dict.fromkeys(directories)
    if config is not None:
        node = load_config(config)
        rules = load_profile(node.profile).rules.data
        wanted[node.data] = rules.manifest
        if node.hidden is not None:
            wanted[node.hidden] = rules.hidden_commitment
    if not wanted:
        raise ConfigurationError("name a directory to verify, or a node's --config")
    return wanted


def _said(place: Path, findings: list[Finding]) -> list[str]:
    if not findings:
        return [f"{place}: exactly what its manifest says"]
    return [f"{Reason.OPS_DATA}: {place}: {one.file}: {one.problem}" for one in findings]
