"""Write requirements.lock: every package of `demo` and `dev` with its hashes, torch left out.

torch has builds for several devices under one version, each with its own hash, so it is installed
first and unhashed (see the Makefile). What only torch needs comes with it and is not in the lock
either. pyproject.toml is the only source; the lock names no index and no host.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
EXTRAS = ("demo", "dev")
OUTSIDE = "torch"
HEADER = """\
# Made by `make lock` from pyproject.toml (extras: demo, dev). Do not edit.
# torch is not in here: install it first, see the Makefile.
"""


def name_of(requirement: str) -> str:
    """Return the normalised package name of a requirement."""
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def requirements(project: dict[str, list[str] | dict[str, list[str]]], extras: tuple[str, ...]) -> list[str]:
    """Return the base requirements and those of ``extras``, own extras resolved, torch left out."""
    found = list(project["dependencies"])
    waiting = list(extras)
    while waiting:
        for requirement in project["optional-dependencies"][waiting.pop()]:
            if name_of(requirement) == project["name"]:
                waiting += requirement.partition("[")[2].rstrip("]").split(",")
            elif name_of(requirement) != OUTSIDE:
                found.append(requirement)
    return sorted(set(found))


def main() -> None:
    """Resolve with pip-tools and replace the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--upgrade", "--generate-hashes", "--strip-extras", "--no-header"]
    command += ["--no-emit-options", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-annotate"]
    command += ["--resolver=backtracking", "--output-file=-", "-"]
    done = subprocess.run(command, input="\n".join(requirements(project, EXTRAS)), capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(done.stderr)
    LOCK.write_text(HEADER + done.stdout)
    print(f"{LOCK.name}: {done.stdout.count('==')} packages")


if __name__ == "__main__":
    main()
