"""A process that reports every step and waits for leave to go on, so that it can be killed exactly there."""

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def run_until(command: Sequence[object], stop: Callable[[list[str]], bool] | None) -> list[str]:
    """Run ``command`` and send SIGKILL when ``stop`` of the lines so far is true; None runs to the end. Return the lines."""
    lines: list[str] = []
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            lines.append(line.strip())
            if stop is not None and stop(lines):
                process.send_signal(signal.SIGKILL)
                break
            process.stdin.write("go\n")
            process.stdin.flush()
    assert process.returncode == (0 if stop is None else -signal.SIGKILL)
    return lines
