"""Attack our own sandbox before trusting it with anybody's code.

The attack programs are real code that runs inside the very sandbox that workers get. A daemon runs the quick part when it starts
and refuses work if anything succeeds; ``ralph doctor`` runs all of it. Each finding says what stopped the attack.

Not promised: that what is not listed here is impossible.
"""

import contextlib
import json
import logging
import os
import pwd
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from ralph.errors import UntrustedInputError
from ralph.interfaces import Sandbox, SandboxLimits, SandboxSpec
from ralph.sandbox import bombardment
from ralph.sandbox.bombardment import ANSWER_TIMEOUT_S, Judge
from ralph.sandbox.files import Copied
from ralph.sandbox.limits import FILE_BYTES, MEBIBYTE, OPEN_FILES, PROCESSES
from ralph.sandbox.options import WORKER, Program
from ralph.sandbox.report import Attack, PreflightReport
from ralph.sandbox.running import RunningSandbox

logger = logging.getLogger(__name__)

MEMORY_BYTES = 256 * MEBIBYTE
TMP_BYTES = 32 * MEBIBYTE
LIFE_S = 60.0
SHORT_LIFE_S = 1.0
MAX_RESULTS_BYTES = 256 * 1024
QUICK: tuple[Judge, ...] = (bombardment.address_space, bombardment.fill_scratch, bombardment.stubborn_daemons)
SLOW: tuple[Judge, ...] = (
    bombardment.fork_bomb,
    bombardment.memory_bomb,
    bombardment.fill_inodes,
    bombardment.flood,
    bombardment.drip,
    bombardment.never_read,
)
_SHORT_LIVED = (bombardment.never_read,)
_PACKAGE = "ralph.sandbox.attacks"
_ATTACKS = Path(__file__).with_name("attacks")
_SECRET = "a host file that everybody on the host may read\n"  # noqa: S105 - bait
_WEAK_MEMORY = (
    "no control group for ordinary users without a systemd session: the kernel bounds the memory of each process; that of all together "
    "is counted ten times a second and ended above the limit, so for a moment it can be more"
)


class Attackable(Sandbox, Protocol):
    """A launcher whose program inside can be replaced, so that it can be attacked from there."""

    @property
    def bounds_total_memory(self) -> bool:
        """Whether the kernel bounds the memory of all processes inside together, not only of each."""
        ...

    def running(self, program: Program) -> "Attackable":
        """Return the same sandbox with another program inside."""
        ...

    def launch(self, spec: SandboxSpec) -> AbstractContextManager[RunningSandbox]: ...


def run_preflight(sandbox: Attackable, *, full: bool = False) -> PreflightReport:
    """Run the attacks inside ``sandbox``.

    Args:
        sandbox: The launcher that workers will get.
        full: Also those that take a second each.

    Raises:
        SandboxUnavailable: The sandbox does not start at all.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as recipe:
        bombs = QUICK + (SLOW if full else ())
        findings = (*_probes(sandbox, Path(recipe)), *(_bomb(sandbox, Path(recipe), judge) for judge in bombs))
    weaknesses = () if sandbox.bounds_total_memory else (_WEAK_MEMORY,)
    return PreflightReport(findings=findings, weaknesses=weaknesses, duration_s=time.monotonic() - began)


def attack_first(sandbox: Attackable) -> None:
    """Run the quick part, as a daemon does before it takes work.

    Raises:
        SandboxUnavailable: The sandbox does not start, or an attack got through.
    """
    report = run_preflight(sandbox)
    report.require()
    logger.info("sandbox: %d attacks blocked in %.1f s", len(report.findings), report.duration_s)


def _probes(sandbox: Attackable, recipe: Path) -> Iterator[Attack]:
    """Run every probe in one sandbox, with bait on the host that they may try to read."""
    with _bait() as secrets, sandbox.running(_program("probes", "calls")).launch(_spec(recipe, LIFE_S)) as worker:
        worker.send(json.dumps(secrets).encode())
        size = bytearray(4)
        worker.receive_into(memoryview(size), ANSWER_TIMEOUT_S)
        (length,) = struct.unpack("<I", size)
        results = bytearray(min(length, MAX_RESULTS_BYTES))
        worker.receive_into(memoryview(results), ANSWER_TIMEOUT_S)
        yield _identity(worker)
    for name, got, stopped in json.loads(bytes(results)):
        yield Attack(name=name, blocked=got is None, detail=got or stopped)


def _identity(worker: RunningSandbox) -> Attack:
    """No process inside is user 0 of the host, whatever it is called inside."""
    users = set()
    for process in worker.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{process}/status").read_text()
            users |= {int(user) for user in status.partition("\nUid:")[2].splitlines()[0].split()}
    return Attack(name="root outside", blocked=0 not in users, detail=f"user {', '.join(str(user) for user in sorted(users))} outside")


def _bomb(sandbox: Attackable, recipe: Path, judge: Judge) -> Attack:
    spec = _spec(recipe, SHORT_LIFE_S if judge in _SHORT_LIVED else LIFE_S)
    with sandbox.running(_program("bombs")).launch(spec) as worker:
        try:
            return judge(worker, spec.limits)
        except UntrustedInputError as error:
            return Attack(name=judge.__name__.replace("_", " "), blocked=False, detail=f"could not be judged: {error.detail}")


@contextlib.contextmanager
def _bait() -> Iterator[list[str]]:
    """Put world-readable files where a host keeps things, and return their paths beside some that every host has."""
    with contextlib.ExitStack() as stack:
        paths = ["/etc/passwd", "/etc/hostname", "/proc/1/mem"]
        for folder in (None, _home()):
            with contextlib.suppress(OSError):
                file = stack.enter_context(tempfile.NamedTemporaryFile("w", dir=folder, prefix="ralph-preflight-"))
                file.write(_SECRET)
                file.flush()
                Path(file.name).chmod(0o644)
                paths.append(file.name)
        yield paths


def _home() -> str | None:
    """Return the operator's home, None for a user without an entry."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None


def _program(module: str, *others: str) -> Program:
    files = [_ATTACKS / f"{name}.py" for name in (module, *others)]
    copied = tuple(Copied(target=f"{WORKER}/{_PACKAGE.replace('.', '/')}/{file.name}", data=file.read_bytes()) for file in files)
    return Program(module=f"{_PACKAGE}.{module}", files=copied)


def _spec(recipe: Path, timeout_s: float) -> SandboxSpec:
    return SandboxSpec(
        recipe=recipe,
        limits=SandboxLimits(
            memory_bytes=MEMORY_BYTES,
            processes=PROCESSES,
            open_files=OPEN_FILES,
            file_bytes=FILE_BYTES,
            tmp_bytes=TMP_BYTES,
            timeout_s=timeout_s,
        ),
    )
