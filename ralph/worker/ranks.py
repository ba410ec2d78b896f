"""Ranks: processes of one sandbox that train one model together, each on its share of the rows of every batch.

Rank 0 alone talks to the host. It is the process that the launcher started; after SETUP it forks the others, before anything of the recipe
or any thread exists, and passes on to them over socket pairs what all of them must do: LOAD, and of every BATCH an equal block of rows.
It answers READY and STEPPED once all have, and everything else, which only reads, by itself. The process group of torch.distributed
is theirs to use. Rendezvous is a file in the sandbox's scratch folder, so no name is looked up.

A failure ends the run: the earliest one is reported, since those after it are mostly the others' broken connections. A rank that ends
without a word is a crash. A rank that hangs is ended by the host's own deadline, which is why no wait in here has one.
"""

import os
import select
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from ralph.train import wire
from ralph.worker import loopback
from ralph.worker.channel import Channel

RENDEZVOUS = "file:///tmp/ralph-ranks"
NO_TIMEOUT = timedelta(days=30)
LINGER_MS = 500
"""After a failure: how long the others may take to say that theirs was the first."""
_PASSED_ON = (wire.Kind.LOAD, wire.Kind.BATCH)
_AWAITED = (wire.Kind.READY, wire.Kind.STEPPED)


@dataclass(frozen=True, slots=True)
class _Other:
    """Another rank, as rank 0 sees it."""

    rank: int
    process: int
    descriptor: int
    channel: Channel


@dataclass(frozen=True, slots=True)
class _Failure:
    """How a rank failed, and when."""

    at_ns: int
    code: str
    detail: str


class RankError(Exception):
    """Another rank failed. What is reported is how."""


def join(channel: Channel, fd: int, header: Mapping[str, Any]) -> Channel:
    """Become as many processes as SETUP says, all of one process group; return each one's channel.

    Args:
        channel: The host's, on descriptor ``fd``.
        fd: Closed in all ranks but rank 0.
        header: ``ranks`` and ``device`` of SETUP. One rank is what there is already.
    """
    count = header["ranks"]
    if count == 1:
        return channel
    others: list[_Other] = []
    for number in range(1, count):
        ours, theirs = socket.socketpair()
        process = os.fork()
        if process == 0:
            os.close(fd)
            for descriptor in (ours.detach(), *(other.descriptor for other in others)):
                os.close(descriptor)
            _connect(number, count, header["device"])
            return _Follower(theirs.detach())
        theirs.close()
        descriptor = ours.detach()
        others.append(_Other(number, process, descriptor, Channel(descriptor)))
    leader = _Leader(fd, others)
    _connect(0, count, header["device"])
    return leader


def _connect(rank: int, count: int, device: str) -> None:
    """Enter the process group of all ranks."""
    if device == "cuda":
        backend = "nccl"
        torch.cuda.set_device(rank)
    else:
        backend = "gloo"
        os.environ["GLOO_SOCKET_IFNAME"] = loopback.NAME  # gloo would look up the host's name otherwise
        loopback.answer_getifaddrs()
    distributed.init_process_group(backend, init_method=RENDEZVOUS, rank=rank, world_size=count, timeout=NO_TIMEOUT)


class _Follower(Channel):
    """Another rank's end of its socket pair to rank 0."""

    def send(self, kind: wire.Kind, header: Mapping[str, Any] | None = None, tensors: Iterable[wire.Tensor] = ()) -> None:
        """Send one frame; a failure says when it was."""
        moment = {"at_ns": time.monotonic_ns()} if kind is wire.Kind.FAILED else {}
        super().send(kind, {**(header or {}), **moment}, tensors)


class _Leader(Channel):
    """Rank 0's channel to the host, which is also the others'."""

    def __init__(self, fd: int, others: list[_Other]) -> None:
        super().__init__(fd)
        self._others = others
        self._failures: dict[int, _Failure] = {}

    def read(self) -> wire.Frame:
        """Return the next frame of the host, or rank 0's share of it, once the others have theirs."""
        frame = super().read()
        if frame.kind not in _PASSED_ON:
            return frame
        count = 1 + len(self._others)
        first, *rest = _shares(frame, count) if frame.kind is wire.Kind.BATCH else [frame] * count
        for other, share in zip(self._others, rest, strict=True):
            other.channel.send(share.kind, share.header, share.tensors)
        return first

    def send(self, kind: wire.Kind, header: Mapping[str, Any] | None = None, tensors: Iterable[wire.Tensor] = ()) -> None:
        """Send one frame: an answer once the others have given theirs, a failure as the earliest one there is."""
        if kind in _AWAITED:
            for other in self._others:
                self._next(other)
        if kind is wire.Kind.FAILED and header is not None:
            self._failures[0] = _Failure(time.monotonic_ns(), header["code"], header["detail"])
            self._collect()
            earliest = min(self._failures.values(), key=lambda failure: failure.at_ns)
            header = {"code": earliest.code, "detail": earliest.detail}
        super().send(kind, header, tensors)

    def _next(self, other: _Other) -> None:
        """Read another rank's next answer. Raises RankError."""
        try:
            frame = other.channel.read()
        except (EOFError, ConnectionError):
            _, status = os.waitpid(other.process, 0)
            how = f"was ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"ended with exit code {status >> 8}"
            failure = _Failure(0, "RUN-CRASH", f"rank {other.rank} {how}")  # the others' failures follow from it
        else:
            if frame.kind is not wire.Kind.FAILED:
                return
            failure = _Failure(frame.header["at_ns"], frame.header["code"], frame.header["detail"])
        self._failures[other.rank] = failure
        raise RankError(failure.detail)

    def _collect(self) -> None:
        """Read what the others have to say, up to their failures; a rank that dies lets go of its connections one by one."""
        poll = select.poll()
        others = {other.descriptor: other for other in self._others if other.rank not in self._failures}
        for descriptor in others:
            poll.register(descriptor, select.POLLIN)
        while others and (ready := poll.poll(LINGER_MS)):
            for descriptor, _ in ready:
                try:
                    self._next(others[descriptor])
                except RankError:
                    poll.unregister(descriptor)
                    del others[descriptor]


def _shares(frame: wire.Frame, count: int) -> list[wire.Frame]:
    """Cut the rows of a batch into ``count`` equal blocks, in their order."""
    (tokens,) = frame.tensors
    rows, size = tokens.shape[0] // count, tokens.size_bytes // count
    data = memoryview(tokens.data)
    blocks = [data[number * size : (number + 1) * size] for number in range(count)]
    return [
        wire.Frame(frame.kind, frame.header, (wire.Tensor(tokens.name, tokens.dtype, (rows, *tokens.shape[1:]), block),))
        for block in blocks
    ]
