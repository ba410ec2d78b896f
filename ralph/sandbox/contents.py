"""Which files a worker needs of an interpreter, its packages and the system's libraries."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from ralph.errors import SandboxUnavailable
from ralph.sandbox.interpreter import Interpreter

NEEDED = ("torch", "numpy", "cbor2")
"""Distributions that the worker or a recipe imports; what they require comes along."""
_NOT_READ = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo", "pkgconfig"}
)
"""Folders of a standard library that no worker reads."""
_NOT_RUN = frozenset({"include", "test"})
"""Folders of packages that are for building and testing."""
_LISTING_TIMEOUT_S = 120.0
_LINKED = re.compile(rb"(?:=> )?(/\S+) \(0x")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, folder or link."""

    path: Path
    kind: str
    """``file``, ``folder`` or ``link``."""
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> "Entry":
        """Describe what is at ``path``."""
        found = path.lstat()
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        return cls(path=path, kind=kind, size_bytes=found.st_size if kind == "file" else 0, changed_ns=found.st_mtime_ns)

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """Return what distinguishes it from another version of itself."""
        return str(self.path), self.kind, self.size_bytes, self.changed_ns

    def copy_below(self, folder: Path) -> None:
        """Copy it to the same path below ``folder``, readable for everybody and writable for nobody else."""
        target = folder / self.path.relative_to("/")
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.kind == "folder":
            target.mkdir(mode=0o755, exist_ok=True)
        elif self.kind == "link":
            target.symlink_to(self.path.readlink())
        else:
            shutil.copyfile(self.path, target, follow_symlinks=False)
            target.chmod(0o755 if self.path.stat().st_mode & 0o111 else 0o644)


def contents(interpreter: Interpreter) -> tuple[Entry, ...]:
    """Return everything that is to be copied, sorted by path.

    Raises:
        SandboxUnavailable: It cannot be found out.
    """
    paths = {interpreter.executable, *interpreter.home, *interpreter.packages, *(path for path in interpreter.system if path.is_dir())}
    for folder in interpreter.home:
        paths |= set(_below(folder, _NOT_READ))
    paths |= _packages(interpreter.packages)
    paths |= _libraries(paths, interpreter.system)
    return tuple(Entry.of(path) for path in sorted(paths))


def _below(folder: Path, without: frozenset[str]) -> Iterator[Path]:
    """Yield everything below a folder but the folders of these names and what is in them."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in without and not name.startswith("config-")]
        for name in (*folders, *names):
            yield Path(parent, name)


def _packages(folders: Sequence[Path]) -> set[Path]:
    """Return the files of the needed distributions; a folder that knows of no distribution is taken as a whole."""
    installed: dict[str, tuple[Path, Distribution]] = {}
    paths: set[Path] = set()
    for folder in folders:
        found = list(distributions(path=[str(folder)]))
        if not found:
            paths |= set(_below(folder, frozenset()))
        for one in found:
            installed.setdefault(_normal(one.name), (folder, one))
    waiting, seen = list(NEEDED), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in installed:
            continue
        seen.add(name)
        folder, one = installed[name]
        if one.files is None:
            raise SandboxUnavailable(f"{name} in {folder} has no list of its files; install it with pip", code="OPS-SANDBOX")
        paths |= set(_listed(folder, [Path(file) for file in one.files]))
        waiting += [_normal(match[0]) for text in one.requires or () if "extra ==" not in text and (match := _NAME.match(text))]
    return paths


def _listed(folder: Path, files: Iterable[Path]) -> Iterator[Path]:
    for file in files:
        if ".." not in file.parts and not _NOT_RUN & set(file.parts[:-1]) and (folder / file).is_file():
            yield folder / file


def _libraries(paths: set[Path], system: tuple[Path, ...]) -> set[Path]:
    """Return the shared libraries in the system's folders that these files are linked with, and the loader."""
    linked = [path for path in paths if (".so" in path.name or path.parent.name == "bin") and path.is_file() and _is_elf(path)]
    try:
        listing = subprocess.run(["ldd", *map(str, linked)], env={}, capture_output=True, timeout=_LISTING_TIMEOUT_S, check=False).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"cannot list the libraries of the worker's programs: {error}", code="OPS-SANDBOX") from error
    found: set[Path] = set()
    waiting = [Path(os.fsdecode(match)) for match in set(_LINKED.findall(listing))]
    while waiting:
        library = waiting.pop()
        path = library.parent.resolve() / library.name
        if path not in found and any(path.is_relative_to(folder) for folder in system):
            found.add(path)
            if path.is_symlink():
                waiting.append(path.parent / path.readlink())
    return found


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
