"""One sandbox must not be able to tell a later one anything over files that both may only read."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from ralph.sandbox.running import RunningSandbox


def test_a_sandbox_cannot_ask_what_is_in_memory_or_watch_files(inside: Callable[..., AbstractContextManager[RunningSandbox]]) -> None:
    source = """
        import ctypes
        answers = []
        for attempt in (lambda: os.preadv(os.open("/worker/target.py", os.O_RDONLY), [bytearray(1)], 0, os.RWF_NOWAIT),):
            try:
                attempt()
                answers.append("done")
            except PermissionError:
                answers.append("denied")
        libc = ctypes.CDLL(None, use_errno=True)
        libc.inotify_init1(0)
        answers.append(str(ctypes.get_errno()))
        channel.sendall(" ".join(answers).encode().ljust(20))
        channel.recv(1)
    """
    with inside(source) as worker:
        answer = bytearray(20)
        worker.receive_into(memoryview(answer), 20.0)
    assert answer.decode().split() == ["denied", "1"]
