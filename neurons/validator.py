"""Run a validator: `python neurons/validator.py --config validator.toml`."""

import argparse
import asyncio
import sys
from pathlib import Path

from ralph.cli.nodes import run_until_stopped, validator_services
from ralph.config import load_config
from ralph.errors import RalphError
from ralph.log import set_up
from ralph.validator.loop import Validator


def main() -> int:
    """Parse arguments, build the adapters, run the loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the node's TOML, as `ralph init` writes it")
    parser.add_argument("--rounds", type=int, help="stop after this many recorded rounds")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    try:
        config = load_config(arguments.config)
        set_up(json_lines=config.json_log, verbose=arguments.verbose)

        async def serve(stop: asyncio.Event) -> None:
            services = await validator_services(config)
            try:
                await Validator(services).run(stop, rounds=arguments.rounds)
            finally:
                await services.chain.close()

        run_until_stopped(serve)
    except RalphError as error:
        print(f"{error}", file=sys.stderr)
        return 3 if error.code in ("OPS-CONFIG", "OPS-DATA", "OPS-SANDBOX") else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
