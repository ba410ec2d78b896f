"""Which files a worker needs of an interpreter, its packages and the system's libraries."""

import hashlib
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

    @classmethod
    def of(cls, path: Path) -> "Entry":
        """Describe what is at ``path``."""
        found = path.lstat()
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        return cls(path=path, kind=kind, size_bytes=found.st_size if kind == "file" else 0)

    def copy_below(self, folder: Path) -> None:
        """Copy it to the same path below ``folder``, readable for everybody and writable for nobody else.

        A file keeps its time: compiled modules say when their source was changed, and with another time Python compiles it again.
        """
        target = folder / self.path.relative_to("/")
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.kind == "folder":
            target.mkdir(mode=0o755, exist_ok=True)
        elif self.kind == "link":
            target.symlink_to(self.path.readlink())
        else:
            shutil.copyfile(self.path, target, follow_symlinks=False)
            status = self.path.stat()
            target.chmod(0o755 if status.st_mode & 0o111 else 0o644)
            os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def identity(interpreter: Interpreter) -> str:
    """Return what changes when another version of anything is installed, from a few files instead of all of them.

    Installers write a list of what they have installed; that list, the executable and the standard library's own folder are looked
    at, and every file of a folder that has no such lists. A file that somebody edits in place is not noticed.
    """
    found, whole = _needed(interpreter.packages)
    system = [path for folder in interpreter.system if folder.is_dir() for path in sorted(folder.glob("lib[cm].so.6"))]
    lists = [folder / name for folder, one in found for name in sorted(_list_of(one))]
    looked_at = [
        interpreter.executable,
        *interpreter.home,
        *system,
        *lists,
        *(path for folder in whole for path in sorted(_below(folder, frozenset()))),
    ]
    versions = [(str(path), status.st_size, status.st_mtime_ns) for path in looked_at if (status := path.lstat())]
    return hashlib.sha256(repr((str(interpreter), versions)).encode()).hexdigest()[:16]


def _list_of(one: Distribution) -> set[str]:
    return {str(file) for file in one.files or () if file.name in ("RECORD", "METADATA")}


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
    found, whole = _needed(folders)
    paths = {path for folder in whole for path in _below(folder, frozenset())}
    for folder, one in found:
        if one.files is None:
            raise SandboxUnavailable(f"{one.name} in {folder} has no list of its files; install it with pip", code="OPS-SANDBOX")
        paths |= set(_listed(folder, [Path(file) for file in one.files]))
    return paths


def _needed(folders: Sequence[Path]) -> tuple[list[tuple[Path, Distribution]], list[Path]]:
    """Return the needed distributions with the folders they are in, and the folders that know of no distribution."""
    installed: dict[str, tuple[Path, Distribution]] = {}
    whole: list[Path] = []
    for folder in folders:
        there = list(distributions(path=[str(folder)]))
        if not there:
            whole.append(folder)
        for one in there:
            installed.setdefault(_normal(one.name), (folder, one))
    waiting, found = list(NEEDED), dict[str, tuple[Path, Distribution]]()
    while waiting:
        name = waiting.pop()
        if name in found or name not in installed:
            continue
        found[name] = installed[name]
        texts = found[name][1].requires or ()
        waiting += [_normal(match[0]) for text in texts if "extra ==" not in text and (match := _NAME.match(text))]
    return [found[name] for name in sorted(found)], whole


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
