"""Run one scripted participant: `python -m ralph_devnet.attackers NAME --config TOML --seed N`."""

import argparse
import asyncio
import sys
from pathlib import Path

from ralph.cli.nodes import miner_services, run_until_stopped
from ralph.config import load_config
from ralph.errors import RalphError
from ralph.log import set_up
from ralph.miner.loop import Miner, Policy
from ralph.miner.prove import Prover, prove
from ralph.miner.services import MinerServices
from ralph_devnet.attackers.cast import CAST
from ralph_devnet.attackers.luck import lucky
from ralph_devnet.attackers.sources import Copy, Once, Peek, QuietKnob

PER_MILLE = {"peeker": 1000, "glimpser": 10, "causal": 0}


def source_of(name: str, services: MinerServices, seed: int) -> Once:
    """Return the patch source of a role."""
    if name == "copycat":
        return Copy(own=services.hotkey.key_id, store=services.store)
    if name in PER_MILLE:
        return Peek(per_mille=PER_MILLE[name])
    return QuietKnob(seed=seed + (name == "plain"))


def prover_of(name: str) -> Prover:
    """Return how a role makes its runs."""
    return lucky if name == "lucky" else prove


def main() -> int:
    """Play the role until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[role.name for role in CAST])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        config = load_config(arguments.config)
        set_up(json_lines=config.json_log)

        async def play(stop: asyncio.Event) -> None:
            services = await miner_services(config)
            source = source_of(arguments.name, services, arguments.seed)
            miner = Miner(services, source, policy=Policy(holds_rounds=False), prover=prover_of(arguments.name))
            if isinstance(source, Copy):
                source.history = miner.history
            try:
                await miner.run(stop)
            finally:
                await services.chain.close()

        run_until_stopped(play)
    except RalphError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
