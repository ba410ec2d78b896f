"""A sandbox for ranks: they reach each other and nothing else; one process alone gets the first filter as ever."""

import json
import platform
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

import ralph.sandbox.attacks
from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.files import Copied
from ralph.sandbox.identity import Launch
from ralph.sandbox.interpreter import Interpreter
from ralph.sandbox.options import Program, command, options
from ralph.sandbox.running import RunningSandbox
from ralph.sandbox.seccomp import PROGRAMS, RANKS_PROGRAMS

MEBIBYTE = 1024 * 1024
ATTACKS = Path(ralph.sandbox.attacks.__file__).parent
LIMITS = SandboxLimits(
    memory_bytes=256 * MEBIBYTE, processes=32, open_files=64, file_bytes=16 * MEBIBYTE, tmp_bytes=8 * MEBIBYTE, timeout_s=30.0
)
Inside = Callable[..., AbstractContextManager[RunningSandbox]]


def answer(worker: RunningSandbox, timeout_s: float = 20.0) -> object:
    size = bytearray(4)
    worker.receive_into(memoryview(size), timeout_s)
    text = bytearray(int.from_bytes(size, "little"))
    worker.receive_into(memoryview(text), timeout_s)
    return json.loads(text)


def chosen(limits: SandboxLimits) -> tuple[tuple[str, ...], list[bytes]]:
    """Return bubblewrap's options, and the bytes that they refer to."""
    passed: list[bytes] = []
    result = options(
        launch=Launch(prefix=(), environment={}, sources=(), tmp=None),
        interpreter=Interpreter(executable=Path("/usr/bin/python3"), home=(), system=(), packages=()),
        limits=limits,
        copied=(),
        info=9,
        pass_on=lambda data: passed.append(data) or 20,
    )
    return result, passed


def test_one_process_gets_the_first_program_and_ranks_the_second_and_no_other_option_differs() -> None:
    one, two = chosen(LIMITS), chosen(replace(LIMITS, ranks=2))
    assert one[1] == [PROGRAMS[platform.machine()]]
    assert two[1] == [RANKS_PROGRAMS[platform.machine()]]
    assert one[0] == two[0]


def test_processes_and_open_files_grow_with_the_ranks_and_the_memory_of_each_does_not() -> None:
    interpreter = Interpreter(executable=Path("/usr/bin/python3"), home=(), system=(), packages=())
    one, four = (command(interpreter=interpreter, program=Program(), limits=replace(LIMITS, ranks=ranks)) for ranks in (1, 4))
    first = one.index(str(256 * MEBIBYTE))
    assert one[first : first + 4] == (str(256 * MEBIBYTE), "32", "64", str(16 * MEBIBYTE))
    assert four[first : first + 4] == (str(256 * MEBIBYTE), "128", "256", str(16 * MEBIBYTE))


def test_of_all_attacks_a_sandbox_for_ranks_lets_only_the_tcp_socket_through(sandbox: BubblewrapSandbox, recipe: Path) -> None:
    names = ("__init__", "probes", "calls")
    files = tuple(Copied(target=f"/worker/ralph/sandbox/attacks/{name}.py", data=(ATTACKS / f"{name}.py").read_bytes()) for name in names)
    program = Program(module="ralph.sandbox.attacks.probes", files=files)
    with sandbox.running(program).launch(SandboxSpec(recipe=recipe, limits=replace(LIMITS, ranks=2))) as worker:
        worker.send(json.dumps(["/etc/passwd", "/etc/hostname"]).encode())
        results = {name: (got, stopped) for name, got, stopped in answer(worker)}
    assert {name: got for name, (got, _) in results.items() if got is not None} == {"tcp socket": "socket 2"}
    refused = ("udp socket", "tcp6 socket", "unix socket", "netlink socket", "packet socket", "vsock socket", "kernel crypto socket")
    assert {results[name][1] for name in refused} == {"EPERM"}
    assert results["abstract socket name"][1] == "EINVAL"


def test_ranks_reach_each_other_and_no_listener_of_the_host(inside: Inside) -> None:
    with socket.create_server(("127.0.0.1", 0)) as host, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(b"\0ralph-test-ranks")
        abstract.listen()
        source = f"""
            import errno, json, struct
            def tried(attempt):
                try:
                    return str(attempt())
                except OSError as error:
                    return errno.errorcode[error.errno]
            def through_channel(how):
                end = socket.socket(fileno=os.dup(channel.fileno()))
                return getattr(end, how)(b"\\0ralph-test-ranks")
            def reached(address):
                with socket.socket() as own:
                    own.settimeout(5)
                    own.connect(address)
                    return own.getpeername()
            def named_pair():
                pair = socket.socketpair()
                pair[0].bind(b"\\0ralph-inside")
                pair[0].listen()
            with socket.create_server(("127.0.0.1", 0)) as ours:
                address = ours.getsockname()
                inside = tried(lambda: reached(address)) == str(address)
            results = [
                inside,
                tried(lambda: reached({host.getsockname()!r})),
                tried(lambda: reached(("192.0.2.1", 80))),
                tried(lambda: through_channel("connect")),
                tried(lambda: through_channel("bind")),
                tried(lambda: channel.listen()),
                tried(named_pair),
                tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)),
            ]
            text = json.dumps(results).encode()
            channel.sendall(struct.pack("<I", len(text)) + text)
            channel.recv(1)
        """
        with inside(source, ranks=2) as worker:
            results = answer(worker)
        host.setblocking(False)
        with pytest.raises(BlockingIOError):
            host.accept()
    assert results == [True, "ECONNREFUSED", "ENETUNREACH", "EISCONN", "EINVAL", "EINVAL", "EINVAL", "EPERM"]


def test_a_socket_is_refused_to_one_process_alone(say: Callable[[str], str]) -> None:
    reason = "__import__('errno').errorcode[__import__('ctypes').get_errno()]"
    call = f"__import__('ctypes').CDLL(None, use_errno=True).socket(2, 1, 0), {reason}"
    assert say(call) == "(-1, 'EPERM')"
