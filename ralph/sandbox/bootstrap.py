"""First code inside the sandbox: give up what the recipe must not have, then run the entry point.

It runs before anything of the recipe is imported. It moves the channel to descriptor 3, sets the limits that cannot be
set before bubblewrap has made its namespaces, tells the host that it stands, and waits for the host's answer, so a
sandbox whose host is already dead ends here. Nothing of the project is importable before that.

Arguments: memory bytes, processes, open files, file bytes, entry module, entry function, then folders for ``sys.path``.
"""

import gc
import importlib
import os
import resource
import socket
import sys

CHANNEL = 3
READY = b"R"
GO = b"G"


def take_channel() -> socket.socket:
    """Move the channel from standard input to its own number, so that reading input finds nothing."""
    os.dup2(0, CHANNEL, inheritable=False)
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return socket.socket(fileno=CHANNEL)


def limit(memory_bytes: int, processes: int, open_files: int, file_bytes: int) -> None:
    """Set hard limits for this process and everything that it starts."""
    for kind, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(kind, (value, value))


def main(arguments: list[str]) -> None:
    """Prepare the process, shake hands with the host and call the entry point."""
    channel = take_channel()
    limit(*(int(argument) for argument in arguments[:4]))
    channel.sendall(READY)
    if channel.recv(1) != GO:
        os._exit(0)
    channel.detach()
    sys.path += arguments[6:]
    gc.disable()  # an import makes nothing but what stays; the entry point decides what comes after
    getattr(importlib.import_module(arguments[4]), arguments[5])(fd=CHANNEL)


if __name__ == "__main__":
    main(sys.argv[1:])
