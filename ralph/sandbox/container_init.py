"""First process of a container: start the program, collect what it leaves behind, end as it ended.

Foreign code must not be process 1 of its namespace. The kernel hides signals from that process, gives it every orphan, and lets every
process of the same user read what it was started with. bubblewrap brings a process 1 of its own; a container engine's would be one
more package of the host, and it can be read. This one cannot: not being dumpable closes its memory and environment to its own user.

Arguments: the program's command line. The program gets descriptor 3 (the channel) as its standard input, where the
bootstrap expects it, and descriptor 4 as its output and error.
"""

import ctypes
import os
import sys
from typing import NoReturn

CHANNEL, OUTPUT = 3, 4
_PR_SET_DUMPABLE = 4
_OURS = ("HOSTNAME", "container")
"""Variables that an engine adds whether they are wanted or not."""


def become(command: list[str]) -> NoReturn:
    """Become the program, with its three descriptors and no others."""
    os.setsid()
    os.dup2(CHANNEL, 0)
    os.dup2(OUTPUT, 1)
    os.dup2(OUTPUT, 2)
    os.closerange(3, 1 << 16)
    os.execve(command[0], command, {name: value for name, value in os.environ.items() if name not in _OURS})  # noqa: S606 - no shell


def collect(program: int) -> int:
    """Collect every process that ends until the program has; return its exit status as a shell would."""
    while True:
        ended, status = os.wait()
        if ended == program:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(command: list[str]) -> None:
    """Hide this process, start the program and wait for it. The other processes end with this one."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process can be read by the program")
    program = os.fork()
    if program == 0:
        become(command)
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, CHANNEL, OUTPUT):
        os.dup2(nothing, descriptor)
    os._exit(collect(program))


if __name__ == "__main__":
    main(sys.argv[1:])
