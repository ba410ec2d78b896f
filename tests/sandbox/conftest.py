"""A real sandbox, and programs to run in it."""

import contextlib
import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox import cgroups
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.files import Copied
from ralph.sandbox.options import Program
from ralph.sandbox.running import RunningSandbox

collect_ignore = ["test_as_ordinary_user.py"] if os.geteuid() == 0 else ["test_as_root.py"]
if cgroups.available() is None:
    collect_ignore += ["test_cgroups.py"]

MEBIBYTE = 1024 * 1024
Inside = Callable[..., AbstractContextManager[RunningSandbox]]


@pytest.fixture(scope="session")
def packages() -> tuple[Path, ...]:
    return (Path(np.__file__).parent.parent,)


@pytest.fixture(scope="session")
def sandbox(packages: tuple[Path, ...]) -> BubblewrapSandbox:
    return BubblewrapSandbox(packages=packages)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "recipe"
    folder.mkdir(mode=0o700)
    (folder / "train.py").write_text("VALUE = 42\n")
    return folder


@pytest.fixture
def inside(sandbox: BubblewrapSandbox, recipe: Path) -> Inside:
    """Return a function that runs Python source inside; it finds the channel as ``channel``."""

    @contextlib.contextmanager
    def run(
        source: str, *, timeout_s: float = 30.0, memory_bytes: int = 256 * MEBIBYTE, processes: int = 32, ranks: int = 1
    ) -> Iterator[RunningSandbox]:
        body = textwrap.indent(textwrap.dedent(source), "    ")
        program = f"import os, socket, sys\ndef main(fd):\n    channel = socket.socket(fileno=fd)\n{body}\n"
        chosen = sandbox.running(Program(module="target", files=(Copied(target="/worker/target.py", data=program.encode()),)))
        limits = SandboxLimits(
            memory_bytes=memory_bytes,
            processes=processes,
            open_files=64,
            file_bytes=16 * MEBIBYTE,
            tmp_bytes=8 * MEBIBYTE,
            timeout_s=timeout_s,
            ranks=ranks,
        )
        with chosen.launch(SandboxSpec(recipe=recipe, limits=limits)) as worker:
            yield worker

    return run


@pytest.fixture
def say(inside: Inside) -> Callable[[str], str]:
    """Return a function that evaluates a Python expression inside and returns it as text."""

    def evaluate(expression: str) -> str:
        with inside(
            f"text = str(({expression})).encode()\nchannel.sendall(len(text).to_bytes(4, 'little') + text)\nchannel.recv(1)"
        ) as worker:
            size = bytearray(4)
            worker.receive_into(memoryview(size), 20.0)
            text = bytearray(int.from_bytes(size, "little"))
            worker.receive_into(memoryview(text), 20.0)
            return text.decode()

    return evaluate
