"""What a hostile worker can do to its host over the channel and its output."""

import contextlib
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from ralph.errors import UntrustedInputError
from ralph.sandbox.running import TAIL_BYTES, RunningSandbox
from tests.sandbox.processes import alive, wait_for_end

MEBIBYTE = 1024 * 1024
TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
"""Without a control group the kernel counts whole ticks, of parent and child."""
Inside = Callable[..., AbstractContextManager[RunningSandbox]]


def receive(worker: RunningSandbox, size: int = 1, timeout_s: float = 20.0) -> bytes:
    buffer = bytearray(size)
    worker.receive_into(memoryview(buffer), timeout_s)
    return bytes(buffer)


def refusal(worker: RunningSandbox, size: int = 1, timeout_s: float = 20.0) -> UntrustedInputError:
    with pytest.raises(UntrustedInputError) as caught:
        receive(worker, size, timeout_s)
    return caught.value


def test_an_honest_worker_answers(inside: Inside) -> None:
    with inside("channel.sendall(channel.recv(5)[::-1])\nchannel.recv(1)") as worker:
        worker.send(b"hello")
        assert receive(worker, 5) == b"olleh"


def test_answers_sent_before_a_worker_ended_are_still_read(inside: Inside) -> None:
    with inside("channel.sendall(bytes(range(200)))\nos._exit(0)") as worker:
        assert receive(worker, 100) == bytes(range(100))
        assert receive(worker, 100) == bytes(range(100, 200))
        assert refusal(worker).code == "RUN-CRASH"


def test_a_worker_that_raises_is_a_crash_whose_last_words_only_the_operator_reads(inside: Inside) -> None:
    with inside("raise RuntimeError('a hidden document')") as worker:
        error = refusal(worker)
        assert (error.code, error.detail) == ("RUN-CRASH", "the worker ended with exit code 1")
        assert "RuntimeError: a hidden document" in worker.stderr_tail()


def test_a_worker_that_kills_itself_is_a_crash_with_its_signal(inside: Inside) -> None:
    with inside("os.kill(os.getpid(), 11)") as worker:
        assert "signal 11" in refusal(worker).detail


def test_a_worker_that_closes_its_channel_and_lives_on_is_ended(inside: Inside) -> None:
    with inside("import signal\nchannel.shutdown(socket.SHUT_RDWR)\nsignal.pause()") as worker:
        processes = worker.processes()
        error = refusal(worker)
        assert (error.code, error.detail) == ("RUN-CRASH", "the worker closed its channel")
        assert not alive(processes)


def test_silence_is_a_stall_and_ends_the_worker(inside: Inside) -> None:
    with inside("import signal\nsignal.pause()") as worker:
        processes = worker.processes()
        assert refusal(worker, timeout_s=0.1).code == "RUN-STALL"
        assert not alive(processes)


def test_an_answer_in_drops_is_a_stall(inside: Inside) -> None:
    with inside("import time\nwhile True:\n    channel.sendall(b'x')\n    time.sleep(0.01)") as worker:
        began = time.monotonic()
        assert refusal(worker, size=MEBIBYTE, timeout_s=0.3).code == "RUN-STALL"
        assert time.monotonic() - began < 10


def test_the_deadline_of_its_life_ends_a_worker_that_never_reads(inside: Inside) -> None:
    with inside("import signal\nsignal.pause()", timeout_s=1.0) as worker, pytest.raises(UntrustedInputError) as caught:
        worker.send(bytes(64 * MEBIBYTE))
    assert caught.value.code == "RUN-STALL"
    assert "after 1 s" in caught.value.detail


def test_the_deadline_of_its_life_ends_a_worker_that_nobody_talks_to(inside: Inside) -> None:
    with inside("import signal\nsignal.pause()", timeout_s=0.5) as worker:
        wait_for_end(worker.processes())


def test_too_much_memory_in_all_processes_together_is_said_to_be_memory(inside: Inside) -> None:
    source = """
        import mmap, signal
        for _ in range(6):
            if os.fork() == 0:
                held = [bytearray(b"x") * (1 << 20) for _ in range(80)]
                signal.pause()
        signal.pause()
    """
    with inside(source, memory_bytes=128 * MEBIBYTE) as worker:
        # a control group kills one process after the other, so the first one may be left waiting
        with contextlib.suppress(UntrustedInputError):
            receive(worker, timeout_s=2.0)
        assert refusal(worker).code == "RUN-OOM"


def test_too_much_memory_in_one_process_is_an_error_inside(inside: Inside) -> None:
    source = """
        try:
            held = bytearray(1 << 30)
        except MemoryError:
            channel.sendall(b"M")
            channel.recv(1)
    """
    with inside(source) as worker:
        assert receive(worker) == b"M"


def test_output_is_kept_as_a_short_printable_tail(inside: Inside) -> None:
    source = """
        print("first line")
        print("\\x1b[2J\\x1b]0;owned\\x07", "x" * 10000, "caf\\u00e9 \\u202e", file=sys.stderr)
        os.write(2, b"\\xff\\xfe")
        sys.stdout.flush()
        channel.sendall(b"R")
        channel.recv(1)
    """
    with inside(source) as worker:
        receive(worker)
        worker.kill()
        tail = worker.stderr_tail()
    assert len(tail) <= TAIL_BYTES
    assert all(letter.isprintable() or letter == "\n" for letter in tail)
    assert "café \\u202e" in tail
    assert "\\xff\\xfe" in tail


def test_escape_sequences_are_spelt_out(inside: Inside) -> None:
    with inside("os.write(1, b'\\x1b[31mred\\n')\nchannel.sendall(b'R')\nchannel.recv(1)") as worker:
        receive(worker)
        worker.kill()
        assert worker.stderr_tail() == "\\x1b[31mred\n"


def test_a_flood_of_output_does_not_keep_a_worker_from_being_ended(inside: Inside) -> None:
    with inside("channel.sendall(b'R')\nwhile True:\n    os.write(1, b'flood ' * 1000)") as worker:
        receive(worker)
        assert refusal(worker, timeout_s=0.2).code == "RUN-STALL"
        assert len(worker.stderr_tail()) <= TAIL_BYTES


def test_printing_byte_by_byte_costs_the_worker_and_not_the_host(inside: Inside) -> None:
    source = """
        import time
        while time.process_time() < 1.0:
            os.write(1, b"x")
        channel.sendall(b"R")
        channel.recv(1)
    """
    with inside(source) as worker:
        receive(worker)
        assert worker.cpu_seconds() >= 0.9
        assert 0 < worker.supervision_cpu_seconds() < 0.2


def test_processor_time_and_memory_are_measured(inside: Inside) -> None:
    source = """
        import time
        held = bytearray(b"x") * (100 << 20)
        while time.process_time() < 0.5:
            pass
        channel.sendall(b"R")
        channel.recv(1)
    """
    with inside(source) as worker:
        receive(worker)
        running = worker.cpu_seconds()
        worker.kill()
        assert 0.45 <= running <= worker.cpu_seconds() < 5.0
        assert 100 * MEBIBYTE <= worker.peak_memory_bytes() < 200 * MEBIBYTE


def test_processor_time_of_children_counts(inside: Inside) -> None:
    source = """
        import time
        if os.fork() == 0:
            while time.process_time() < 0.4:
                pass
            os._exit(0)
        os.wait()
        channel.sendall(b"R")
        channel.recv(1)
    """
    with inside(source) as worker:
        receive(worker)
        assert worker.cpu_seconds() >= 0.4 - 2 * TICK_S


def test_killing_twice_is_killing_once(inside: Inside) -> None:
    with inside("channel.recv(1)") as worker:
        worker.kill()
        worker.kill()
        assert worker.processes() == ()


def test_after_a_kill_every_use_is_a_crash(inside: Inside) -> None:
    with inside("channel.recv(1)") as worker:
        worker.kill()
        assert refusal(worker).code == "RUN-CRASH"
        with pytest.raises(UntrustedInputError, match="RUN-CRASH"):
            worker.send(b"x")
