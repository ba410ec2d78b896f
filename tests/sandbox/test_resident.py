"""Copies in memory: complete, shared, gone with the last who uses them, and never somebody else's."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ralph.errors import SandboxUnavailable
from ralph.sandbox import resident
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.contents import contents
from ralph.sandbox.interpreter import Interpreter, describe
from ralph.sandbox.resident import PLACE, Resident
from ralph.train import host
from tests.train.material import copy, job, small_data

PROJECT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from ralph.sandbox.resident import Resident
from tests.sandbox.test_resident import small
print(Resident(small(Path(sys.argv[1])), place=Path(sys.argv[2])).interpreter.root, flush=True)
time.sleep(60)
"""


def small(folder: Path) -> Interpreter:
    """Return an interpreter of three files."""
    return Interpreter(executable=folder / "bin/python", home=(folder / "lib",), packages=(folder / "packages",), system=())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("bin/python", "lib/os.py", "lib/test/test_os.py", "packages/one.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {tmp_path}\n")
    (tmp_path / "bin/python").chmod(0o755)
    return tmp_path


@pytest.fixture
def place() -> Iterator[Path]:
    """A place of our own in memory, with nothing left in it at the end."""
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        yield Path(folder)
        assert not list(Path(folder).iterdir())


def test_a_copy_has_what_is_needed_and_ends_with_the_last_who_uses_it(files: Path, place: Path) -> None:
    one, two = Resident(small(files), place=place), Resident(small(files), place=place)
    root = one.interpreter.root
    assert two.interpreter.root == root
    assert one.interpreter.source(files / "lib/os.py").read_text() == (files / "lib/os.py").read_text()
    assert os.access(one.interpreter.source(files / "bin/python"), os.X_OK)
    assert not one.interpreter.source(files / "lib/test").exists()
    assert {path.stat().st_mode & 0o022 for path in root.rglob("*")} == {0}
    copied = one.interpreter.source(files / "lib/os.py").stat().st_mtime_ns
    assert copied == (files / "lib/os.py").stat().st_mtime_ns, "Python would compile every module again at every start"
    one.close()
    assert root.is_dir()
    two.close()
    assert not root.exists()


def test_other_files_make_another_copy(files: Path, place: Path) -> None:
    one = Resident(small(files), place=place)
    (files / "packages/one.py").write_text("# changed\n")
    two = Resident(small(files), place=place)
    assert one.interpreter.root != two.interpreter.root
    one.close()
    two.close()


def test_what_a_crash_leaves_is_removed_by_the_next_start(files: Path, place: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(files), str(place)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert holder.stdout is not None
    root = Path(holder.stdout.readline().strip())
    (files / "packages/one.py").write_text("# changed\n")
    Resident(small(files), place=place).close()
    assert root.is_dir(), "in use by a living process"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    Resident(small(files), place=place).close()
    assert not root.exists()


def test_a_name_that_somebody_else_sits_on_is_refused(files: Path, place: Path) -> None:
    """Anybody may write to the place; what is writable for others, or no folder, is not ours."""
    one = Resident(small(files), place=place)
    one.interpreter.root.chmod(0o777)
    with pytest.raises(SandboxUnavailable, match="somebody else"):
        Resident(small(files), place=place)
    one.interpreter.root.chmod(0o755)
    one.close()


def test_a_disk_is_no_memory(files: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="not a file system in memory"):
        Resident(small(files), place=Path("/usr"))


def test_without_room_nothing_is_copied(files: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = os.statvfs(PLACE)
    monkeypatch.setattr(resident, "SPARE_BYTES", system.f_blocks * system.f_frsize + 1)
    with pytest.raises(SandboxUnavailable, match="MiB left"):
        Resident(small(files), place=place)


def test_the_real_copy_trains_to_the_same_bytes_as_the_disk(tmp_path: Path) -> None:
    data, recipe = small_data(tmp_path), tmp_path / "recipe"
    copy(recipe)
    sandbox = BubblewrapSandbox(in_memory=True)
    runs = [host.train(job(recipe), sandbox=one, data=data) for one in (sandbox, BubblewrapSandbox())]
    sandbox.close()
    assert runs[0].weights_digest == runs[1].weights_digest
    assert runs[0].transcript_root == runs[1].transcript_root


def test_only_what_is_needed_of_the_packages_comes_along() -> None:
    described = replace(describe(Path(sys.executable)), packages=(Path(np.__file__).parent.parent,))
    folder = described.packages[0]
    names = {entry.path.relative_to(folder).parts[0] for entry in contents(described) if folder in entry.path.parents}
    assert {"torch", "numpy", "sympy"} <= names
    assert not {"pytest", "ralph", "bittensor_core", "cryptography"} & names
