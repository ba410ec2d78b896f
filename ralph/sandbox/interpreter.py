"""Find out what an interpreter needs on disk to run inside a sandbox."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ralph.errors import SandboxUnavailable

QUERY_TIMEOUT_S = 60.0
_QUERY = """
import os, sys, sysconfig
print(os.path.realpath(sys._base_executable), os.path.realpath(sys.base_prefix), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sep="\\0", end="")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python as the sandbox must see it."""

    executable: Path
    """The real executable behind every virtual environment and symlink."""
    home: Path
    """What to bind so that the executable finds its library: its prefix, or only itself where that is ``/usr``."""
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
        answer = subprocess.run(
            [str(python), "-I", "-S", "-c", _QUERY] if packages else [str(python), "-I", "-c", _QUERY],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=QUERY_TIMEOUT_S,
            check=True,
        ).stdout.decode()
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"cannot run the interpreter {python}: {error}", code="OPS-SANDBOX") from error
    executable, prefix, *found = (Path(part) for part in answer.split("\0"))
    return Interpreter(
        executable=executable,
        home=executable if prefix == Path("/usr") else prefix,
        packages=packages or tuple(dict.fromkeys(folder for folder in found if folder.is_dir())),
    )
