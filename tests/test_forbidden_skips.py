"""The run that decides whether a change lands must not pass by skipping."""

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).with_name("conftest.py")

SKIPPING = """
import pytest

def test_skips_itself():
    pytest.skip("no sandbox here")

@pytest.mark.gpu
def test_needs_a_gpu():
    pytest.skip("no GPU here")
"""
SKIPPED_MODULE = 'import pytest\npytest.skip("not on this machine", allow_module_level=True)\n'


def run(directory: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "conftest.py").write_text(CONFTEST.read_text())
    (directory / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: needs a GPU\n")
    (directory / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""})


def test_a_skip_fails_the_run_unless_its_marker_says_what_is_missing(tmp_path: Path) -> None:
    done = run(tmp_path, SKIPPING, "--forbid-skips")
    assert done.returncode == 1
    assert "skips are forbidden here: Skipped: no sandbox here" in done.stdout
    assert "1 failed, 1 skipped" in done.stdout


def test_a_module_that_skips_itself_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, SKIPPED_MODULE, "--forbid-skips")
    assert done.returncode == 2
    assert "not on this machine" in done.stdout


def test_without_the_option_a_skip_is_a_skip(tmp_path: Path) -> None:
    done = run(tmp_path, SKIPPING)
    assert done.returncode == 0
    assert "2 skipped" in done.stdout
