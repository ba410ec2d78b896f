"""Try to launch a sandbox from a process in some other condition than this one."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
LAUNCH = """
import sys
from pathlib import Path
from ralph.errors import SandboxUnavailable
from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox.bubblewrap import BubblewrapSandbox

limits = SandboxLimits(memory_bytes=1 << 28, processes=32, open_files=64, file_bytes=1 << 20, tmp_bytes=1 << 20, timeout_s=60.0)
try:
    with BubblewrapSandbox(packages=(Path(sys.argv[1]),)).launch(SandboxSpec(recipe=Path(sys.argv[2]), limits=limits)):
        print("started")
except SandboxUnavailable as error:
    print(error)
"""


def launched(before: list[str], packages: tuple[Path, ...], recipe: Path) -> str:
    """Try to launch in a process started through ``before``, and return what it said."""
    done = subprocess.run(
        [*before, sys.executable, "-c", LAUNCH, str(packages[0]), str(recipe)],
        check=False,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={"PYTHONPATH": os.pathsep.join([str(PROJECT), str(packages[0])]), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        timeout=60,
    )
    return done.stdout + done.stderr
