"""The filter as the kernel would run it, for every architecture, and as this kernel does."""

import importlib.util
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import pytest

from ralph.sandbox.running import RunningSandbox
from ralph.sandbox.seccomp import PROGRAMS

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
        truth = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}[code]
        position += holds if truth else fails


def test_the_generator_reproduces_the_committed_bytes(generator: ModuleType) -> None:
    assert {name: generator.program(name) for name in generator.ARCHITECTURES} == PROGRAMS
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
