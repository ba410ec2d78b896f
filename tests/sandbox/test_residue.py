"""One sandbox must not be able to tell a later one anything over files that both may only read."""

import ctypes
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.files import Copied
from ralph.sandbox.options import Program
from ralph.sandbox.residue import evict
from ralph.sandbox.running import RunningSandbox

SECRET = "1011001110001111"
READS = """
from pathlib import Path
def main(fd):
    import socket
    channel = socket.socket(fileno=fd)
    for number, bit in enumerate(channel.recv(100).decode()):
        if bit == "1":
            Path(f"/packages/1/{number}").read_bytes()
    channel.sendall(b"D")
    channel.recv(1)
"""


def in_memory(file: Path) -> bool:
    """Return whether the first page of a file of ours is in the page cache, without reading it."""
    libc = ctypes.CDLL(None, use_errno=True)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), mmap.PAGESIZE, access=mmap.ACCESS_COPY) as mapped:
        view = ctypes.c_char.from_buffer(mapped)
        answer = ctypes.create_string_buffer(1)
        failed = libc.mincore(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(mmap.PAGESIZE), answer)
        del view
    assert failed == 0, os.strerror(ctypes.get_errno())
    return bool(answer.raw[0] & 1)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder of installed files on a disk, none of which is in memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as other:
        for folder in (tmp_path / "installed", Path(other)):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
            for number in range(len(SECRET)):
                with (folder / str(number)).open("wb") as file:
                    file.write(bytes(mmap.PAGESIZE))
                    os.fsync(file.fileno())
            for _ in range(500):  # what has just been written stays until the file system's journal is done with it
                evict((folder,))
                if not any(in_memory(file) for file in folder.iterdir()):
                    yield folder
                    return
        pytest.fail("neither the temporary folder nor /var/tmp is on a disk")


def test_what_a_sandbox_has_read_can_be_forgotten(packages: tuple[Path, ...], shared: Path, recipe: Path) -> None:
    program = Program(module="reads", files=(Copied(target="/worker/reads.py", data=READS.encode()),))
    sandbox = BubblewrapSandbox(packages=(*packages, shared), program=program)
    limits = SandboxLimits(memory_bytes=1 << 28, processes=32, open_files=64, file_bytes=1 << 20, tmp_bytes=1 << 20, timeout_s=30.0)

    def remembered() -> str:
        return "".join("1" if in_memory(shared / str(number)) else "0" for number in range(len(SECRET)))

    with sandbox.launch(SandboxSpec(recipe=recipe, limits=limits)) as worker:
        worker.send(SECRET.encode())
        worker.receive_into(memoryview(bytearray(1)), 20.0)
    assert remembered() == SECRET

    assert shared in sandbox.shared
    assert evict((shared,)) == len(SECRET)
    assert remembered() == "0" * len(SECRET)


def test_forgetting_covers_everything_that_is_bound_from_the_host(sandbox: BubblewrapSandbox, say: Callable[[str], str]) -> None:
    targets = {line.split()[4] for line in say("open('/proc/self/mountinfo').read()").splitlines()}
    ours = {str(path.resolve()) for path in sandbox.shared} | {f"/packages/{number}" for number in range(len(sandbox.shared))}
    made = {"/", "/proc", "/dev", "/tmp", "/dev/pts", *(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))}
    assert {target for target in targets - made if str(Path(target).resolve()) not in ours} == set()


def test_links_and_special_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert evict((tmp_path, tmp_path / "absent")) == 1
    assert evict((tmp_path / "file",)) == 1


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
