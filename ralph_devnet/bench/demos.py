"""Whole demos with different seeds: how many end with every claim shown, and how long they take."""

import json
import subprocess
import time

from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.demo import RALPH
from ralph_devnet.processes import python
from ralph_devnet.words import safe


def demos(context: Context) -> list[Figure]:
    """Run `ralph demo` once for each seed in a process of its own."""
    seconds, shown, crowns = [], [], []
    for seed in range(1, context.seeds + 1):
        home = context.home / f"demo-{seed}"
        command = python(*RALPH, "demo", "--json", "--seed", str(seed), "--home", str(home), "--data", str(context.data))
        started = time.monotonic()
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
        seconds.append(time.monotonic() - started)
        outcome = _outcome(finished.stdout)
        shown.append(1.0 if finished.returncode == 0 and outcome.get("holds") is True else 0.0)
        kings = outcome.get("kings", [])
        crowns.append(float(len(kings) - 1) if isinstance(kings, list) and kings else 0.0)
        ending = f"exit {finished.returncode}, {crowns[-1]:.0f} king changes, {seconds[-1]:.0f} s"
        context.say(f"demo: seed {seed}: {ending}; {_why(outcome, finished.stdout + finished.stderr)}")
    return [
        Figure.of("wall time of a demo", "s", seconds, goal="< 300 on 2 quiet cores"),
        Figure.of("demos that show every claim", f"of {len(shown)}", [sum(shown)], goal=">= 19 of 20"),
        Figure.of("king changes in a demo", "", crowns, goal=">= 2"),
    ]


def _outcome(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "holds" in found else {}


def _why(outcome: dict[str, object], printed: str) -> str:
    if not outcome:
        return f"no outcome: {safe(printed[-300:], 300)}"
    missing = outcome.get("missing")
    return f"missing: {missing}" if missing else "nothing missing"
