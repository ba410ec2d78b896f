"""A training whose host is killed at random moments, again and again, and what it ends in."""

import json
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ralph.errors import InfrastructureError
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import devnet, scratch
from ralph_devnet.demo import RALPH
from ralph_devnet.processes import python

KILLS = 10
RUNG = "C2"
SPAN = 0.45
"""Longest time before a kill, as a part of an undisturbed run: a start and about two segments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`ralph train` in a process of its own."""

    config: Path

    def start(self, out: Path, *, resume: bool) -> subprocess.Popen[str]:
        """Begin or continue the run in ``out``."""
        options = ["--rung", RUNG, "--config", str(self.config), "--out", str(out), "--documents", "16", "--json"]
        command = python(*RALPH, "train", *options, *(["--resume"] if resume else []))
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def weights(self, out: Path, *, resume: bool) -> str:
        """Run to the end; return the digest of the weights."""
        with self.start(out, resume=resume) as process:
            printed, problem = process.communicate()
        if process.returncode:
            raise InfrastructureError(f"the training failed: {problem[-300:]}")
        digest: str = json.loads(printed)["weights"]
        return digest


def killed_runs(context: Context) -> list[Figure]:
    """Kill one training ten times and compare its weights with those of an undisturbed one, several times over."""
    net, folder = devnet(context, "kills"), scratch(context, "kills-runs")
    command = Command(config=net.config("validator"))
    started = time.monotonic()
    undisturbed = command.weights(folder / "undisturbed", resume=False)
    span_s = SPAN * (time.monotonic() - started)
    same, continued = [], []
    for number in range(context.repeat):
        out = folder / f"killed-{number}"
        moments = random.Random(number)  # noqa: S311 - repeatable, not secret
        continued.append(float(_kill(command, out, moments, span_s)))
        same.append(float(command.weights(out, resume=(out / "journal").exists()) == undisturbed))
        context.say(
            f"train: {RUNG} killed {KILLS} times, {continued[-1]:.0f} times within a run that went on, same weights: {bool(same[-1])}"
        )
    return [
        Figure.of(f"{RUNG} killed {KILLS} times ends in the same weights", f"of {len(same)}", [sum(same)], goal=f"{len(same)}"),
        Figure.of("kills of a run that had been continued", f"of {KILLS}", continued),
    ]


def _kill(command: Command, out: Path, moments: random.Random, span_s: float) -> int:
    """Kill the run ``KILLS`` times; return how often it had already been continued. A run that ends in between begins again."""
    kills, continued = 0, 0
    while kills < KILLS:
        resume = (out / "journal").exists()
        process = command.start(out, resume=resume)
        try:
            _, problem = process.communicate(timeout=moments.uniform(0.0, span_s))
            if process.returncode:
                raise InfrastructureError(f"the training failed: {problem[-300:]}")
            shutil.rmtree(out)  # it came to its end: once more
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continued += resume
    return continued
