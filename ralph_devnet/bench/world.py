"""What benchmarks share: prepared data and a set-up devnet."""

import shutil
from pathlib import Path

from ralph.cli.setup import Devnet, MinerPlan, set_up
from ralph_devnet.bench.registry import Context

SEED = 1


def devnet(context: Context, name: str, miners: tuple[str, ...] = ()) -> Devnet:
    """Set a fresh devnet up under the benchmark's home; data is prepared once."""
    home = context.home / name
    shutil.rmtree(home, ignore_errors=True)
    return set_up(home, seed=SEED, miners=[MinerPlan(name=miner) for miner in miners], data=context.data)


def scratch(context: Context, name: str) -> Path:
    """Return an empty directory."""
    path = context.home / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
