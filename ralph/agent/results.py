"""``results.tsv``: one line for each experiment, in the columns that people know from earlier research agents.

What was not measured is empty.
"""

from collections.abc import Sequence
from pathlib import Path

from ralph.agent.experiment import Decision, Experiment
from ralph.store.files import replace_file

COLUMNS = ("commit", "val_bpb", "memory_gb", "status", "description")
SHORT = 12
"""Hexadecimal digits of a tree's digest that stand in for a commit."""


def write_results(path: Path, experiments: Sequence[Experiment]) -> None:
    """Replace the file at ``path`` by a table of all experiments.

    Raises:
        ConfigurationError, InfrastructureError: The file system refuses, see ``replace_file``.
    """
    lines = ["\t".join(COLUMNS), *(_line(experiment) for experiment in experiments)]
    replace_file(path, ("\n".join(lines) + "\n").encode())


def _line(experiment: Experiment) -> str:
    measured = experiment.val_bpb is not None and experiment.decision is not Decision.CRASH
    text = f"{experiment.change}: {experiment.reason}"
    description = "".join(character if character.isprintable() else " " for character in text)
    columns = (
        experiment.tree.hex()[:SHORT],
        f"{experiment.val_bpb:.6f}" if measured else "",
        f"{experiment.memory_bytes / 1e9:.1f}",
        experiment.decision.value,
        description,
    )
    return "\t".join(columns)
