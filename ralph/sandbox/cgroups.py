"""Control groups for memory, processes and CPU, where this machine lets us make them."""

import contextlib
import itertools
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ralph.errors import SandboxUnavailable
from ralph.interfaces import SandboxLimits
from ralph.sandbox.limits import SPARE_PROCESSES

ROOT = Path("/sys/fs/cgroup")
CPU_PERIOD_US = 100_000
REMOVE_TIMEOUT_S = 5.0
_numbers = itertools.count()
_JANITOR = """
read -r nothing
for folder in "$@"; do
  tries=0
  while [ -d "$folder" ] && [ $tries -lt 200 ]; do
    while read -r process; do kill -KILL "$process"; done < "$folder/cgroup.procs"
    rmdir "$folder" || sleep 0.05
    tries=$((tries + 1))
  done
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controllers:
    """Where new groups can be made: one folder for all controllers (version 2) or one for each (version 1)."""

    unified: Path | None
    memory: Path
    pids: Path
    cpu: Path | None
    cpuacct: Path | None


def available() -> Controllers | None:
    """Return where this process can make control groups for memory and processes, or None."""
    if (ROOT / "cgroup.controllers").is_file():
        return _version_two(ROOT)
    found = {name: _version_one(name) for name in ("memory", "pids", "cpu", "cpuacct")}
    memory, pids = found["memory"], found["pids"]
    if memory is None or pids is None:
        return None
    return Controllers(unified=None, memory=memory, pids=pids, cpu=found["cpu"], cpuacct=found["cpuacct"])


def _version_two(folder: Path) -> Controllers | None:
    with contextlib.suppress(OSError):
        (folder / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    try:
        enabled = (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return None
    if not {"memory", "pids"} <= set(enabled) or not _writable(folder):
        return None
    return Controllers(unified=folder, memory=folder, pids=folder, cpu=folder if "cpu" in enabled else None, cpuacct=folder)


def _version_one(controller: str) -> Path | None:
    """Return our own group of a version 1 hierarchy, so that limits on us hold for what we start."""
    base = ROOT / controller
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            own = base / path.lstrip("/")
            return next((folder for folder in (own, base) if _writable(folder)), None)
    return None


def _writable(folder: Path) -> bool:
    return os.access(folder / "cgroup.procs", os.W_OK) and os.geteuid() == 0


class Cgroup:
    """One sandbox's group in every hierarchy, and a janitor that removes it should this process die.

    Raises:
        SandboxUnavailable: The kernel refused a group or a limit.
    """

    def __init__(self, controllers: Controllers, limits: SandboxLimits) -> None:
        name = f"ralph-{os.getpid()}-{next(_numbers)}"
        parents = dict.fromkeys(
            folder for folder in (controllers.memory, controllers.pids, controllers.cpu, controllers.cpuacct) if folder is not None
        )
        self.folders = tuple(folder / name for folder in parents)
        self._memory = controllers.memory / name
        self._cpuacct = controllers.cpuacct / name if controllers.cpuacct else None
        self._unified = controllers.unified is not None
        self._janitor = self._start_janitor()
        try:
            for folder in self.folders:
                folder.mkdir()
            self._limit(controllers, name, limits)
        except OSError as error:
            self.remove()
            raise SandboxUnavailable(f"cannot make the control group {name}: {error}", code="OPS-SANDBOX") from error

    def enter(self, processes: tuple[int, ...]) -> None:
        """Move processes in. What they hold already is counted where they were.

        Raises:
            SandboxUnavailable: The kernel refused it.
        """
        try:
            for folder in self.folders:
                for process in processes:
                    (folder / "cgroup.procs").write_text(str(process))
        except OSError as error:
            raise SandboxUnavailable(f"cannot enter the control group {self.folders[0].name}: {error}", code="OPS-SANDBOX") from error

    def cpu_seconds(self) -> float:
        """Return CPU seconds used in the group, exact and including what has ended; 0 where it is not counted."""
        if self._cpuacct is None:
            return 0.0
        try:
            if not self._unified:
                return int((self._cpuacct / "cpuacct.usage").read_text()) / 1e9
            return int((self._cpuacct / "cpu.stat").read_text().split()[1]) / 1e6
        except OSError:
            return 0.0

    def out_of_memory(self) -> bool:
        """Return whether the kernel has killed something in the group for its memory limit."""
        try:
            text = (self._memory / ("memory.events" if self._unified else "memory.oom_control")).read_text()
        except OSError:
            return False
        return any(line.split()[0] == "oom_kill" and line.split()[1] != "0" for line in text.splitlines())

    def remove(self) -> None:
        """Remove the emptied group. What cannot be removed in time is left to the janitor, which kills and retries."""
        until = time.monotonic() + REMOVE_TIMEOUT_S
        for folder in self.folders:
            while folder.is_dir() and time.monotonic() < until:
                try:
                    folder.rmdir()
                except OSError:
                    time.sleep(0.002)
        if self._janitor.stdin is not None:
            self._janitor.stdin.close()
        self._janitor.wait()

    def _start_janitor(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", _JANITOR, "sh", *(str(folder) for folder in self.folders)],
            env={"PATH": "/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _limit(self, controllers: Controllers, name: str, limits: SandboxLimits) -> None:
        processes = limits.processes * limits.ranks + SPARE_PROCESSES
        quota_us = limits.threads * limits.ranks * CPU_PERIOD_US
        memory_bytes = limits.memory_bytes * limits.ranks
        if self._unified:
            folder = self.folders[0]
            _write(folder / "memory.max", memory_bytes)
            _write(folder / "memory.swap.max", 0)
            _write(folder / "memory.oom.group", 1)
            _write(folder / "pids.max", processes)
            if controllers.cpu is not None:
                (folder / "cpu.max").write_text(f"{quota_us} {CPU_PERIOD_US}")
            return
        _write(self._memory / "memory.limit_in_bytes", memory_bytes)
        _write(self._memory / "memory.memsw.limit_in_bytes", memory_bytes)
        _write(controllers.pids / name / "pids.max", processes)
        if controllers.cpu is not None:
            _write(controllers.cpu / name / "cpu.cfs_quota_us", quota_us)


def _write(file: Path, value: int) -> None:
    """Write a limit; a kernel without swap accounting lacks the swap files."""
    if file.exists():
        file.write_text(str(value))
