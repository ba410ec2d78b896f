"""Run a miner: `python neurons/miner.py --config miner.toml`."""

import argparse
import sys
from pathlib import Path

from ralph.cli.errors import Exit, problem_of, show
from ralph.cli.miner import serve
from ralph.errors import RalphError


def main() -> int:
    """Parse arguments and run the loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the node's TOML, as `ralph init` writes it")
    parser.add_argument("--once", action="store_true", help="leave when research is finished and no contest is running")
    parser.add_argument("--verbose", action="store_true", help="log more")
    arguments = parser.parse_args()
    try:
        serve(arguments.config, leaves_when_finished=arguments.once, verbose=arguments.verbose)
    except (RalphError, OSError) as error:
        problem = problem_of(error)
        show(problem, as_json=False)
        return problem.status
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
