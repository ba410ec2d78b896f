"""One running sandbox: its channel, its output, its deadline and its end.

A thread drains what the worker prints (at most fifty times a second, so that printing costs the worker and not the host), reads
what it uses, and ends it at the deadline or above the memory limit. Ending it means killing the first process of
its process namespace, with which the kernel kills every other one; the call returns when none is left.

Start and use a sandbox on a thread that lives at least as long: the kernel ends the sandbox when that thread ends.
"""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time

from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.interfaces import SandboxLimits
from ralph.protocol.reasons import Reason
from ralph.sandbox import usage
from ralph.sandbox.cgroups import Cgroup
from ralph.sandbox.channel import Channel, ChannelClosed, ChannelStalled
from ralph.sandbox.printable import printable

TAIL_BYTES = 4096
READ_BYTES = 64 * 1024
SAMPLE_S = 0.1
"""Between two readings of what the processes use, where this thread is what bounds their memory together."""
BOUNDED_SAMPLE_S = 2.0
"""The same where a control group bounds the memory and counts the processor time: a reading then only finds the peak."""
FLOOD_PAUSE_S = 0.02
"""After a read: a flood is drained at about 3 MB/s, and many small pieces wake the host no more often."""
SEND_TIMEOUT_S = 120.0
END_TIMEOUT_S = 30.0
LINGER_S = 0.5


class RunningSandbox:
    """Implements ``interfaces.SandboxedWorker`` over one process tree, whatever launcher started it.

    Args:
        process: The launcher, started with its output to ``output``.
        first: Descriptor (pidfd) of the process with which the kernel ends every other one inside.
        output: Read end of the worker's standard output and error.
        channel: The host's end of the channel.
        limits: What the worker may use.
        deadline: End of its life in ``time.monotonic`` seconds.
        cgroup: The control group that it is in, if any.
        counted: Process whose tree is what is inside; the launcher by default, where it is small and nobody's but the worker's.
        linger_s: How long a worker that closed its channel may take to end by itself, so that its exit code is known.
        programs_bytes: Size of programs that are held in memory: so much shared memory of each rank is not its own.
    """

    def __init__(
        self,
        *,
        process: subprocess.Popen[bytes],
        first: int,
        output: int,
        channel: Channel,
        limits: SandboxLimits,
        deadline: float,
        cgroup: Cgroup | None,
        counted: int | None = None,
        linger_s: float = LINGER_S,
        programs_bytes: int = 0,
    ) -> None:
        self._process = process
        self._first = first
        self._output = output
        self._channel = channel
        self._limits = limits
        self._memory_bytes = limits.memory_bytes * limits.ranks
        self._deadline = deadline
        self._cgroup = cgroup
        self._counted = process.pid if counted is None else counted
        self._linger_s = linger_s
        self._programs_bytes = programs_bytes * limits.ranks
        self._lock = threading.RLock()
        self._tail = b""
        self._cpu_s = 0.0
        self._peak_bytes = 0
        self._supervision_s = 0.0
        self._sample_s = SAMPLE_S if cgroup is None else BOUNDED_SAMPLE_S
        self._reason: UntrustedInputError | None = None
        self._ended = False
        self._alive_at_end = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name=f"sandbox-{process.pid}", daemon=True)
        self._thread.start()

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Write all bytes to the channel. Raises ``UntrustedInputError`` RUN-STALL, RUN-OOM or RUN-CRASH."""
        try:
            self._channel.send(data, min(time.monotonic() + SEND_TIMEOUT_S, self._deadline + 1.0))
        except (ChannelStalled, ChannelClosed) as error:
            raise self._broken(error, SEND_TIMEOUT_S) from error

    def receive_into(self, buffer: memoryview, timeout_s: float) -> None:
        """Fill ``buffer`` from the channel. Raises ``UntrustedInputError`` RUN-STALL, RUN-OOM or RUN-CRASH."""
        try:
            self._channel.receive_into(buffer, min(time.monotonic() + timeout_s, self._deadline + 1.0))
        except (ChannelStalled, ChannelClosed) as error:
            raise self._broken(error, timeout_s) from error

    def stderr_tail(self) -> str:
        """Return the end of what the worker printed, made printable, at most 4 KiB of it. For the operator, never for a Record."""
        with self._lock:
            return printable(self._tail)[-TAIL_BYTES:]

    def cpu_seconds(self) -> float:
        """Return CPU seconds used inside so far.

        From the control group where there is one. Otherwise sampled every ``SAMPLE_S``: short by at most that when the
        worker ends by itself, and by one clock tick when it is killed.
        """
        with self._lock:
            self._sample()
            return self._cpu_s

    def peak_memory_bytes(self) -> int:
        """Return the largest resident size that one process inside has had.

        The kernel keeps it as long as the process lives; one that ends between two readings is missed, but it was under the limit.
        """
        with self._lock:
            self._sample()
            return self._peak_bytes

    def supervision_cpu_seconds(self) -> float:
        """Return CPU seconds of the thread that watches this sandbox, up to the last time that it went to sleep."""
        return self._supervision_s

    def processes(self) -> tuple[int, ...]:
        """Return the host's numbers of every process inside, and of the launcher where it counts as one."""
        with self._lock:
            return () if self._ended else usage.tree(self._counted)

    def kill(self) -> None:
        """End every process inside and wait until none is left. Idempotent.

        Raises:
            InfrastructureError: The kernel did not finish in time.
        """
        with self._lock:
            if self._ended:
                return
            self._sample()
            self._end()
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def close(self) -> None:
        """Kill, then release every descriptor; the object is of no use afterwards but for its figures."""
        try:
            self.kill()
        finally:
            self._thread.join(END_TIMEOUT_S)
            self._channel.close()
            os.close(self._first)
            os.close(self._output)

    def _broken(self, error: ChannelStalled | ChannelClosed, timeout_s: float) -> UntrustedInputError:
        """End the worker; return why its channel is of no more use."""
        if isinstance(error, ChannelStalled):
            self.kill()
            return self._reason or UntrustedInputError(Reason.RUN_STALL, f"no complete answer within {timeout_s:g} s")
        self._wait_first(self._linger_s)
        self.kill()
        return self._reason or self._crash()

    def _crash(self) -> UntrustedInputError:
        """Say how the worker ended, and nothing that it printed: verdicts are public, and it may have seen hidden text."""
        code = self._process.returncode
        if self._alive_at_end:
            how = "closed its channel"
        else:
            how = f"was ended by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
        return UntrustedInputError(Reason.RUN_CRASH, f"the worker {how}")

    def _wait_first(self, timeout_s: float) -> bool:
        """Return whether the first process inside, and with it every other one, has ended."""
        poll = select.poll()
        poll.register(self._first, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def _end(self) -> None:
        """Kill the first process inside, wait until the namespace is empty, then collect the launcher."""
        self._alive_at_end = not self._wait_first(0.0)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGKILL)
        empty = self._wait_first(END_TIMEOUT_S)
        self._drain()  # a launcher may have something to say of the end, and must not wait for room to say it
        try:
            self._process.wait(LINGER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_TIMEOUT_S)
        self._ended = True
        self._drain()
        if self._cgroup is not None:
            self._cpu_s = max(self._cpu_s, self._cgroup.cpu_seconds())
            if self._cgroup.out_of_memory():
                self._reason = self._reason or self._too_much()
            self._cgroup.remove()
        if not empty:
            raise InfrastructureError(f"sandbox {self._process.pid} is not empty {END_TIMEOUT_S:g} s after its kill", code="OPS-SANDBOX")

    def _too_much(self) -> UntrustedInputError:
        return UntrustedInputError(Reason.RUN_OOM, f"more than {self._memory_bytes} bytes of memory")

    def _supervise(self) -> None:
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        poll.register(self._first, select.POLLIN)
        due = 0.0
        while not self._stop.is_set():
            self._supervision_s = time.thread_time()
            left = max(0.0, min(due, self._deadline) - time.monotonic())
            ready = {descriptor for descriptor, _ in poll.poll(left * 1000)}
            with self._lock:
                if self._ended:
                    return
                count = self._drain() if self._output in ready else -1
                if count == 0:
                    poll.unregister(self._output)
                if self._first in ready:
                    self.kill()
                    return
                if time.monotonic() >= min(due, self._deadline):
                    self._watch()
                    due = time.monotonic() + self._sample_s
            if count > 0:
                self._stop.wait(FLOOD_PAUSE_S)

    def _watch(self) -> None:
        """End the sandbox at its deadline, or when it holds too much memory and no control group does it for us."""
        held_bytes = self._sample()
        if time.monotonic() >= self._deadline:
            self._reason = UntrustedInputError(Reason.RUN_STALL, f"still running after {self._limits.timeout_s:g} s")
        elif self._cgroup is None and held_bytes > self._memory_bytes:
            self._reason = self._too_much()
        else:
            return
        self.kill()

    def _drain(self) -> int:
        """Read once from the output and keep its end; return how much there was, 0 at the end of the stream."""
        try:
            data = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return -1
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        return len(data)

    def _sample(self) -> int:
        if self._ended:
            return 0
        now = usage.read(self._counted)
        cpu_s = now.cpu_s if self._cgroup is None else self._cgroup.cpu_seconds()
        self._cpu_s = max(self._cpu_s, cpu_s)
        self._peak_bytes = max(self._peak_bytes, now.peak_bytes)
        return now.private_bytes + max(0, now.shared_bytes - self._programs_bytes)
