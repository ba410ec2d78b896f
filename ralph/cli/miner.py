"""`ralph miner`: research, announce, prove and submit."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ralph.agent.bench import Bench
from ralph.agent.loop import Researcher
from ralph.agent.progress import Budget
from ralph.agent.proposers import Program
from ralph.cli.nodes import miner_services, run_until_stopped
from ralph.cli.sandboxes import open_sandbox
from ralph.config import Config, load_config
from ralph.errors import InfrastructureError
from ralph.log import set_up
from ralph.miner.loop import Miner, Policy
from ralph.miner.services import MinerServices
from ralph.sandbox.preflight import attack_first

NEVER = 2**62
"""The block up to which a miner that has stopped holds nobody back."""

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Research, announce, prove and submit.")


@app.callback()
def _group() -> None:
    """Research, announce, prove and submit."""


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="The node's TOML, as `ralph init` writes it.")],
    once: Annotated[bool, typer.Option("--once", help="Leave when research is finished and no contest is running.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Run a miner with the built-in research agent until SIGTERM or SIGINT."""
    serve(config, leaves_when_finished=once, verbose=verbose)


def serve(path: Path, *, leaves_when_finished: bool, verbose: bool) -> None:
    """Run a miner from its configuration file."""
    config = load_config(path)
    set_up(json_lines=config.json_log, verbose=verbose)
    attack_first(open_sandbox(config))

    async def main(stop: asyncio.Event) -> None:
        services = await miner_services(config)
        source = researcher(config, services)
        try:
            await Miner(services, source, policy=Policy(leaves_when_finished=leaves_when_finished)).run(stop)
        finally:
            source.close()
            with suppress(InfrastructureError):
                await services.chain.allow(NEVER)
            await services.chain.close()

    run_until_stopped(main)


def researcher(config: Config, services: MinerServices) -> Researcher:
    """Return the research agent of a configuration."""
    rules = services.profile.rules
    bench = Bench(
        sandbox=services.sandbox,
        data=services.data,
        rules=rules,
        rung=rules.rung(rules.crown.rung),
        scratch=services.scratch / "research",
    )
    return Researcher(
        program=Program(config.research.program),
        ledger=config.state / "research.sqlite",
        bench=bench,
        seed=config.research.seed,
        budget=Budget(experiments=config.research.experiments),
    )
