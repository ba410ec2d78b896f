"""`ralph init`: set up a development network on this machine."""

import os
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ralph.cli.exams import CORE_ITEMS, Exams
from ralph.cli.output import JsonOption, emit, progress
from ralph.cli.setup import Devnet, MinerPlan, derived, set_up
from ralph.config import Research, default_home
from ralph.data.partition import Progress
from ralph.errors import ConfigurationError

SEED_FILE = "chain.seed"


def init(
    home: Annotated[Path | None, typer.Option(help="Directory of the network; by default $RALPH_HOME or ~/.ralph.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeat a network: keys, beacons and research follow from it.")] = None,
    miner: Annotated[list[str] | None, typer.Option(help="Name of a miner. Repeatable; by default one, `miner`.")] = None,
    experiments: Annotated[int, typer.Option(min=1, help="Experiments of each miner's research per king.")] = 12,
    data: Annotated[Path | None, typer.Option(help="Prepared data to use again; by default HOME/data.")] = None,
    core: Annotated[Path | None, typer.Option(help="Bundle of CORE-22, a folder or zip file: crowns then need no task to be lost.")] = None,
    core_items: Annotated[int, typer.Option(min=1, help="Items of each guarded task.")] = CORE_ITEMS,
    private: Annotated[list[Path] | None, typer.Option(help="File of private items, to be sealed and guarded. Repeatable.")] = None,
    json: JsonOption = False,
) -> None:
    """Make data, chain, keys, network profile and one configuration file per node."""
    place = (home or default_home()).absolute()
    if (place / "chain.sqlite").exists():
        raise ConfigurationError(f"there is a network in {place} already; choose another --home or remove it")
    chosen = secrets.randbits(63) if seed is None else seed
    names = miner or ["miner"]
    plans = [MinerPlan(name=name, research=Research(experiments=experiments, seed=chosen + number)) for number, name in enumerate(names)]
    with progress("init", quiet=json) as meter:

        def report(step: Progress) -> None:
            meter.update(step.done, step.total, f"data: {step.stage}")

        exams = Exams(core=core, core_items=core_items, private=tuple(private or ()))
        devnet = set_up(place, seed=chosen, miners=plans, data=data, exams=exams, progress=report)
    _write_seed(place / SEED_FILE, derived(chosen, "chain"))
    emit(
        {
            "home": place,
            "chain": devnet.chain,
            "chain_seed_file": place / SEED_FILE,
            "validator": devnet.validator,
            "hotkeys": devnet.hotkeys,
            "configs": {name: str(devnet.config(name)) for name in ("validator", *names)},
            "seed": chosen,
            "guarded": list(devnet.profile.rules.guards.exams),
        },
        list(_lines(devnet, names, chosen)),
        as_json=json,
    )


def _write_seed(path: Path, seed: bytes) -> None:
    """Write the chain's seed where only its owner can read it: whoever knows it knows every beacon to come."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(seed.hex() + "\n")


def _lines(devnet: Devnet, names: list[str], seed: int) -> Iterator[str]:
    guarded = devnet.profile.rules.guards.exams
    if guarded:
        yield f"guarded tasks: {', '.join(guarded)}"
    yield f"a development network is in {devnet.home} (seed {seed}); start each in a terminal of its own:"
    yield f"  ralph chain run --path {_quoted(devnet.chain)} --seed-file {_quoted(devnet.home / SEED_FILE)}"
    yield f"  ralph validator run --config {_quoted(devnet.config('validator'))}"
    for name in names:
        yield f"  ralph miner run --config {_quoted(devnet.config(name))}"
    yield f"and at any time:  ralph status --config {_quoted(devnet.config(names[0]))}"
    yield f"                  ralph audit run --config {_quoted(devnet.config(names[0]))}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
