"""Run an auditor: `python neurons/auditor.py --config auditor.toml`."""

import argparse
import sys
from pathlib import Path

from ralph.cli.audit import serve
from ralph.cli.errors import problem_of, show
from ralph.errors import RalphError


def main() -> int:
    """Parse arguments and run the loop; the exit status is the last verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a node's TOML, as `ralph init` writes it")
    parser.add_argument("--verbose", action="store_true", help="log more")
    arguments = parser.parse_args()
    try:
        return serve(arguments.config, verbose=arguments.verbose)
    except (RalphError, OSError) as error:
        problem = problem_of(error)
        show(problem, as_json=False)
        return problem.status


if __name__ == "__main__":
    sys.exit(main())
