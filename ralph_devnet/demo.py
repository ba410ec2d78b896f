"""The demo: one chain, one validator, honest miners, cheats with honest twins, and an audit, as separate processes.

The demo sets a devnet up, starts its nodes, and then only watches through the chain and the store until
what a demo must show has happened. It tells no node what to do. Whatever happens, no process is left behind.
"""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ralph.cli.setup import VALIDATOR, Devnet, MinerPlan, derived, set_up
from ralph.config import Research
from ralph.data.partition import Progress
from ralph.errors import InfrastructureError
from ralph.protocol.announcement import Environment
from ralph.protocol.network import DEVNET_CROWN, LADDER
from ralph.repository.genesis import genesis_recipe
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.store.directory import DirectoryStore
from ralph.train.environment import describe
from ralph_devnet.attackers.cast import CAST, Role
from ralph_devnet.facts import cast_facts, kings, submissions
from ralph_devnet.home import Home
from ralph_devnet.outcome import Audit, Machine, Outcome, Paths, Stage, crowns_wanted
from ralph_devnet.processes import Launch, Processes, python
from ralph_devnet.report import write_report
from ralph_devnet.view import Scene
from ralph_devnet.watch import Observation, Watcher
from ralph_devnet.words import AUDITOR, Names, safe

CHAIN = "chain"
POLL_S = 1.0
AUDIT_TIMEOUT_S = 900.0
RALPH = ("-P", "-c", "from ralph.cli.main import app; app()")
"""The command `ralph` of this very installation."""
EXPERIMENTS, SHORT_EXPERIMENTS = 8, 10
VERDICTS = {0: "reproduced", 1: "diverged", 2: "incomplete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the person at the terminal chose."""

    home: Path
    seed: int
    data: Path | None = None
    short: bool = False
    max_rounds: int = 30
    timeout_s: float = 1800.0

    @property
    def cast(self) -> tuple[Role, ...]:
        """Return the scripted participants."""
        return () if self.short else CAST

    @property
    def honest(self) -> tuple[MinerPlan, ...]:
        """Return the honest miners with their research programs."""
        experiments = SHORT_EXPERIMENTS if self.short else EXPERIMENTS

        def research(name: str, program: Any) -> MinerPlan:
            seed = int.from_bytes(derived(self.seed, f"research {name}")[:4], "little")
            return MinerPlan(name=name, research=Research(program=program, experiments=experiments, seed=seed))

        return research("ada", "optimiser"), research("bea", "grammar")

    @property
    def miners(self) -> tuple[str, ...]:
        """Return the honest miners' names."""
        return tuple(plan.name for plan in self.honest)


class Screen(Protocol):
    """Where a demo shows how it goes."""

    def stage(self, name: str, elapsed_s: float) -> None: ...
    def data(self, progress: Progress) -> None: ...
    def show(self, seen: Observation, scene: Scene) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """How the network part of a demo ended."""

    seen: Observation
    names: Names
    stopped_because: str | None


class Stopwatch:
    """Measures the stages of a demo."""

    def __init__(self, screen: Screen) -> None:
        self._screen, self._started = screen, time.monotonic()
        self._stages: list[tuple[str, float]] = []

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started

    def begin(self, name: str) -> None:
        """End the running stage and begin another."""
        self._stages.append((name, self.elapsed_s))
        self._screen.stage(name, self.elapsed_s)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Return the stages so far."""
        ends = [*(start for _, start in self._stages[1:]), self.elapsed_s]
        return tuple(Stage(name=name, seconds=end - start) for (name, start), end in zip(self._stages, ends, strict=True))


def run(options: Options, screen: Screen) -> Outcome:
    """Run a demo and write its report.

    Raises:
        ConfigurationError: The home directory is somebody else's.
        SandboxUnavailable: This machine has no working sandbox.
        CorruptStateError: Something that was published does not verify.
    """
    watch = Stopwatch(screen)
    with Home.claim(options.home) as home, Processes(logs=home.logs, homes=home.path / "homes") as processes:
        watch.begin("checking the sandbox")
        machine = Machine(environment=_environment(home.path), cores=len(os.sched_getaffinity(0)))
        watch.begin("preparing data, keys and chain")
        plans = [*options.honest, *(MinerPlan(name=role.name) for role in options.cast), MinerPlan(name=AUDITOR)]
        devnet = set_up(home.path, seed=options.seed, miners=plans, data=options.data, progress=screen.data)
        try:
            watched = asyncio.run(Network(options, devnet, processes, screen, watch).run())
            watch.begin("stopping the nodes")
            processes.stop()
            watch.begin("auditing")
            audit = None if watched.stopped_because else _audit(devnet, processes)
        finally:
            screen.close()
        watch.begin("writing the report")
        outcome = replace(_outcome(options, home, devnet, machine, watched, audit), stages=watch.stages)
        paths = write_report(outcome, store=DirectoryStore(home.path / "store"), directory=home.path / "report")
        outcome = replace(outcome, stages=watch.stages, paths=replace(paths, document=home.path / "outcome.json"))
        (home.path / "outcome.json").write_text(outcome.to_json() + "\n", encoding="ascii")
        return outcome


class Network:
    """The running devnet of a demo."""

    def __init__(self, options: Options, devnet: Devnet, processes: Processes, screen: Screen, watch: Stopwatch) -> None:
        self._options, self._devnet, self._processes, self._screen, self._watch = options, devnet, processes, screen, watch

    async def run(self) -> Watched:
        """Start the nodes and watch until everything has been shown, something broke, or a limit is reached."""
        watcher = Watcher.connect(self._devnet, researchers=self._options.miners)
        try:
            self._watch.begin("starting the nodes")
            await watcher.hold()
            for launch in launches(self._options, self._devnet):
                self._processes.start(launch)
            return await self._watch_until_shown(watcher)
        finally:
            await watcher.close()

    async def _watch_until_shown(self, watcher: Watcher) -> Watched:
        seen = await watcher.observe()
        started, rounds = False, -1
        hotkeys = [self._devnet.hotkeys[name] for name in (VALIDATOR, *self._options.miners, *(role.name for role in self._options.cast))]
        while True:
            if not started and await watcher.ready(hotkeys):
                await watcher.release()
                started = True
            self._screen.show(seen, self._scene(watcher.names))
            missing = self._missing(seen, watcher.names)
            stopped = self._broken() or self._limit(seen, missing)
            if stopped or not missing:
                return Watched(seen=seen, names=watcher.names, stopped_because=stopped)
            if started and len(seen.entries) > rounds:
                rounds = len(seen.entries)
                self._watch.begin(f"round {rounds}")
            await asyncio.sleep(POLL_S)
            seen = await self._look_again(watcher, seen)

    async def _look_again(self, watcher: Watcher, before: Observation) -> Observation:
        try:
            return await watcher.observe()
        except InfrastructureError:
            return before  # a busy machine: the next look will tell, and the deadline holds anyway

    def _scene(self, names: Names) -> Scene:
        stage = "starting" if not self._watch.stages else self._watch.stages[-1].name
        return Scene(
            names=names, miners=self._options.miners, elapsed_s=self._watch.elapsed_s, stage=stage, rounds_limit=self._options.max_rounds
        )

    def _missing(self, seen: Observation, names: Names) -> tuple[str, ...]:
        """Return what has not been shown yet, in words."""
        wanted, crowned = crowns_wanted(short=self._options.short), len(seen.throne.lineage) - 1
        facts = cast_facts(self._options.cast, submissions(seen.entries, names), self._devnet.hotkeys)
        return (
            *((f"{wanted - crowned} more changes of king",) if crowned < wanted else ()),
            *(f"a final row for {fact.role.name}" for fact in facts if not fact.settled),
            *(() if seen.weights.equal else ("weights on chain that are what the records give",)),
        )

    def _broken(self) -> str | None:
        deaths = self._processes.deaths()
        return None if not deaths else f"{deaths[0]} (log: {self._processes.log(deaths[0].name)})"

    def _limit(self, seen: Observation, missing: Sequence[str]) -> str | None:
        if not missing:
            return None
        if len(seen.entries) >= self._options.max_rounds:
            return f"{len(seen.entries)} rounds are recorded, the limit; missing: {', '.join(missing)}"
        if self._watch.elapsed_s >= self._options.timeout_s:
            return f"{self._options.timeout_s:.0f} s are over, the limit; missing: {', '.join(missing)}"
        return None


def launches(options: Options, devnet: Devnet) -> tuple[Launch, ...]:
    """Return the nodes of a demo."""
    seed = derived(options.seed, CHAIN).hex().encode("ascii") + b"\n"
    return (
        Launch(name=CHAIN, command=python(*RALPH, "chain", "run", "--path", str(devnet.chain), "--seed", "-"), stdin=seed),
        Launch(name=VALIDATOR, command=python(*RALPH, "validator", "run", "--config", str(devnet.config(VALIDATOR)))),
        *(Launch(name=name, command=python(*RALPH, "miner", "run", "--config", str(devnet.config(name)))) for name in options.miners),
        *(Launch(name=role.name, command=_attacker(role.name, options, devnet)) for role in options.cast),
    )


def _attacker(name: str, options: Options, devnet: Devnet) -> tuple[str, ...]:
    return python("-P", "-m", "ralph_devnet.attackers", name, "--config", str(devnet.config(name)), "--seed", str(options.seed))


def _environment(home: Path) -> Environment:
    """Start one sandbox: the demo's first sentence is what this machine lacks, if anything."""
    rung = next(rung for rung in LADDER if rung.name == DEVNET_CROWN.rung)
    return describe(BubblewrapSandbox(), genesis_recipe(), rung, scratch=home)


def _audit(devnet: Devnet, processes: Processes) -> Audit:
    """Audit from outside, with an installation's own command and a configuration without a validator's secrets."""
    report = devnet.home / "audit.json"
    config = str(devnet.config(AUDITOR))
    processes.start(Launch(name=AUDITOR, command=python(*RALPH, "audit", "run", "--config", config, "--json"), stdout=report))
    death = processes.wait(AUDITOR, timeout_s=AUDIT_TIMEOUT_S)
    processes.stop(AUDITOR)
    if death is None:
        return Audit(status=2, verdict=f"had not finished after {AUDIT_TIMEOUT_S:.0f} s", report={})
    try:
        document = json.loads(report.read_text(encoding="utf-8"))
    except ValueError:
        return Audit(status=death.status or 1, verdict=str(death), report={})
    return Audit(status=death.status, verdict=VERDICTS.get(death.status, str(death)), report=document if isinstance(document, dict) else {})


def _outcome(options: Options, home: Home, devnet: Devnet, machine: Machine, watched: Watched, audit: Audit | None) -> Outcome:
    seen = watched.seen
    rows = submissions(seen.entries, watched.names)
    return Outcome(
        seed=options.seed,
        short=options.short,
        machine=machine,
        rounds=len(seen.entries),
        kings=kings(seen.entries, watched.names),
        submissions=rows,
        cast=cast_facts(options.cast, rows, devnet.hotkeys),
        experiments=seen.tried,
        honest=options.miners,
        weights=seen.weights,
        audit=audit,
        stages=(),
        paths=Paths(home=home.path, logs=home.logs),
        stopped_because=None if watched.stopped_because is None else safe(watched.stopped_because, 1000),
    )
