"""Whole demos with different seeds: how many end with every claim shown, and how long they take."""

import json
import subprocess
import sys
import time

from ralph_devnet.bench.registry import Context, Figure


def demos(context: Context) -> list[Figure]:
    """Run `ralph demo` once for each seed in a process of its own."""
    seconds, shown, crowns = [], [], []
    for seed in range(1, context.seeds + 1):
        home = context.home / f"demo-{seed}"
        command = [
            sys.executable,
            "-m",
            "ralph.cli.main",
            "demo",
            "--json",
            "--seed",
            str(seed),
            "--home",
            str(home),
            "--data",
            str(context.data),
        ]
        started = time.monotonic()
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
        seconds.append(time.monotonic() - started)
        shown.append(1.0 if finished.returncode == 0 else 0.0)
        outcome = _outcome(finished.stdout)
        kings = outcome.get("kings", [])
        crowns.append(float(len(kings) - 1) if isinstance(kings, list) and kings else 0.0)
        context.say(f"demo: seed {seed}: exit {finished.returncode}, {crowns[-1]:.0f} king changes, {seconds[-1]:.0f} s; {_why(outcome)}")
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
    return found if isinstance(found, dict) else {}


def _why(outcome: dict[str, object]) -> str:
    missing = outcome.get("missing")
    return f"missing: {missing}" if missing else "nothing missing"
