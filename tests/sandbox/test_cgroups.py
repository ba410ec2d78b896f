"""Control groups. Not collected where nobody can make them, nor for an ordinary user."""

import os
import subprocess
from pathlib import Path

import pytest

from ralph.errors import SandboxUnavailable
from ralph.interfaces import SandboxLimits
from ralph.sandbox.cgroups import Cgroup, Controllers, available

LIMITS = SandboxLimits(memory_bytes=64 << 20, processes=4, open_files=64, file_bytes=1 << 20, tmp_bytes=1 << 20, timeout_s=30.0)
ENTER = 'for folder in "$@"; do echo $$ > "$folder/cgroup.procs"; done; echo in; exec sleep 60'


@pytest.fixture
def controllers() -> Controllers:
    found = available()
    assert found is not None
    return found


def test_a_group_bounds_memory_and_processes_and_goes_away(controllers: Controllers) -> None:
    group = Cgroup(controllers, LIMITS)
    limits = {
        file.name: file.read_text().split()[0]
        for folder in group.folders
        for file in folder.iterdir()
        if "max" in file.name or "limit_in" in file.name
    }
    assert str(64 << 20) in {limits.get("memory.limit_in_bytes"), limits.get("memory.max")}
    assert int(limits["pids.max"]) < 16
    assert not group.out_of_memory()
    group.remove()
    assert not any(folder.exists() for folder in group.folders)


def test_processor_time_in_a_group_is_counted_exactly(controllers: Controllers) -> None:
    group = Cgroup(controllers, LIMITS)
    burn = ENTER.replace("echo in; exec sleep 60", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    before = os.times()
    subprocess.run(["/bin/sh", "-c", burn, "sh", *map(str, group.folders)], check=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert group.cpu_seconds() == pytest.approx(spent, abs=0.1)
    group.remove()


def test_the_janitor_empties_and_removes_a_group_whose_owner_is_gone(controllers: Controllers) -> None:
    group = Cgroup(controllers, LIMITS)
    with subprocess.Popen(["/bin/sh", "-c", ENTER, "sh", *map(str, group.folders)], stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == b"in\n"
        janitor = group._janitor
        assert janitor.stdin is not None
        janitor.stdin.close()  # what the kernel does when the owner dies
        assert sleeper.wait(20) == -9
        janitor.wait(20)
    assert not any(folder.exists() for folder in group.folders)


def test_a_group_that_cannot_be_made_is_ours_to_repair(controllers: Controllers) -> None:
    nowhere = Controllers(unified=None, memory=Path("/proc"), pids=controllers.pids, cpu=None, cpuacct=None)
    with pytest.raises(SandboxUnavailable, match="cannot make the control group"):
        Cgroup(nowhere, LIMITS)
    assert not list(controllers.pids.glob(f"ralph-{os.getpid()}-*"))
