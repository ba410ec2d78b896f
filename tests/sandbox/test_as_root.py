"""What only root can get wrong. Not collected for an ordinary user."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ralph.errors import SandboxUnavailable
from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from tests.sandbox.bare import bare
from tests.sandbox.launched import launched

LIMITS = SandboxLimits(memory_bytes=1 << 28, processes=32, open_files=64, file_bytes=1 << 20, tmp_bytes=1 << 20, timeout_s=30.0)
OPEN_CORE_PATTERN = "os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY)"
ORDINARY_UID = 64999
PROJECT = Path(__file__).parents[2]


def test_started_by_root_nobody_inside_is_root_outside(
    say: Callable[[str], str], inside: Callable[..., object], sandbox: BubblewrapSandbox, recipe: Path
) -> None:
    mistaken = bare("/usr/bin/python3", "-c", f"import os; {OPEN_CORE_PATTERN}; print('opened')", options=("--uid", "65534"))
    assert mistaken.stdout == "opened\n"

    assert say("os.access('/proc/sys/kernel/core_pattern', os.W_OK)") == "False"
    with sandbox.launch(SandboxSpec(recipe=recipe, limits=LIMITS)) as worker:
        statuses = [Path(f"/proc/{process}/status").read_text() for process in worker.processes()]
    users = {int(user) for status in statuses for user in status.partition("\nUid:")[2].splitlines()[0].split()}
    assert len(users) == 1
    assert min(users) >= 64321


def test_two_sandboxes_of_root_run_as_different_users(say: Callable[[str], str]) -> None:
    assert say("os.getuid()") != say("os.getuid()")


def test_a_worker_user_of_zero_is_refused(packages: tuple[Path, ...], recipe: Path) -> None:
    mistaken = BubblewrapSandbox(packages=packages, worker_uid=0)
    with pytest.raises(SandboxUnavailable, match="cannot run as user 0"), mistaken.launch(SandboxSpec(recipe=recipe, limits=LIMITS)):
        pass


def test_scratch_of_a_sandbox_of_root_has_few_inodes(say: Callable[[str], str]) -> None:
    assert say("os.statvfs('/tmp').f_files") == "16384"


def test_root_without_the_capability_to_mount_is_told_so(packages: tuple[Path, ...], recipe: Path) -> None:
    said = launched(["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-all"], packages, recipe)
    assert "SYS_ADMIN" in said


@pytest.fixture
def ordinary_home() -> Iterator[Path]:
    """A folder that an ordinary user owns; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, ORDINARY_UID, ORDINARY_UID)
        yield Path(folder)


def test_everything_holds_for_an_ordinary_user_too(packages: tuple[Path, ...], ordinary_home: Path) -> None:
    """Run what depends on the user again, as one without an entry anywhere and with a Python that this user can reach."""
    environment = {"PYTHONPATH": os.pathsep.join([str(PROJECT), *map(str, packages)]), "HOME": str(ordinary_home), "PATH": "/usr/bin:/bin"}
    names = (
        "sandbox/test_launch_mistakes.py",
        "sandbox/test_leftovers.py",
        "sandbox/test_as_ordinary_user.py",
        "sandbox/test_residue.py",
        "attacks/sandbox",
    )
    done = subprocess.run(
        [
            *_reachable(environment),
            "-B",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--basetemp={ordinary_home / 'pytest'}",
            *(f"{PROJECT}/tests/{name}" for name in names),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=environment,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def _reachable(environment: dict[str, str]) -> list[str]:
    """Return a command line that runs a Python as the ordinary user with the installed packages."""
    drop = ["setpriv", "--reuid", str(ORDINARY_UID), "--regid", str(ORDINARY_UID), "--clear-groups", "--inh-caps=-all"]
    for python in (Path(sys.executable).resolve(), Path("/usr/bin/python3")):
        query = [*drop, str(python), "-c", "import os, sys, numpy, pytest, ralph; os.stat(sys.executable); print(*sys.version_info[:2])"]
        answer = subprocess.run(query, check=False, capture_output=True, text=True, cwd="/", env=environment, timeout=60).stdout
        if answer.split() == [str(number) for number in sys.version_info[:2]]:
            return [*drop, str(python)]
    return pytest.fail("no Python that an ordinary user can reach; run the tests as one")
