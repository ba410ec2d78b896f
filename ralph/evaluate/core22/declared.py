"""What a bundle says about its own tasks, compared with what this package says.

The bundle's ``core.yaml`` and ``eval_meta_data.csv`` decide nothing here. Where they are present they must agree: a bundle that
describes other tasks under the same labels holds other tasks.

``core.yaml`` is read by a few lines for the one shape it has: a list of flat entries below ``icl_tasks:``. Anything else in such a
file, anchors and nested maps among it, is refused. Tasks beyond the 22 are nobody's business.
"""

import csv
import io
import json
import re
from dataclasses import dataclass, field

from ralph.errors import ConfigurationError
from ralph.evaluate.core22.items import CODE
from ralph.evaluate.core22.tasks import DEFAULT_DELIMITER, TASKS, Task

MAX_BYTES = 1 << 20
MAX_ENTRIES = 512
LABEL_COLUMN, CHANCE_COLUMN = "Eval Task", "Random baseline"
DATA_FOLDERS = ("local_data/", "eval_data/")
"""What a ``dataset_uri`` may begin with."""

_ENTRY = re.compile(r"(- +|  +)?([a-z_]+):(?: +(.*))?")
_SHOTS = re.compile(r"\[(\d{1,3})\]")


@dataclass(slots=True, kw_only=True)
class _Reader:
    """The entries so far, and where the next line belongs."""

    entries: list[dict[str, str]] = field(default_factory=list)
    inside: bool = False

    def take(self, line: str) -> None:
        """Read one line; raises ValueError for one that is not of the known shape."""
        if line.strip() == "-" and self.inside:
            self.entries.append({})
            return
        match = _ENTRY.fullmatch(line)
        if match is None:
            raise ValueError(f"a line of unknown shape: {line[:60]!r}")
        lead, name, value = match.group(1), match.group(2), match.group(3) or ""
        if lead is None:
            self.inside = name == "icl_tasks"
        elif self.inside:
            if lead.startswith("-"):
                self.entries.append({})
            if not self.entries or len(self.entries) > MAX_ENTRIES or name in self.entries[-1]:
                raise ValueError(f"{name!r} outside an entry, twice in one, or in one too many")
            self.entries[-1][name] = _scalar(value)


def check_list(data: bytes, *, name: str) -> None:
    """Compare a ``core.yaml`` with the 22 tasks.

    Raises:
        ConfigurationError: ``OPS-DATA``, a task is described otherwise, twice, or not at all.
    """
    reader = _Reader()
    try:
        for line in _decode(data).splitlines():
            bare = line.rstrip()
            if bare and not bare.lstrip().startswith("#"):
                reader.take(bare)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}", code=CODE) from error
    for task in TASKS:
        found = [entry for entry in reader.entries if entry.get("label") == task.label]
        if len(found) != 1:
            raise ConfigurationError(f"{name} lists {task.label} {len(found)} times", code=CODE)
        for what, declared, ours in _compared(found[0], task):
            if declared != ours:
                raise ConfigurationError(f"{name}: {what} of {task.label} is {declared!r}, not {ours!r}", code=CODE)


def check_chances(data: bytes, *, name: str) -> None:
    """Compare the chance levels of an ``eval_meta_data.csv`` with both tables.

    Raises:
        ConfigurationError: ``OPS-DATA``, a task has a chance level that is in neither table, or none.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(_decode(data), newline=""), strict=True))
        declared = {str(row.get(LABEL_COLUMN)): float(str(row.get(CHANCE_COLUMN))) for row in rows[:MAX_ENTRIES] if row.get(CHANCE_COLUMN)}
    except (ValueError, csv.Error) as error:
        raise ConfigurationError(f"{name} is no table of chance levels: {error}", code=CODE) from error
    for task in TASKS:
        known = (task.chance.core_v1, task.chance.core_v2)
        if declared.get(task.label) not in known:
            detail = f"{name}: the chance level of {task.label} is {declared.get(task.label)}, neither {known[0]:g} nor {known[1]:g}"
            raise ConfigurationError(detail, code=CODE)


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, limit {MAX_BYTES}")
    return data.decode("utf-8-sig")


def _scalar(text: str) -> str:
    """Return a plain or quoted scalar; what follows " #" is a comment."""
    if text.startswith('"'):
        value, end = json.JSONDecoder().raw_decode(text)
        rest = text[end:].strip()
        if not isinstance(value, str) or (rest and not rest.startswith("#")):
            raise ValueError(f"a quoted text that does not end: {text[:60]!r}")
        return value
    return re.split(r"(?:^| )#", text, maxsplit=1)[0].strip()


def _compared(entry: dict[str, str], task: Task) -> tuple[tuple[str, object, object], ...]:
    shots = _SHOTS.fullmatch(entry.get("num_fewshot", ""))
    file = entry.get("dataset_uri", "")
    for folder in DATA_FOLDERS:
        file = file.removeprefix(folder)
    return (
        ("the file", file, task.file),
        ("the type", entry.get("icl_task_type"), task.type.value),
        ("the number of shots", int(shots.group(1)) if shots else None, task.shots),
        ("the delimiter", entry.get("continuation_delimiter", DEFAULT_DELIMITER), task.delimiter),
    )
