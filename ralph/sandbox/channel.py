"""The host's end of the channel: every byte in or out has a deadline.

The peer is hostile. It may not read, may answer one byte a minute, or may close. No call here lasts longer than its deadline,
however the bytes arrive, and none allocates: the caller brings the buffer.
"""

import select
import socket
import time


class ChannelClosed(Exception):
    """The peer closed its end."""


class ChannelStalled(Exception):
    """The peer did not read or write enough before the deadline."""


class Channel:
    """One stream socket with deadlines in ``time.monotonic`` seconds."""

    def __init__(self, endpoint: socket.socket) -> None:
        endpoint.setblocking(False)
        self._endpoint = endpoint

    def send(self, data: bytes | bytearray | memoryview, deadline: float) -> None:
        """Write all of ``data``. Raises ChannelClosed or ChannelStalled."""
        view = memoryview(data).cast("B")
        while len(view):
            try:
                view = view[self._endpoint.send(view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)
            except OSError as error:
                raise ChannelClosed from error

    def receive_into(self, buffer: memoryview, deadline: float) -> None:
        """Fill ``buffer``. Raises ChannelClosed or ChannelStalled."""
        view = buffer.cast("B")
        while len(view):
            try:
                count = self._endpoint.recv_into(view)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)
                continue
            except OSError as error:
                raise ChannelClosed from error
            if count == 0:
                raise ChannelClosed
            view = view[count:]
            if len(view) and time.monotonic() >= deadline:
                raise ChannelStalled

    def close(self) -> None:
        """Close the socket; the peer sees the end of the stream."""
        self._endpoint.close()

    def _wait(self, events: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._endpoint, events)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise ChannelStalled
