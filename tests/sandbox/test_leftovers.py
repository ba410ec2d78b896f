"""Nothing of a sandbox survives it, however it ends."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from ralph.sandbox import cgroups, usage
from ralph.sandbox.running import RunningSandbox
from tests.sandbox.processes import alive, wait_for_end

Inside = Callable[..., AbstractContextManager[RunningSandbox]]
DAEMONS = """
    import signal
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            channel.sendall(b"D")
            signal.pause()
            signal.pause()
    signal.pause()
"""
PROJECT = Path(__file__).parents[2]
HOST = """
import sys
from pathlib import Path
from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.preflight import _program

program = _program("bombs")
limits = SandboxLimits(memory_bytes=1 << 28, processes=32, open_files=64, file_bytes=1 << 20, tmp_bytes=1 << 20, timeout_s=60.0)
sandbox = BubblewrapSandbox(packages=(Path(sys.argv[1]),)).running(program)
with sandbox.launch(SandboxSpec(recipe=Path(sys.argv[2]), limits=limits)) as worker:
    worker.send(b'"stubborn_daemons"')
    worker.receive_into(memoryview(bytearray(8)), 30.0)
    print("ready", flush=True)
    sys.stdin.read()
"""


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def groups() -> set[str]:
    """Return our own groups; others may make and remove theirs meanwhile."""
    own = f"ralph-{os.getpid()}-"
    return {f"{folder}/{name}" for folder, names, _ in os.walk("/sys/fs/cgroup") for name in names if name.startswith(own)}


def temporary() -> set[str]:
    return {entry.name for folder in (tempfile.gettempdir(), "/dev/shm", "/media") for entry in Path(folder).iterdir()}


def test_daemons_are_gone_after_a_kill_and_so_is_everything_else(inside: Inside) -> None:
    before = mounts(), groups(), temporary()
    with inside(DAEMONS) as worker:
        worker.receive_into(memoryview(bytearray(5)), 20.0)
        processes = worker.processes()
        assert len(processes) >= 8
        worker.kill()
        assert not alive(processes)
    assert (mounts(), groups()) == before[:2]
    assert not {name for name in temporary() - before[2] if "ralph" in name and not name.startswith("ralph-tests-")}


def test_everything_is_gone_when_the_context_ends_by_an_error(inside: Inside) -> None:
    try:
        with inside(DAEMONS) as worker:
            worker.receive_into(memoryview(bytearray(5)), 20.0)
            processes = worker.processes()
            raise KeyError("a bug of ours")
    except KeyError:
        assert not alive(processes)
    assert groups() == set()


def test_no_descriptor_and_no_thread_is_left(inside: Inside) -> None:
    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))

    with inside("channel.recv(1)"):
        pass
    before = held()
    for source in ("channel.recv(1)", "raise SystemExit(3)", "os.kill(os.getpid(), 9)"):
        with inside(source):
            pass
    deadline = time.monotonic() + 10.0
    while any(now > then for now, then in zip(held(), before, strict=True)):  # a joined thread is a task for a moment longer: wait
        assert time.monotonic() < deadline, (held(), before)
        time.sleep(0.01)


def test_when_the_host_is_killed_the_kernel_ends_every_process_inside(packages: tuple[Path, ...], recipe: Path) -> None:
    """The host gets SIGKILL, so none of its code runs: what ends the sandbox is the kernel, and the janitor removes the group."""
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(packages[0]), str(recipe)],
        cwd=PROJECT,
        env={"PYTHONPATH": os.pathsep.join([str(PROJECT), str(packages[0])])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert host.stdin is not None
    assert host.stdout is not None
    with host:
        assert host.stdout.readline() == "ready\n"
        processes = usage.tree(host.pid)
        lines = {line for process in processes for line in Path("/proc", str(process), "cgroup").read_text().splitlines()}
        assert len(processes) >= 10
        host.send_signal(signal.SIGKILL)
        host.wait(20)
        wait_for_end(processes)
    assert not alive(processes)
    names = {line.rpartition(":")[2].lstrip("/") for line in lines if f"ralph-{host.pid}-" in line}
    assert bool(names) == (cgroups.available() is not None)
    assert not [
        folder for name in names for folder in (Path("/sys/fs/cgroup", name), *Path("/sys/fs/cgroup").glob(f"*/{name}")) if folder.exists()
    ]
