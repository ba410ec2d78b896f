"""Processes of a demo: watched, fed, kept apart from the caller's environment, and gone afterwards."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ralph.errors import ConfigurationError
from ralph_devnet.processes import Death, Launch, Processes, environment, last_line, python

DEADLINE_S = 30.0
WAITS = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(logs=tmp_path / "logs", homes=tmp_path / "homes", grace_s=0.2) as running:
        yield running


def launch(name: str, code: str, *arguments: str, **options: bytes | Path) -> Launch:
    return Launch(name=name, command=python("-c", code, *arguments), **options)  # type: ignore[arg-type]


def wait(processes: Processes, name: str) -> Death:
    death = processes.wait(name, timeout_s=DEADLINE_S)
    assert death is not None
    return death


def read(pipe: int) -> bytes:
    """Return the next line of a pipe, empty at its end. Fails when nothing comes."""
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([pipe], [], [], DEADLINE_S)[0]
        letter = os.read(pipe, 1)
        if not letter:
            break
        line += letter
    return line


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return both ends of a pipe. A process gets the writing end by its path; when the reader sees the end, everybody is gone."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


def test_a_death_is_told_with_status_and_last_log_line(processes: Processes) -> None:
    processes.start(launch("miner", "import sys; print('first'); print('no \\x1b[31mdisk', file=sys.stderr); print(); sys.exit(3)"))
    death = wait(processes, "miner")
    assert str(death) == "miner ended (exit status 3): no ·[31mdisk"
    assert processes.deaths() == (death,)


def test_a_process_killed_by_a_signal_is_told_by_its_name(processes: Processes) -> None:
    processes.start(launch("miner", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert str(wait(processes, "miner")) == "miner ended (signal SIGKILL): it logged nothing"


def test_a_running_process_is_not_dead(processes: Processes, tmp_path: Path) -> None:
    processes.start(launch("node", WAITS))
    assert processes.deaths() == ()
    assert processes.wait("node", timeout_s=0.0) is None
    assert processes.names == ("node",)


def test_a_secret_reaches_a_process_through_standard_input(processes: Processes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    processes.start(launch("chain", "import sys; print(sys.stdin.readline().strip()[::-1])", stdin=b"abc\n", stdout=out))
    assert wait(processes, "chain").status == 0
    assert out.read_text() == "cba\n"


def test_a_process_that_does_not_read_its_input_is_no_error(processes: Processes) -> None:
    processes.start(launch("chain", "import os; os.close(0)", stdin=b"x" * 10_000_000))
    assert wait(processes, "chain").status == 0


def test_standard_output_and_error_go_to_the_log(processes: Processes) -> None:
    processes.start(launch("node", "import sys; print('out', flush=True); print('err', file=sys.stderr)"))
    wait(processes, "node")
    assert processes.log("node").read_text() == "out\nerr\n"


def test_a_process_sees_nothing_of_the_callers_environment(processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RALPH_HOME", "/elsewhere")
    monkeypatch.setenv("SECRET", "x")
    processes.start(launch("node", "import os; print(sorted(os.environ), os.environ['HOME'], os.environ['OMP_NUM_THREADS'])"))
    wait(processes, "node")
    home = tmp_path / "homes" / "node"
    assert set(environment(home)) == {"HOME", "LANG", "OMP_NUM_THREADS", "PATH", "PYTHONUNBUFFERED"}
    assert processes.log("node").read_text() == f"{sorted([*environment(home), 'LC_CTYPE'][:5])} {home} 1\n"
    assert home.is_dir()


def test_a_process_leads_its_own_group(processes: Processes) -> None:
    number = processes.start(launch("node", "import os; print(os.getpgid(0), os.getsid(0))"))
    wait(processes, "node")
    assert processes.log("node").read_text() == f"{number} {number}\n"


def test_a_polite_process_may_finish_what_it_does(processes: Processes, pipe: tuple[int, int]) -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: (print('done'), sys.exit(0))); print('ready', flush=True); signal.pause()"
    reading, writing = pipe
    with os.fdopen(writing, "wb"):
        processes.start(launch("node", code, stdout=Path(f"/proc/self/fd/{writing}")))
    assert read(reading) == b"ready\n"
    processes.stop()
    assert read(reading) == b"done\n"


def test_a_stubborn_process_and_its_children_are_killed(processes: Processes, pipe: tuple[int, int]) -> None:
    code = (
        "import signal, subprocess, sys; signal.signal(15, signal.SIG_IGN);"
        "child = 'import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()';"
        "subprocess.Popen([sys.executable, '-c', child]); signal.pause()"
    )
    reading, writing = pipe
    with os.fdopen(writing, "wb"):
        processes.start(launch("node", code, stdout=Path(f"/proc/self/fd/{writing}")))
    assert read(reading) == b"1\n"
    processes.stop()
    assert read(reading) == b""
    assert processes.names == ()


def test_children_of_a_process_that_died_by_itself_are_killed_too(processes: Processes, pipe: tuple[int, int]) -> None:
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAITS!r}])"
    reading, writing = pipe
    with os.fdopen(writing, "wb"):
        processes.start(launch("node", code, stdout=Path(f"/proc/self/fd/{writing}")))
    assert read(reading) == b"ready\n"
    assert wait(processes, "node").status == 0
    processes.stop()
    assert read(reading) == b""


def test_leaving_the_context_ends_every_process(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    running = Processes(logs=tmp_path / "logs", homes=tmp_path / "homes", grace_s=5.0)
    with running, os.fdopen(writing, "wb"):
        running.start(launch("node", WAITS, stdout=Path(f"/proc/self/fd/{writing}")))
        assert read(reading) == b"ready\n"
    assert read(reading) == b""


def test_stopping_one_process_leaves_the_others(processes: Processes) -> None:
    processes.start(launch("chain", WAITS))
    processes.start(launch("node", WAITS))
    processes.stop("chain")
    processes.stop("chain")
    assert processes.names == ("node",)
    assert processes.deaths() == ()


def test_a_name_can_be_used_again_after_its_process_was_stopped(processes: Processes) -> None:
    processes.start(launch("node", WAITS))
    with pytest.raises(ConfigurationError, match="node runs already"):
        processes.start(launch("node", WAITS))
    processes.stop("node")
    processes.start(launch("node", WAITS))


def test_a_program_that_does_not_exist_is_no_crash_of_ours(processes: Processes) -> None:
    running = Processes(logs=processes.log("x").parent, homes=processes.log("x").parent / "h")
    running._guard = None
    with pytest.raises(ConfigurationError, match="cannot start node"):
        running.start(Launch(name="node", command=("/does/not/exist",)))


def test_nodes_die_with_a_demo_that_was_killed(tmp_path: Path, pipe: tuple[int, int]) -> None:
    demo = (
        "import os, sys, pathlib; from ralph_devnet.processes import *; here = pathlib.Path(sys.argv[1]);"
        f"Processes(logs=here, homes=here).start(Launch(name='node', command=python('-c', {WAITS!r}), stdout=pathlib.Path(sys.argv[2])));"
        "sys.stdin.read()"
    )
    reading, writing = pipe
    with os.fdopen(writing, "wb"):
        command = [sys.executable, "-c", demo, str(tmp_path), f"/proc/{os.getpid()}/fd/{writing}"]
        killed = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        assert read(reading) == b"ready\n"
    killed.kill()
    killed.wait()
    assert read(reading) == b""
    if killed.stdin is not None:
        killed.stdin.close()


def test_the_last_line_of_a_log_is_its_last_line_with_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_bytes(b"x" * 100_000 + b"\n\xff\xfe broken\n\n  \n")
    assert last_line(log) == "\ufffd\ufffd broken"
