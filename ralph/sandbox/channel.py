"""The host's end of the channel: every byte in or out has a deadline.

The peer is hostile. It may not read, may answer one byte a minute, or may close. No call here lasts longer than its deadline,
however the bytes arrive, and none allocates: the caller brings the buffer. Small pieces of one message are read in one system call:
at most ``AHEAD_BYTES`` are read before they are asked for.
"""

import select
import socket
import time

AHEAD_BYTES = 64 * 1024


class ChannelClosed(Exception):
    """The peer closed its end."""


class ChannelStalled(Exception):
    """The peer did not read or write enough before the deadline."""


class Channel:
    """One stream socket with deadlines in ``time.monotonic`` seconds."""

    def __init__(self, endpoint: socket.socket) -> None:
        endpoint.setblocking(False)
        self._endpoint = endpoint
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(endpoint, select.POLLIN)
        self._writable.register(endpoint, select.POLLOUT)
        self._ahead = memoryview(bytearray(AHEAD_BYTES))
        self._start = self._end = 0

    def send(self, data: bytes | bytearray | memoryview, deadline: float) -> None:
        """Write all of ``data``. Raises ChannelClosed or ChannelStalled."""
        view = memoryview(data).cast("B")
        while len(view):
            try:
                view = view[self._endpoint.send(view) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not self._writable.poll(left * 1000):
                    raise ChannelStalled from None
            except OSError as error:
                raise ChannelClosed from error

    def receive_into(self, buffer: memoryview, deadline: float) -> None:
        """Fill ``buffer``. Raises ChannelClosed or ChannelStalled."""
        view = buffer.cast("B")
        while True:
            count = min(len(view), self._end - self._start)
            if count:
                view[:count] = self._ahead[self._start : self._start + count]
                self._start += count
                view = view[count:]
            if not len(view):
                return
            if len(view) < AHEAD_BYTES:
                self._start, self._end = 0, self._read(self._ahead, deadline)
                missing = len(view) - self._end
            else:
                view = view[self._read(view, deadline) :]
                missing = len(view)
            if missing > 0 and time.monotonic() >= deadline:
                raise ChannelStalled

    def _read(self, view: memoryview, deadline: float) -> int:
        """Wait for bytes, at most until the deadline, and read what is there then, as much as fits."""
        if not self._readable.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise ChannelStalled
        try:
            count = self._endpoint.recv_into(view)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ChannelClosed from error
        if count == 0:
            raise ChannelClosed
        return count

    def close(self) -> None:
        """Close the socket; the peer sees the end of the stream."""
        self._endpoint.close()
