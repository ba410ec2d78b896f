import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ralph.sandbox.channel import AHEAD_BYTES, Channel, ChannelClosed, ChannelStalled


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield Channel(ours), theirs
    ours.close()
    theirs.close()


def soon(seconds: float = 0.2) -> float:
    return time.monotonic() + seconds


def test_what_arrives_in_pieces_is_put_together(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    buffer = bytearray(6)
    peer.sendall(b"abc")
    peer.sendall(b"def")
    channel.receive_into(memoryview(buffer), soon())
    assert buffer == b"abcdef"


def test_more_than_was_asked_for_stays_in_the_channel(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    peer.sendall(b"abcdef")
    first, second = bytearray(2), bytearray(4)
    channel.receive_into(memoryview(first), soon())
    channel.receive_into(memoryview(second), soon())
    assert (first, second) == (b"ab", b"cdef")


def test_pieces_of_any_size_arrive_in_order(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    message = random.Random(1).randbytes(1_000_000)
    sender = threading.Thread(target=peer.sendall, args=(message,))
    sender.start()
    received = b""
    for size in (9, 1, AHEAD_BYTES - 1, 50, AHEAD_BYTES, 0, 300_000, 7, 200_000, 3):
        piece = bytearray(size)
        channel.receive_into(memoryview(piece), soon(20.0))
        received += piece
    rest = bytearray(len(message) - len(received))
    channel.receive_into(memoryview(rest), soon(20.0))
    sender.join()
    assert received + rest == message


def test_silence_ends_at_the_deadline(pair: tuple[Channel, socket.socket]) -> None:
    with pytest.raises(ChannelStalled):
        pair[0].receive_into(memoryview(bytearray(1)), soon(0.01))


def test_bytes_after_the_deadline_do_not_prolong_it(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    peer.sendall(b"drop")
    with pytest.raises(ChannelStalled):
        channel.receive_into(memoryview(bytearray(100)), time.monotonic() - 1.0)


def test_a_peer_that_never_reads_ends_at_the_deadline(pair: tuple[Channel, socket.socket]) -> None:
    with pytest.raises(ChannelStalled):
        pair[0].send(bytes(16 << 20), soon(0.05))


def test_a_closed_peer_is_told_apart_from_a_silent_one(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    peer.sendall(b"half")
    peer.close()
    with pytest.raises(ChannelClosed):
        channel.receive_into(memoryview(bytearray(8)), soon())
    with pytest.raises(ChannelClosed):
        channel.send(bytes(1 << 20), soon())


def test_buffers_of_any_item_type_and_none_at_all_pass(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    channel.send(memoryview(b"12345678").cast("d"), soon())
    channel.send(b"", soon())
    assert peer.recv(100) == b"12345678"
    channel.receive_into(memoryview(bytearray()), soon())
