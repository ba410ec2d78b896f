"""`ralph validator`: judge submissions, publish records, set weights."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ralph.cli.nodes import run_until_stopped, validator_services
from ralph.cli.sandboxes import open_sandbox
from ralph.config import load_config
from ralph.log import set_up
from ralph.sandbox.preflight import attack_first
from ralph.validator.loop import Validator

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Judge submissions, publish records, set weights."
)


@app.callback()
def _group() -> None:
    """Judge submissions, publish records, set weights."""


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="The node's TOML, as `ralph init` writes it.")],
    rounds: Annotated[int | None, typer.Option(min=1, help="Stop after this many recorded rounds.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Run a validator until SIGTERM or SIGINT."""
    serve(config, rounds=rounds, verbose=verbose)


def serve(path: Path, *, rounds: int | None, verbose: bool) -> None:
    """Run a validator from its configuration file."""
    config = load_config(path)
    set_up(json_lines=config.json_log, verbose=verbose)
    sandbox = open_sandbox(config, in_memory=True)
    attack_first(sandbox)

    async def main(stop: asyncio.Event) -> None:
        services = await validator_services(config, sandbox)
        try:
            await Validator(services).run(stop, rounds=rounds)
        finally:
            await services.chain.close()

    run_until_stopped(main, ending=sandbox.close)
