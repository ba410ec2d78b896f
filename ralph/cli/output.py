"""What the CLI prints: plain lines for people, one JSON object for programs, foreign text made harmless.

Text that somebody else wrote (hypotheses, details of refusals, names) is escaped before it reaches a
terminal: control characters and invisible formatting would otherwise steer it.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
PLAIN_LINES = 10
"""Without a terminal, progress is about this many lines."""


def printable(text: str) -> str:
    """Return foreign text as one line that cannot steer a terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def line(text: str = "", *, err: bool = False) -> None:
    """Print one line; nothing in it is interpreted."""
    print(printable(text), file=sys.stderr if err else sys.stdout, flush=True)


def emit_json(value: dict[str, Any]) -> None:
    """Print one JSON object in ASCII, so that it is safe on any terminal."""
    print(json.dumps(value, ensure_ascii=True, indent=2, default=_plain), flush=True)


def emit(value: dict[str, Any], lines: Iterator[str] | list[str], *, as_json: bool) -> None:
    """Print the result of a command once: as JSON, or as lines."""
    if as_json:
        emit_json(value)
        return
    for text in lines:
        line(text)


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


class Meter(Protocol):
    """Shows how far a long job is."""

    def update(self, done: int, total: int | None, note: str) -> None: ...


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Meter]:
    """Show progress on standard error: a bar on a terminal, plain lines otherwise, nothing when ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield _Lines(label, quiet=quiet)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(bar, label)


class _Bar:
    def __init__(self, bar: Progress, label: str) -> None:
        self._bar = bar
        self._task = bar.add_task(label, total=None, note="")

    def update(self, done: int, total: int | None, note: str) -> None:
        self._bar.update(self._task, completed=done, total=total, note=printable(note))


class _Lines:
    def __init__(self, label: str, *, quiet: bool) -> None:
        self._label, self._quiet, self._part, self._note = label, quiet, -1, ""

    def update(self, done: int, total: int | None, note: str) -> None:
        part = done * PLAIN_LINES // total if total else -1
        if self._quiet or (part == self._part and (total is not None or note == self._note)):
            return
        self._part, self._note = part, note
        place = f"{done}/{total}" if total else f"{done}"
        line(f"{self._label}: {place} {note}", err=True)
