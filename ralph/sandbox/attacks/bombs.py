"""Attacks that use something up. Each reports numbers to the host, which judges them against the limits."""

import json
import mmap
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

CHUNK = 16 * 1024 * 1024
BOMBERS = 8
DAEMONS = 7
FILES = 100_000
KILLED = 2**64 - 1
"""Reported in place of a number of bytes: the kernel has killed one of the bombers."""
_SCRATCH = Path("/tmp")  # noqa: S108 - a path inside the sandbox
_PAUSE_S = 0.02

Report = Callable[[int], None]


def fork_bomb(report: Report) -> None:
    """Multiply without end; the first process reports how many there are."""
    for round_number in range(200):
        try:
            os.fork()
        except OSError:
            if os.getppid() == 1:
                break
            time.sleep(_PAUSE_S * (round_number % 3))
    if os.getppid() == 1:
        report(sum(entry.name.isdigit() for entry in Path("/proc").iterdir()))
    while True:
        time.sleep(1)


def address_space(report: Report) -> None:
    """Take memory in one process until the kernel says no; report how much it was."""
    held: list[bytearray] = []
    try:
        while len(held) < 4096:
            held.append(bytearray(CHUNK))
    except MemoryError:
        pass
    report(len(held) * CHUNK)


def memory_bomb(report: Report) -> None:
    """Take memory in many processes at once; report the sum, again and again."""
    shared = mmap.mmap(-1, 8 * BOMBERS)
    for number in range(BOMBERS):
        if os.fork() == 0:
            held: list[bytearray] = []
            while True:
                try:
                    held.append(bytearray(b"x") * CHUNK)
                except MemoryError:
                    time.sleep(_PAUSE_S)
                struct.pack_into("<Q", shared, 8 * number, len(held) * CHUNK)
    while True:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child and os.WIFSIGNALED(status):
            report(KILLED)
        report(sum(struct.unpack(f"<{BOMBERS}Q", shared[:])))
        time.sleep(_PAUSE_S)


def fill_scratch(report: Report) -> None:
    """Write files until the scratch folder is full; report the bytes."""
    written = 0
    try:
        for number in range(4096):
            written += (_SCRATCH / f"{number}").write_bytes(bytes(CHUNK // 4))
    except OSError:
        pass
    report(written)


def fill_inodes(report: Report) -> None:
    """Make empty files until it is refused; report how many there are, and how many the file system allows."""
    made = 0
    try:
        for made in range(FILES):
            os.close(os.open(_SCRATCH / f"{made}", os.O_CREAT | os.O_WRONLY))
    except OSError:
        pass
    report(made)
    report(os.statvfs(_SCRATCH).f_files)


def flood(report: Report) -> None:
    """Print without end, escape sequences included."""
    report(0)
    while True:
        os.write(2, b"\x1b]0;owned\x07\x1b[2J" * 4096)


def stubborn_daemons(report: Report) -> None:
    """Start processes that leave their session and ignore every signal that can be ignored."""
    ready, done = os.pipe()
    for _ in range(DAEMONS):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            os.write(done, b"x")
            while True:
                time.sleep(1)
    for _ in range(DAEMONS):
        os.wait()
        os.read(ready, 1)
    report(DAEMONS)
    time.sleep(3600)


def drip(report: Report) -> None:
    """Answer, but one byte at a time and never the whole."""
    while True:
        report(0)
        time.sleep(_PAUSE_S)


def never_read(report: Report) -> None:
    """Report once and never read again."""
    report(0)
    time.sleep(3600)


ATTACKS: dict[str, Callable[[Report], None]] = {
    attack.__name__: attack
    for attack in (fork_bomb, address_space, memory_bomb, fill_scratch, fill_inodes, flood, stubborn_daemons, drip, never_read)
}


def main(fd: int) -> None:
    """Read the name of an attack and run it; every report is one 8-byte number."""
    channel = socket.socket(fileno=fd)
    name = json.loads(channel.recv(4096))
    ATTACKS[name](lambda number: channel.sendall(struct.pack("<Q", number)))
    channel.recv(1)
