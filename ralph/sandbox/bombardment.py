"""Start the attacks that use something up, and judge what they report against the limits."""

import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from ralph.errors import UntrustedInputError
from ralph.interfaces import SandboxLimits
from ralph.protocol.reasons import Reason
from ralph.sandbox.limits import MEBIBYTE
from ralph.sandbox.report import Attack
from ralph.sandbox.running import TAIL_BYTES, RunningSandbox

ANSWER_TIMEOUT_S = 30.0
STALL_S = 0.3
SETTLED_READINGS = 25
"""Unchanged sums of a memory bomb, 20 ms apart, after which it counts as stopped."""
OVERSHOOT = 8
"""Without a control group memory is counted ten times a second; a bomb gets this many times its limit at most."""
INODE_BYTES = 1024
INODE_SHARE = 6
"""Kernel memory for inodes counts as bounded below one sixth of the machine's memory."""
KILLED = 2**64 - 1

Judge = Callable[[RunningSandbox, SandboxLimits], Attack]


def order(worker: RunningSandbox, name: str) -> None:
    """Tell the program inside which attack to run."""
    worker.send(json.dumps(name).encode())


def number(worker: RunningSandbox, timeout_s: float = ANSWER_TIMEOUT_S) -> int:
    """Receive one reported number."""
    buffer = bytearray(8)
    worker.receive_into(memoryview(buffer), timeout_s)
    (value,) = struct.unpack("<Q", buffer)
    return int(value)


def fork_bomb(worker: RunningSandbox, limits: SandboxLimits) -> Attack:
    """The number of processes stays within the limit, and all of them end at once."""
    order(worker, "fork_bomb")
    count = number(worker)
    milliseconds, left = _kill(worker)
    return Attack(
        name="fork bomb",
        blocked=count <= limits.processes + 1 and not left,
        detail=f"{count} processes of {limits.processes}, ended in {milliseconds} ms, {left} left",
    )


def stubborn_daemons(worker: RunningSandbox, limits: SandboxLimits) -> Attack:
    """Processes that left their session and ignore signals end with the sandbox."""
    order(worker, "stubborn_daemons")
    count = number(worker)
    milliseconds, left = _kill(worker)
    return Attack(name="daemons that ignore signals", blocked=not left, detail=f"{count} ended in {milliseconds} ms, {left} left")


def address_space(worker: RunningSandbox, limits: SandboxLimits) -> Attack:
    """One process gets no more memory than its limit."""
    order(worker, "address_space")
    got = number(worker)
    return Attack(name="memory of one process", blocked=got <= limits.memory_bytes, detail=_of(got, limits.memory_bytes))


def memory_bomb(worker: RunningSandbox, limits: SandboxLimits) -> Attack:
    """Many processes together get no more memory than the limit, or the sandbox ends."""
    order(worker, "memory_bomb")
    most = unchanged = 0
    how = "stopped growing"
    while unchanged < SETTLED_READINGS:
        try:
            total = number(worker)
        except UntrustedInputError as error:
            how = f"ended with {error.code}"
            break
        if total == KILLED:
            how = "the kernel killed a process"
            break
        unchanged = unchanged + 1 if total <= most else 0
        most = max(most, total)
    stopped = how != "stopped growing" and most <= limits.memory_bytes * OVERSHOOT
    return Attack(name="memory bomb", blocked=stopped or most <= limits.memory_bytes, detail=f"{_of(most, limits.memory_bytes)}, {how}")


def fill_scratch(worker: RunningSandbox, limits: SandboxLimits) -> Attack:
    """The scratch folder holds no more than its size."""
    order(worker, "fill_scratch")
    got = number(worker)
    return Attack(name="fill scratch folder", blocked=got <= limits.tmp_bytes, detail=_of(got, limits.tmp_bytes))


def fill_inodes(worker: RunningSandbox, limits: SandboxLimits) -> Attack:
    """Empty files end somewhere that costs the machine little."""
    order(worker, "fill_inodes")
    try:
        made, most = number(worker), number(worker)
    except UntrustedInputError as error:
        return Attack(name="fill inodes", blocked=error.code in {Reason.RUN_OOM, Reason.RUN_CRASH}, detail=error.detail)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cost = most * INODE_BYTES
    return Attack(
        name="fill inodes",
        blocked=most > 0 and cost <= machine // INODE_SHARE,
        detail=f"made {made}, at most {most}: {cost // MEBIBYTE} of {machine // MEBIBYTE} MiB",
    )


def flood(worker: RunningSandbox, limits: SandboxLimits) -> Attack:
    """Printing without end reaches the host as a short printable tail and costs it little."""
    order(worker, "flood")
    number(worker)
    began = time.process_time()
    code = _stall(worker, STALL_S)
    spent = time.process_time() - began
    tail = worker.stderr_tail()
    clean = all(letter.isprintable() or letter == "\n" for letter in tail)
    return Attack(
        name="output flood",
        blocked=code == Reason.RUN_STALL and len(tail) <= TAIL_BYTES and clean,
        detail=f"{len(tail)} characters kept; {spent:.2f} s of the host's CPU time in {STALL_S} s",
    )


def drip(worker: RunningSandbox, limits: SandboxLimits) -> Attack:
    """An answer in drops does not outlast its deadline."""
    order(worker, "drip")
    began = time.monotonic()
    code = _stall(worker, STALL_S, size=MEBIBYTE)
    return Attack(name="answer in drops", blocked=code == Reason.RUN_STALL, detail=f"{code} after {time.monotonic() - began:.1f} s")


def never_read(worker: RunningSandbox, limits: SandboxLimits) -> Attack:
    """A worker that does not read ends at the deadline of its life."""
    order(worker, "never_read")
    number(worker)
    began = time.monotonic()
    try:
        worker.send(bytes(64 * MEBIBYTE))
        code = "sent"
    except UntrustedInputError as error:
        code = error.code
    return Attack(name="worker that never reads", blocked=code == Reason.RUN_STALL, detail=f"{code} after {time.monotonic() - began:.1f} s")


def _kill(worker: RunningSandbox) -> tuple[int, int]:
    """Kill the sandbox; return the milliseconds it took and how many of its processes are left."""
    before = worker.processes()
    began = time.monotonic()
    worker.kill()
    spent_ms = round((time.monotonic() - began) * 1000)
    return spent_ms, sum(_alive(process) for process in before)


def _alive(process: int) -> bool:
    try:
        return b") Z" not in Path(f"/proc/{process}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _stall(worker: RunningSandbox, timeout_s: float, *, size: int = 1) -> str:
    """Wait for bytes that do not all come; return the code of what happened instead."""
    try:
        worker.receive_into(memoryview(bytearray(size)), timeout_s)
    except UntrustedInputError as error:
        return error.code
    return "answered"


def _of(got: int, limit: int) -> str:
    return f"{got // MEBIBYTE} of {limit // MEBIBYTE} MiB"
