"""Memory and process limits for an ordinary user: a transient scope of the user's own systemd, where there is one."""

import subprocess
from pathlib import Path

from ralph.interfaces import SandboxLimits
from ralph.sandbox.limits import MEBIBYTE, SPARE_PROCESSES

_TIMEOUT_S = 5.0
_SYSTEMD_RUN = "/usr/bin/systemd-run"
_SPARE_BYTES = 64 * MEBIBYTE
"""Above the worker's limit, so that our own count is reached first and names the cause."""


def available(uid: int) -> bool:
    """Return whether the systemd of user ``uid`` starts a scope with a memory limit."""
    if not Path(_SYSTEMD_RUN).exists() or not _runtime_folder(uid).joinpath("systemd", "private").exists():
        return False
    command = [*_command(MEBIBYTE * 64, 16), "/usr/bin/env", "true"]
    try:
        done = subprocess.run(command, env=environment(uid), stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def environment(uid: int) -> dict[str, str]:
    """Return what ``systemd-run`` needs to find the user's systemd."""
    return {"XDG_RUNTIME_DIR": str(_runtime_folder(uid))}


def prefix(limits: SandboxLimits) -> tuple[str, ...]:
    """Return the command line that runs what follows in a scope, with nothing in its environment."""
    memory_bytes, tasks = limits.memory_bytes * limits.ranks, limits.processes * limits.ranks
    return (*_command(memory_bytes + _SPARE_BYTES, tasks + SPARE_PROCESSES), "/usr/bin/env", "-i")


def _command(memory_bytes: int, tasks: int) -> tuple[str, ...]:
    properties = (f"MemoryMax={memory_bytes}", "MemorySwapMax=0", f"TasksMax={tasks}")
    options = (option for value in properties for option in ("--property", value))
    return (_SYSTEMD_RUN, "--user", "--scope", "--quiet", "--collect", *options, "--")


def _runtime_folder(uid: int) -> Path:
    return Path("/run/user") / str(uid)
