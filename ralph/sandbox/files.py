"""Read the files that the launcher copies into a sandbox."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import ralph
from ralph.errors import InfrastructureError
from ralph.sandbox.limits import MAX_COPIED_BYTES, MAX_FILES

_PACKAGE = Path(ralph.__file__).parent
_WORKER_FILES = ("__init__.py", "train/__init__.py", "train/wire.py")
_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """One file and the absolute path that it has inside."""

    target: str
    data: bytes


def program_files(folder: str) -> tuple[Copied, ...]:
    """Return our own files for inside: the bootstrap, the wire format and the worker, file by file and nothing else."""
    names = [*_WORKER_FILES, *(f"worker/{file.name}" for file in sorted((_PACKAGE / "worker").glob("*.py")))]
    ours = [Copied(target=f"{folder}/ralph/{name}", data=(_PACKAGE / name).read_bytes()) for name in names]
    return (*ours, Copied(target=f"{folder}/bootstrap.py", data=_BOOTSTRAP.read_bytes()))


def recipe_files(recipe: Path, folder: str) -> tuple[Copied, ...]:
    """Return the regular files below ``recipe``. Links and special files are not followed and not copied.

    Raises:
        InfrastructureError: It is no folder, or has more files or bytes than the patch rules let through.
    """
    if not recipe.is_dir():
        raise InfrastructureError(f"{recipe} is not a folder")
    found: list[Copied] = []
    total = 0
    for parent, folders, names in os.walk(recipe):
        folders[:] = sorted(name for name in folders if name not in {"__pycache__", ".git"})
        for name in sorted(names):
            file = Path(parent, name)
            if not stat.S_ISREG(file.lstat().st_mode):
                continue
            total += file.stat().st_size
            if len(found) >= MAX_FILES or total > MAX_COPIED_BYTES:
                raise InfrastructureError(f"{recipe} has more than {MAX_FILES} files or {MAX_COPIED_BYTES} bytes")
            found.append(Copied(target=f"{folder}/{file.relative_to(recipe)}", data=file.read_bytes()))
    return tuple(found)
