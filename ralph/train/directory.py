"""A directory that holds one run: first its journal, in the end its results."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ralph.errors import ConfigurationError
from ralph.protocol.rules import Rung
from ralph.store.files import replace_file
from ralph.train.environment import cpu_model
from ralph.train.journal import Identity, Journal
from ralph.train.run import RunResult

SUMMARY = "summary.json"
WEIGHTS = "weights.safetensors"
TRANSCRIPT = "transcript"
RUN = "run"
"""Where a summary says which run it is of."""


def identity(*, tree: bytes, rung: Rung, seed: int, data: bytes, ranks: int = 1) -> Identity:
    """Return everything that the bytes of a run on this machine depend on."""
    try:
        torch = version("torch")
    except PackageNotFoundError as error:
        raise ConfigurationError("training needs torch: pip install 'ralph-subnet[run]'") from error
    return {
        "tree": tree.hex(),
        "rung": rung.digest().hex(),
        "seed": str(seed),
        "data": data.hex(),
        "ranks": str(ranks),
        "python": platform.python_version(),
        "torch": torch,
        "processor": cpu_model(),
    }


def journal_of(directory: Path, run: Identity, *, resume: bool) -> Journal:
    """Return the journal of ``directory``, to be continued if ``resume``, else new.

    Raises:
        ConfigurationError: There is nothing to continue, or something that a new run would destroy.
    """
    journal = Journal(directory, run)
    if resume and not journal.exists:
        raise ConfigurationError(f"there is no unfinished run in {directory}; leave --resume out to start one")
    if journal.exists and not resume:
        raise ConfigurationError(f"{directory} holds an unfinished run; continue it with --resume, or remove that directory")
    if directory.exists() and not journal.exists and any(directory.iterdir()) and _finished(directory) != run:
        raise ConfigurationError(f"{directory} is not empty and does not hold this run; name another directory")
    return journal


def _finished(directory: Path) -> Identity | None:
    """Return which run has its results here, if one has."""
    try:
        found: Identity = json.loads((directory / SUMMARY).read_bytes())[RUN]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def finish(journal: Journal, result: RunResult, summary: dict[str, Any]) -> None:
    """Write the results of a finished run, the summary last, and forget its journal."""
    summary = {**summary, RUN: journal.identity}
    replace_file(journal.directory / WEIGHTS, result.weights)
    replace_file(journal.directory / TRANSCRIPT, result.transcript)
    replace_file(journal.directory / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    journal.remove()
