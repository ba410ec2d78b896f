"""The filter as the kernel would run it, for every architecture, and as this kernel does."""

import importlib.util
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import pytest

from ralph.sandbox.running import RunningSandbox
from ralph.sandbox.seccomp import GPU_PROGRAMS, PROGRAMS, RANKS_PROGRAMS

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_seccomp.py"
ALLOWED, EPERM, ENOSYS, KILLED = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
READ = {"x86_64": 0, "aarch64": 63}
ARCHITECTURES = sorted(PROGRAMS)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_seccomp", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(program: bytes, audit: int, number: int, *arguments: int) -> int:
    """Interpret a classic BPF program on one system call."""
    padded = [*arguments, *([0] * (6 - len(arguments)))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, audit, 0, *(argument & 0xFFFFFFFFFFFFFFFF for argument in padded))
    instructions = list(struct.iter_unpack("<HBBI", program))
    accumulator = position = 0
    while True:
        code, holds, fails, operand = instructions[position]
        position += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
            continue
        if code == 0x54:
            accumulator &= operand
            continue
        truth = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}[code]
        position += holds if truth else fails


def test_the_generator_reproduces_the_committed_bytes(generator: ModuleType) -> None:
    assert {name: generator.program(name) for name in generator.ARCHITECTURES} == PROGRAMS
    assert {name: generator.program(name, ranks=True) for name in generator.ARCHITECTURES} == RANKS_PROGRAMS
    assert {name: generator.program(name, gpus=True) for name in generator.ARCHITECTURES} == GPU_PROGRAMS
    assert (SCRIPT.parent.parent / "ralph" / "sandbox" / "seccomp.py").read_text() == generator.module()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_listed_call_is_refused_and_others_are_not(generator: ModuleType, name: str) -> None:
    audit, column = generator.ARCHITECTURES[name], list(generator.ARCHITECTURES).index(name)
    listed = {numbers[column] for numbers in generator.DENIED.values() if numbers[column] is not None}
    special = {numbers[column] for numbers in (generator.CLONE, generator.CLONE3, generator.SOCKETPAIR, generator.IOCTL)}
    for number in range(451):
        if number not in special:
            assert run(PROGRAMS[name], audit, number) == (EPERM if number in listed else ALLOWED), number


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_calls_newer_than_the_list_do_not_exist(generator: ModuleType, name: str) -> None:
    for number in (451, 467, 0x3FFFFFFF, 0x40000000, 0x40000000 + 41, 0xFFFFFFFF):
        assert run(PROGRAMS[name], generator.ARCHITECTURES[name], number) == ENOSYS


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_another_architecture_ends_the_process(generator: ModuleType, name: str) -> None:
    others = {0x40000003, 0x40000028, *generator.ARCHITECTURES.values()} - {generator.ARCHITECTURES[name]}
    assert {run(PROGRAMS[name], audit, READ[name]) for audit in others} == {KILLED}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_processes_may_be_made_but_no_namespaces(generator: ModuleType, name: str) -> None:
    audit, column = generator.ARCHITECTURES[name], list(generator.ARCHITECTURES).index(name)
    clone, clone3 = generator.CLONE[column], generator.CLONE3[column]
    thread = 0x3D0F00
    assert run(PROGRAMS[name], audit, clone, thread) == ALLOWED
    assert run(PROGRAMS[name], audit, clone, 17) == ALLOWED
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(PROGRAMS[name], audit, clone, thread | bit) == EPERM
    assert run(PROGRAMS[name], audit, clone3) == ENOSYS


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_socket_pairs_between_processes_inside_work_and_typing_into_a_terminal_does_not(generator: ModuleType, name: str) -> None:
    audit, column = generator.ARCHITECTURES[name], list(generator.ARCHITECTURES).index(name)
    assert run(PROGRAMS[name], audit, generator.SOCKETPAIR[column], 1) == ALLOWED
    assert run(PROGRAMS[name], audit, generator.SOCKETPAIR[column], 40) == EPERM
    assert run(PROGRAMS[name], audit, generator.IOCTL[column], 0, 0x5401) == ALLOWED
    assert run(PROGRAMS[name], audit, generator.IOCTL[column], 0, 0x5412) == EPERM
    assert run(PROGRAMS[name], audit, generator.IOCTL[column], 0, 0x1_0000_5412) == EPERM


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_ranks_get_calls_on_sockets_and_whatever_else_differs_is_stricter(generator: ModuleType, name: str) -> None:
    audit, column = generator.ARCHITECTURES[name], list(generator.ARCHITECTURES).index(name)
    allowed = {generator.DENIED[call][column] for call in ("connect", "bind", "listen", "accept", "accept4")}
    checked = {generator.DENIED["socket"][column], generator.SETSOCKOPT[column], generator.SOCKETPAIR[column]}
    numbers = set(range(470)) - allowed - checked
    for arguments in ((), (0x10000000,), (0, 0x5412)):
        for number in numbers:
            assert run(RANKS_PROGRAMS[name], audit, number, *arguments) == run(PROGRAMS[name], audit, number, *arguments), number
    assert {run(RANKS_PROGRAMS[name], audit, number) for number in allowed} == {ALLOWED}
    assert run(RANKS_PROGRAMS[name], generator.ARCHITECTURES["aarch64" if name == "x86_64" else "x86_64"], READ[name]) == KILLED


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_sockets_of_ranks_are_tcp_over_ipv4_only(generator: ModuleType, name: str) -> None:
    audit, column = generator.ARCHITECTURES[name], list(generator.ARCHITECTURES).index(name)
    number, flags = generator.DENIED["socket"][column], (0, 0x800, 0x80000, 0x80800)
    opened = {
        (family, kind, protocol)
        for family in range(50)
        for kind in range(12)
        for protocol in (0, 1, 6, 17, 132, 255, 262)
        if run(RANKS_PROGRAMS[name], audit, number, family, kind, protocol) == ALLOWED
    }
    assert opened == {(2, 1, 0), (2, 1, 6)}
    assert {run(RANKS_PROGRAMS[name], audit, number, 2, 1 | flag) for flag in flags} == {ALLOWED}
    assert {run(RANKS_PROGRAMS[name], audit, number, 2, 2 | flag) for flag in flags} == {EPERM}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_socket_pairs_of_ranks_are_streams_and_their_options_few(generator: ModuleType, name: str) -> None:
    audit, column = generator.ARCHITECTURES[name], list(generator.ARCHITECTURES).index(name)
    pair, option = generator.SOCKETPAIR[column], generator.SETSOCKOPT[column]
    assert [run(RANKS_PROGRAMS[name], audit, pair, 1, kind) for kind in (1, 0x80001, 2, 5)] == [ALLOWED, ALLOWED, EPERM, EPERM]
    assert run(RANKS_PROGRAMS[name], audit, pair, 2, 1) == EPERM
    levels = {level for level in range(300) if run(RANKS_PROGRAMS[name], audit, option, 9, level, 31) == ALLOWED}
    assert levels == {1}
    assert [kind for kind in range(64) if run(RANKS_PROGRAMS[name], audit, option, 9, 6, kind) == ALLOWED] == [1]


def test_this_kernel_refuses_every_listed_call_inside(
    generator: ModuleType, inside: Callable[..., AbstractContextManager[RunningSandbox]]
) -> None:
    """Called with arguments that no call accepts, a filtered one says EPERM and any other something else."""
    source = f"""
        import ctypes, json, platform
        libc = ctypes.CDLL(None, use_errno=True)
        column = ["x86_64", "aarch64"].index(platform.machine())
        results = {{}}
        for name, numbers in {generator.DENIED!r}.items():
            if numbers[column] is not None:
                libc.syscall(numbers[column], *[ctypes.c_long(-1)] * 6)
                results[name] = ctypes.get_errno()
        libc.syscall({generator.CLONE3!r}[column], ctypes.c_long(-1), ctypes.c_long(-1))
        results["clone3"] = ctypes.get_errno()
        text = json.dumps(results).encode()
        channel.sendall(text.ljust(8192))
        channel.recv(1)
    """
    with inside(source) as worker:
        answer = bytearray(8192)
        worker.receive_into(memoryview(answer), 20.0)
    results = eval(answer)  # noqa: S307 - our own program's dictionary of names and numbers
    assert results.pop("clone3") == 38
    assert set(results.values()) == {1}, results


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gpus_bring_local_sockets_with_connections_and_nothing_else(generator: ModuleType, name: str) -> None:
    audit, column = generator.ARCHITECTURES[name], list(generator.ARCHITECTURES).index(name)
    number = generator.DENIED["socket"][column]
    asked = [(family, kind, protocol) for family in range(50) for kind in range(12) for protocol in (0, 1, 6, 17, 262)]
    more = {
        one for one in asked if run(GPU_PROGRAMS[name], audit, number, *one) == ALLOWED != run(RANKS_PROGRAMS[name], audit, number, *one)
    }
    assert {(family, kind) for family, kind, _ in more} == {(1, 1), (1, 5)}
    for other in set(range(470)) - {number}:
        for arguments in ((), (1, 1), (0x10000000,), (0, 0x5412), (9, 6, 31)):
            same = run(RANKS_PROGRAMS[name], audit, other, *arguments)
            assert run(GPU_PROGRAMS[name], audit, other, *arguments) == same, (other, arguments)
