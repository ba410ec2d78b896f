"""Find out what an interpreter needs on disk to run inside a sandbox."""

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from ralph.errors import SandboxUnavailable

QUERY_TIMEOUT_S = 60.0
_USR = Path("/usr")
_CUDA = ("nvidia/**/*.so*", "torch/lib/libtorch_cuda*.so", "torch/lib/libc10_cuda.so")
_QUERY = """
import os, sys, sysconfig
parts = sys._base_executable, sys.base_prefix, sysconfig.get_path("stdlib")
print(*map(os.path.realpath, parts), sysconfig.get_config_var("MULTIARCH") or "", sep="\\0", end="\\0")
print(sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sep="\\0", end="")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python as the sandbox must see it."""

    executable: Path
    """The real executable behind every virtual environment and symlink."""
    home: tuple[Path, ...]
    """What must be at the same path inside, or another library is loaded: the executable and its library folders."""
    packages: tuple[Path, ...]
    """Folders with installed packages such as torch."""
    system: tuple[Path, ...]
    """The C library and its neighbours, readable for everybody on the host."""
    root: Path = Path("/")
    """Below which all of these paths are found."""

    cuda_bytes: int = 0
    """Size of the libraries that a torch for GPUs maps at its import, on a machine without one too; 0 for a torch for CPUs."""

    def read_from(self, root: Path) -> "Interpreter":
        """Return the same interpreter, found below another folder."""
        return replace(self, root=root)

    def source(self, path: Path) -> Path:
        """Return where something with this path inside is found on the host."""
        return self.root / path.relative_to("/")


def describe(python: Path, *, packages: tuple[Path, ...] | None = None) -> Interpreter:
    """Ask ``python`` where its parts are.

    Args:
        python: An interpreter, also one of a virtual environment.
        packages: Folders with packages in place of those that the interpreter names.

    Raises:
        SandboxUnavailable: It cannot be run.
    """
    try:
        command = [str(python), "-I", *(["-S"] if packages else []), "-c", _QUERY]
        answer = subprocess.run(
            command, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=QUERY_TIMEOUT_S, check=True
        ).stdout.decode()
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"cannot run the interpreter {python}: {error}", code="OPS-SANDBOX") from error
    executable, prefix, library, multiarch, *found = answer.split("\0")
    folders = packages or tuple(dict.fromkeys(Path(folder) for folder in found if Path(folder).is_dir()))
    return Interpreter(
        executable=Path(executable),
        home=(Path(executable), *_library_folders(Path(prefix), Path(library))),
        packages=folders,
        system=_system(multiarch),
        cuda_bytes=sum(file.stat().st_size for file in {file.resolve() for one in folders for glob in _CUDA for file in one.glob(glob)}),
    )


def _library_folders(prefix: Path, library: Path) -> tuple[Path, ...]:
    """Return the standard library; of an interpreter with a prefix of its own also the shared libraries beside it."""
    if prefix == _USR:
        return (library,)
    return tuple(folder for folder in (prefix / "lib", prefix / "lib64") if folder.is_dir() and not folder.is_symlink())


def _system(multiarch: str) -> tuple[Path, ...]:
    """Return as little of ``/usr/lib`` as this distribution allows: one folder and the loaders where it separates architectures."""
    folder = _USR / "lib"
    own = folder / multiarch
    narrow = (own, *sorted(folder.glob("ld-linux*"))) if multiarch and own.is_dir() else (folder,)
    other = _USR / "lib64"
    return (*narrow, other) if other.is_dir() and not other.is_symlink() else narrow
