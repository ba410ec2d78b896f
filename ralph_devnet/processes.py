"""Start, watch and end the processes of a demo; nothing outlives it.

Every process leads its own process group, writes to its own log and has its own empty home directory.
Ending them asks politely first, waits, and then kills whole groups, so that what a node had started goes
with it. Where the kernel's parent-death signal is at hand (``setpriv`` of util-linux), the nodes also end
when the demo itself is killed without a chance to clean up.

What this does **not** promise: that a process which left its group (a sandbox) is ended from here; sandboxes
die with the node that started them.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from ralph.errors import ConfigurationError
from ralph_devnet.words import safe

GRACE_S = 10.0
POLL_S = 0.02
TAIL_BYTES = 8192
MAX_LINE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to be."""

    name: str
    command: tuple[str, ...]
    stdin: bytes = b""
    stdout: Path | None = None
    """Where standard output goes; None for the log, where standard error always goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A process that has ended."""

    name: str
    status: int
    """Exit status; the negative number of the signal that ended it."""
    last_line: str
    """The last line of its log, safe to show."""

    def __str__(self) -> str:
        how = f"exit status {self.status}" if self.status >= 0 else f"signal {signal.Signals(-self.status).name}"
        return f"{self.name} ended ({how}): {self.last_line or 'it logged nothing'}"


@dataclass(slots=True, kw_only=True)
class _Running:
    launch: Launch
    process: "subprocess.Popen[bytes]" = field(repr=False)

    @property
    def ended(self) -> bool:
        """Return whether the process has ended, without collecting it: its number stays taken until then."""
        if self.process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Processes:
    """The processes of one demo. Use it as a context manager, from the main thread.

    Args:
        logs: Directory of the log files.
        homes: Directory under which each process gets its own home.
        grace_s: How long processes may take to end when asked to.
    """

    def __init__(self, *, logs: Path, homes: Path, grace_s: float = GRACE_S) -> None:
        self._logs, self._homes, self._grace_s = logs, homes, grace_s
        self._running: dict[str, _Running] = {}
        self._guard = shutil.which("setpriv")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all processes that were started and not stopped."""
        return tuple(self._running)

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._logs / f"{name}.log"

    def start(self, launch: Launch) -> int:
        """Start a process and return its number. Raises ConfigurationError when it cannot be started."""
        if launch.name in self._running:
            raise ConfigurationError(f"{launch.name} runs already")
        home = self._homes / launch.name
        for directory in (self._logs, home):
            directory.mkdir(parents=True, exist_ok=True)
        with self.log(launch.name).open("ab") as log, (launch.stdout or self.log(launch.name)).open("ab") as out:
            try:
                process = subprocess.Popen(
                    [*self._prefix(), *launch.command],
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=log,
                    env=environment(home),
                    start_new_session=True,
                )
            except OSError as error:
                raise ConfigurationError(f"cannot start {launch.name}: {error}") from error
        self._running[launch.name] = _Running(launch=launch, process=process)
        _feed(process, launch.stdin)
        return process.pid

    def deaths(self) -> tuple[Death, ...]:
        """Return the processes that have ended by themselves."""
        return tuple(self._death(one) for one in self._running.values() if one.ended)

    def wait(self, name: str, *, timeout_s: float) -> Death | None:
        """Return how a process ended, None when it still runs after ``timeout_s``."""
        one, deadline = self._running[name], time.monotonic() + timeout_s
        while not one.ended and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return self._death(one) if one.ended else None

    def stop(self, *names: str) -> None:
        """End these processes, or all of them: ask, wait, kill. Idempotent."""
        chosen = [self._running[name] for name in names or self._running if name in self._running]
        for one in chosen:
            if not one.ended:
                one.process.terminate()
        deadline = time.monotonic() + self._grace_s
        try:
            while not all(one.ended for one in chosen) and time.monotonic() < deadline:
                time.sleep(POLL_S)
        finally:  # also when somebody loses patience and interrupts the waiting
            for one in chosen:
                _kill_group(one.process)
                del self._running[one.launch.name]

    def _prefix(self) -> tuple[str, ...]:
        return (self._guard, "--pdeathsig", "TERM", "--") if self._guard else ()

    def _death(self, one: _Running) -> Death:
        return Death(name=one.launch.name, status=_status(one.process), last_line=last_line(self.log(one.launch.name)))


def python(*arguments: str) -> tuple[str, ...]:
    """Return the command line of this interpreter."""
    return (sys.executable, *arguments)


def environment(home: Path) -> dict[str, str]:
    """Return the whole environment of a process: nothing of the caller's but where programs are."""
    return {
        "HOME": str(home.absolute()),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONUNBUFFERED": "1",
    }


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, safe to show; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            tail = file.read(TAIL_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    lines = [line for line in tail.splitlines() if line.strip()]
    return safe(lines[-1], MAX_LINE) if lines else ""


def _feed(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    if process.stdin is None:
        return
    try:
        with process.stdin as pipe:
            pipe.write(data)
    except BrokenPipeError:
        return  # it ended before it read; whoever watches it will see that


def _status(process: "subprocess.Popen[bytes]") -> int:
    """Return the status of a process that has ended, without collecting it."""
    if process.returncode is not None:
        return process.returncode
    found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if found is None:
        raise ValueError(f"process {process.pid} still runs")
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill what is left of a group, then collect its leader, whose number nobody else can have until then."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
