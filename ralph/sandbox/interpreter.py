"""Find out what an interpreter needs on disk to run inside a sandbox."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ralph.errors import SandboxUnavailable

QUERY_TIMEOUT_S = 60.0
_SYSTEM = Path("/usr")
"""Prefix whose libraries are inside anyway."""
_QUERY = """
import os, sys, sysconfig
parts = sys._base_executable, sys.base_prefix
print(*map(os.path.realpath, parts), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sep="\\0", end="")
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
    executable, prefix, *found = (Path(part) for part in answer.split("\0"))
    libraries = () if prefix == _SYSTEM else tuple(folder for folder in (prefix / "lib", prefix / "lib64") if folder.is_dir())
    return Interpreter(
        executable=executable,
        home=(executable, *(folder for folder in libraries if not folder.is_symlink())),
        packages=packages or tuple(dict.fromkeys(folder for folder in found if folder.is_dir())),
    )
