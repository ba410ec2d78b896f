"""bubblewrap's options for one sandbox.

They are handed over through a descriptor, because a command line can be read inside. Order matters: a size goes before its file
system, and the remounts come last, since ``/`` and ``/dev`` are unlimited file systems in memory until then.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ralph.interfaces import SandboxLimits
from ralph.sandbox import gpu
from ralph.sandbox.files import Copied
from ralph.sandbox.identity import Launch
from ralph.sandbox.interpreter import Interpreter
from ralph.sandbox.seccomp import GPU_PROGRAMS, PROGRAMS, RANKS_PROGRAMS

UNLIMITED = -1
"""RLIM_INFINITY of getrlimit(2)."""
WORKER = "/worker"
RECIPE = "/recipe"
TMP = "/tmp"  # noqa: S108 - a path inside the sandbox
_NAMESPACES = (
    "--unshare-all",
    "--unshare-user",
    "--disable-userns",
    "--die-with-parent",
    "--new-session",
    "--cap-drop",
    "ALL",
    "--clearenv",
)
_SKELETON = ("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev")
_LIB64 = Path("/usr/lib64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What the bootstrap runs inside.

    Args:
        module: Module to import, from ``/worker``.
        function: Function of it, called with ``fd=3``.
        files: Further files that appear inside.
    """

    module: str = "ralph.worker.main"
    function: str = "main"
    files: tuple[Copied, ...] = ()


def package_folders(interpreter: Interpreter) -> tuple[str, ...]:
    """Return where the packages are inside."""
    return tuple(f"/packages/{number}" for number in range(len(interpreter.packages)))


def options(
    *,
    launch: Launch,
    interpreter: Interpreter,
    limits: SandboxLimits,
    copied: tuple[Copied, ...],
    info: int,
    pass_on: Callable[[bytes], int],
) -> tuple[str, ...]:
    """Return all options.

    Args:
        launch: Where the interpreter's parts are bound from.
        interpreter: What runs inside.
        limits: Threads, ranks and scratch size.
        copied: Files to place inside.
        info: Descriptor on which bubblewrap reports the first process inside.
        pass_on: Turns bytes into a descriptor that bubblewrap inherits, reads and closes.
    """
    targets = (*(str(path) for path in interpreter.home), *package_folders(interpreter))
    result = [*_NAMESPACES, "--hostname", "worker", "--info-fd", str(info)]
    for name, value in environment(limits.threads):
        result += ["--setenv", name, value]
    for path in interpreter.system if not limits.gpus else ():
        result += ["--ro-bind", str(interpreter.source(path)), str(path)]
    if _LIB64.is_symlink():
        result += ["--symlink", str(_LIB64.readlink()), str(_LIB64)]
    result += [*_SKELETON, *gpu.options(limits.gpus)]
    result += ["--bind", launch.tmp, TMP] if launch.tmp else ["--size", str(limits.tmp_bytes), "--tmpfs", TMP]
    for source, target in zip(launch.sources, targets, strict=True):
        result += ["--ro-bind", source, target]
    for file in copied:
        result += ["--perms", "0444", "--file", str(pass_on(file.data)), file.target]
    filters = GPU_PROGRAMS if limits.gpus else PROGRAMS if limits.ranks == 1 else RANKS_PROGRAMS
    result += ["--chdir", TMP, "--seccomp", str(pass_on(filters[platform.machine()]))]
    return (*result, *(gpu.PROC if limits.gpus else ("--remount-ro", "/proc")), "--remount-ro", "/dev", "--remount-ro", "/")


def command(*, interpreter: Interpreter, program: Program, limits: SandboxLimits) -> tuple[str, ...]:
    """Return the command line that bubblewrap executes inside; it can be read there."""
    together = (limits.processes * limits.ranks, limits.open_files * limits.ranks)  # every rank is joined to every other one
    # CUDA reserves more addresses than there is memory; where no card is used, its libraries are mapped all the same
    address_space = UNLIMITED if limits.gpus else limits.memory_bytes + interpreter.cuda_bytes
    values = (address_space, *together, limits.file_bytes)
    # -I would also ignore PYTHONHASHSEED; with an environment made here, -s -S -P leave nothing else of it to fear
    python = (str(interpreter.executable), "-s", "-S", "-P", "-B", f"{WORKER}/bootstrap.py")
    return (*python, *(str(value) for value in values), program.module, program.function, WORKER, *package_folders(interpreter))


_KEEP_MEMORY = tuple((f"MALLOC_{name}_", str(1 << 30)) for name in ("MMAP_THRESHOLD", "TRIM_THRESHOLD"))
"""glibc gives large blocks back to the kernel by default, and a training asks for the same ones again in every step: a quarter of
its CPU time at C1 (mallopt(3))."""


def environment(threads: int) -> tuple[tuple[str, str], ...]:
    """Return the whole environment inside. Hashes of strings are fixed: iteration over a set must repeat."""
    counts = tuple((name, str(threads)) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"))
    return (
        *counts,
        *_KEEP_MEMORY,
        ("HOME", TMP),
        ("TMPDIR", TMP),
        ("LANG", "C.UTF-8"),
        ("PYTHONUTF8", "1"),
        ("USER", "worker"),
        ("PYTHONHASHSEED", "0"),
    )
