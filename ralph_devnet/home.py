"""The directory of a demo: marked, locked while a demo runs in it, and wiped by the next one; nobody else's files."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ralph.errors import ConfigurationError

MARK = ".ralph-demo"
MARK_TEXT = "This directory belongs to `ralph demo`, which wipes it when it starts.\n"
KEPT = frozenset({MARK, "data"})
"""What survives from one demo to the next: preparing the same data again would only take time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The directory that a running demo owns."""

    path: Path

    @property
    def logs(self) -> Path:
        """Return the directory of the log files."""
        return self.path / "logs"

    @classmethod
    @contextmanager
    def claim(cls, path: Path) -> Iterator["Home"]:
        """Take over a directory that is empty, missing, or an earlier demo's.

        Raises:
            ConfigurationError: It holds other files, or another demo runs in it.
        """
        path = path.absolute()
        if path.exists() and not path.is_dir():
            raise ConfigurationError(f"{path} is no directory")
        mark = path / MARK
        if path.is_dir() and any(path.iterdir()) and not mark.is_file():
            raise ConfigurationError(f"{path} holds files that are not a demo's; choose another --home or an empty directory")
        path.mkdir(parents=True, exist_ok=True)
        with mark.open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigurationError(f"another demo runs in {path}; end it or choose another --home") from error
            file.truncate(0)
            file.write(MARK_TEXT)
            file.flush()
            _wipe(path)
            yield cls(path=path)


def _wipe(home: Path) -> None:
    for entry in home.iterdir():
        if entry.name in KEPT:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
