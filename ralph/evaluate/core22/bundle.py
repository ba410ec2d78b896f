"""The public evaluation bundle: its data files, task by task.

A bundle is a folder or a zip archive that holds, at its root or in one folder ``eval_bundle``:

    core.yaml             the task list          compared with ours, if present
    eval_meta_data.csv    chance levels          compared with ours, if present
    eval_data/<file>      JSON lines, see ``tasks``

Which tasks are absent is part of the answer: nothing is skipped in silence. One task's items are in memory at a time.
"""

from dataclasses import dataclass, field
from pathlib import Path

from ralph.errors import ConfigurationError
from ralph.evaluate.core22 import declared
from ralph.evaluate.core22.items import CODE, MAX_FILE_BYTES, Item, parse_items
from ralph.evaluate.core22.source import Source, open_source
from ralph.evaluate.core22.tasks import TASKS, Task

ROOTS = ("", "eval_bundle/")
LIST, CHANCES, DATA = "core.yaml", "eval_meta_data.csv", "eval_data/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An opened bundle.

    Args:
        source: Its files.
        root: What every name begins with.
        present: The tasks whose data file is there, in the order of ``TASKS``; not empty.
        absent: Labels of the others.
    """

    source: Source = field(repr=False)
    root: str
    present: tuple[Task, ...]
    absent: tuple[str, ...]

    def items(self, task: Task) -> tuple[Item, ...]:
        """Return all items of a present task in the order of its file.

        Raises:
            ConfigurationError: ``OPS-DATA``, the file is too large, malformed, or holds too few items for the task's shots.
        """
        name = self.root + DATA + task.file
        items = parse_items(self.source.read(name, MAX_FILE_BYTES), task.type, name=name)
        if len(items) <= task.shots:
            raise ConfigurationError(f"{name} has {len(items)} items; {task.label} needs more than its {task.shots} shots", code=CODE)
        return items


def open_bundle(path: Path) -> Bundle:
    """Open the bundle at ``path`` and compare what it says about its tasks with ours.

    Raises:
        ConfigurationError: ``OPS-DATA``, there is no task's data, or the bundle describes other tasks.
    """
    source = open_source(path)
    root = next((root for root in ROOTS if any(source.holds(root + DATA + task.file) for task in TASKS)), None)
    if root is None:
        raise ConfigurationError(f"{path} holds no {DATA} with the file of a task; give the folder or zip file of the bundle", code=CODE)
    if source.holds(root + LIST):
        declared.check_list(source.read(root + LIST, declared.MAX_BYTES), name=LIST)
    if source.holds(root + CHANCES):
        declared.check_chances(source.read(root + CHANCES, declared.MAX_BYTES), name=CHANCES)
    present = tuple(task for task in TASKS if source.holds(root + DATA + task.file))
    absent = tuple(task.label for task in TASKS if task not in present)
    return Bundle(source=source, root=root, present=present, absent=absent)
