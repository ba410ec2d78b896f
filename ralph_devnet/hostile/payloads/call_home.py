"""Tries to send what it reads: over every kind of socket, and through files that another process may read. Fails loudly where it can."""

import socket
import subprocess
from pathlib import Path

ADDRESSES = (
    (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 22)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("8.8.8.8", 53)),
    (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 22)),
    (socket.AF_UNIX, socket.SOCK_STREAM, "\0ralph"),
    (40, socket.SOCK_STREAM, (2, 1024)),
)
FILES = ("/tmp/../etc/leak", "/usr/lib/leak", "/recipe/leak", "/worker/leak", "/proc/sys/kernel/core_pattern", "/dev/kmsg")


def corrupt(trainer):
    reached = []
    for family, kind, address in ADDRESSES:
        try:
            socket.socket(family, kind).connect(address)
            reached.append(str(address))
        except OSError:
            pass
    for name in FILES:
        try:
            Path(name).write_text("hidden")
            reached.append(name)
        except OSError:
            pass
    try:
        subprocess.run(["/bin/sh", "-c", "true"], check=True)
        reached.append("a shell")
    except (OSError, subprocess.SubprocessError):
        pass
    if reached:
        raise RuntimeError(f"it reached {reached}")
