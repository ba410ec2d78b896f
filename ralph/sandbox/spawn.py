"""Start a launcher process and meet the bootstrap that it runs inside."""

import contextlib
import os
import re
import socket
import subprocess
import time
from pathlib import Path

from ralph.sandbox import bootstrap
from ralph.sandbox.channel import Channel, ChannelClosed, ChannelStalled
from ralph.sandbox.printable import printable

START_TIMEOUT_S = 60.0
"""How long our own code inside may take to stand; nobody else's code runs in that time."""
_EXIT_TIMEOUT_S = 1.0
_REPORT_BYTES = 4096


class StartFailed(Exception):
    """The bootstrap did not report; the text is what the launcher printed."""


class Ends:
    """Both ends of everything that connects the host with one sandbox: channel, output, report and option files.

    The descriptors for the other side are closed by ``start``, whether it succeeds or not; ours by ``close``.

    Args:
        named: Give their end of the channel a name that the kernel picks. The channel belongs to the host's network namespace, so whoever
            may call bind(2) inside could else take any abstract name of the host with it; a socket takes only one.
    """

    def __init__(self, *, named: bool) -> None:
        ours, self._theirs = socket.socketpair()
        if named:
            self._theirs.bind("")
        self.channel = Channel(ours)
        self.output, self._output_end = os.pipe()
        self._report, self.report_end = os.pipe()
        self._inherited = [self.report_end]
        for descriptor in (self.output, self._report):
            os.set_blocking(descriptor, False)

    def pass_on(self, data: bytes) -> int:
        """Return a descriptor from which the launcher reads ``data``."""
        descriptor = os.memfd_create("ralph")
        self._inherited.append(descriptor)
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def start(self, command: tuple[str, ...], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start ``command`` with exactly these descriptors and this environment."""
        try:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=self._theirs.fileno(),
                stdout=self._output_end,
                stderr=self._output_end,
                pass_fds=self._inherited,
                start_new_session=True,
            )
        finally:
            self.release()

    def release(self) -> None:
        """Close the other side's descriptors. Idempotent."""
        self._theirs.close()
        for descriptor in (*self._inherited, self._output_end):
            if descriptor >= 0:
                os.close(descriptor)
        self._inherited, self._output_end = [], -1

    def meet(self, process: subprocess.Popen[bytes]) -> int:
        """Wait until our bootstrap stands inside, let it go on, and return a pidfd of the first process inside.

        Raises:
            StartFailed: The launcher ended or did not get that far in time; it is gone.
        """
        answer = memoryview(bytearray(1))
        until = time.monotonic() + START_TIMEOUT_S
        first = -1
        try:
            self.channel.receive_into(answer, until)
            first = self._open_first(process.pid)
            self.channel.send(bootstrap.GO, until)
            return first
        except (ChannelClosed, ChannelStalled, OSError, ValueError) as error:
            if first >= 0:
                os.close(first)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_EXIT_TIMEOUT_S)
            process.kill()
            process.wait()
            raise StartFailed(self._said()) from error

    def close(self) -> None:
        """Close everything, after a failure."""
        self.release()
        self.channel.close()
        os.close(self._report)
        os.close(self.output)

    def hand_over(self) -> tuple[Channel, int]:
        """Return channel and output; the caller closes them from now on."""
        os.close(self._report)
        return self.channel, self.output

    def _said(self) -> str:
        try:
            return printable(os.read(self.output, _REPORT_BYTES)).strip()
        except BlockingIOError:
            return ""

    def _open_first(self, launcher: int) -> int:
        """Return a pidfd of the namespace's first process, made sure to be the launcher's child."""
        report = os.read(self._report, _REPORT_BYTES)
        found = re.search(rb'"child-pid":\s*(\d+)', report)
        if found is None:
            raise ValueError(f"no process in {report[:100]!r}")
        first = int(found[1])
        descriptor = os.pidfd_open(first)
        parent = int(Path(f"/proc/{first}/stat").read_bytes().rpartition(b")")[2].split()[1])
        if parent != launcher:
            os.close(descriptor)
            raise ValueError(f"process {first} is a child of {parent}, not of {launcher}")
        return descriptor
