"""Run a validator: `python neurons/validator.py --config validator.toml`."""

import argparse
import sys
from pathlib import Path

from ralph.cli.errors import Exit, problem_of, show
from ralph.cli.validator import serve
from ralph.errors import RalphError


def main() -> int:
    """Parse arguments and run the loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the node's TOML, as `ralph init` writes it")
    parser.add_argument("--rounds", type=int, help="stop after this many recorded rounds")
    parser.add_argument("--verbose", action="store_true", help="log more")
    arguments = parser.parse_args()
    try:
        serve(arguments.config, rounds=arguments.rounds, verbose=arguments.verbose)
    except (RalphError, OSError) as error:
        problem = problem_of(error)
        show(problem, as_json=False)
        return problem.status
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
