"""What a tree of processes has used, read from ``/proc``.

CPU time has the resolution of the kernel's clock tick (10 ms) and includes children that were waited for. A process that ends
between two readings takes the time since its last reading with it, unless its parent lives on inside the same tree.
"""

import contextlib
import os
from dataclasses import dataclass

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_KIBIBYTE = 1024
READ_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One reading of a process tree."""

    cpu_s: float
    peak_bytes: int
    """Largest resident size that any single process of the tree has had."""
    private_bytes: int
    """Anonymous memory of all processes now; pages shared after a fork count once for each."""
    shared_bytes: int
    """Shared memory of all processes now, counted once for each; mapped files of a file system in memory are in it."""
    processes: int


def read(root: int) -> Usage:
    """Read the tree below and including process ``root``. What is gone by the time it is read counts as nothing."""
    cpu_s, peak, private, shared = 0.0, 0, 0, 0
    processes = tree(root)
    for process in processes:
        try:
            fields = _content(f"/proc/{process}/stat").rpartition(b")")[2].split()
            status = _content(f"/proc/{process}/status")
        except (FileNotFoundError, ProcessLookupError):
            continue
        cpu_s += sum(int(field) for field in fields[11:15]) * _TICK_S
        peak = max(peak, _kibibytes(status, b"VmHWM:") * _KIBIBYTE)
        private += _kibibytes(status, b"RssAnon:") * _KIBIBYTE
        shared += _kibibytes(status, b"RssShmem:") * _KIBIBYTE
    return Usage(cpu_s=cpu_s, peak_bytes=peak, private_bytes=private, shared_bytes=shared, processes=len(processes))


def tree(root: int) -> tuple[int, ...]:
    """Return ``root`` and every process below it."""
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208 - a Path for every thread costs more than the reading
                waiting += map(int, _content(f"/proc/{process}/task/{task}/children").split())
    return tuple(found)


def _content(path: str) -> bytes:
    """Return a whole file; plain calls, because this is most of what watching a sandbox costs."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while chunk := os.read(descriptor, READ_BYTES):
            content += chunk
        return content
    finally:
        os.close(descriptor)


def _kibibytes(status: bytes, name: bytes) -> int:
    _, found, rest = status.partition(b"\n" + name)
    return int(rest.split(None, 1)[0]) if found else 0
