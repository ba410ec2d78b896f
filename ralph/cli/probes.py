"""One check of this machine or of a node's configuration each: what was found, and how to fix it."""

import asyncio
import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ralph.chain.local import LocalChain
from ralph.chain.wallet import Hotkey, RecordKey
from ralph.cli.errors import next_step
from ralph.cli.nodes import open_examinations, open_genesis, open_hotkey, open_profile, open_public_data
from ralph.cli.sandboxes import open_sandbox
from ralph.config import Config, Launcher
from ralph.data.shards import pool_commitment
from ralph.data.verify import verify
from ralph.errors import ConfigurationError, RalphError
from ralph.evaluate.active import active_count
from ralph.interfaces import Head
from ralph.protocol.network import NetworkProfile
from ralph.protocol.pool import SHARDS, Subset
from ralph.protocol.rules import Rules
from ralph.sandbox.preflight import run_preflight

MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 2 << 30
MAX_CLOCK_AHEAD_S = 5.0
QUIET_CHAIN_S = 600.0
EXTRAS = {
    "torch": ("train and evaluate", "pip install 'ralph-subnet[run]'"),
    "tokenizers": ("prepare data", "pip install 'ralph-subnet[run]'"),
    "optuna": ("research with the optimiser", "pip install 'ralph-subnet[agent]'"),
}


class State(StrEnum):
    """How a probe ended."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing to fix."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a check found."""

    name: str
    state: State
    detail: str
    fix: str = ""


def machine(
    home: Path, *, full: bool, report: Callable[[str], None], config: Config | None = None, launcher: Launcher | None = None
) -> Iterator[Probe]:
    """Check what every node needs of the machine; the sandbox is the configuration's unless a launcher is named."""
    yield python()
    yield from extras()
    yield git()
    yield gpu()
    yield disk(home)
    yield clock()
    report("attacking the sandbox")
    yield from sandbox(config, launcher, full=full)


def python() -> Probe:
    """Check the interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    state = State.OK if sys.version_info >= MIN_PYTHON else State.FAILED
    return Probe(name="python", state=state, detail=version, fix="" if state is State.OK else "install Python 3.11 or newer")


def extras() -> Iterator[Probe]:
    """Check what is installed beyond the base."""
    for package, (purpose, command) in EXTRAS.items():
        present = importlib.util.find_spec(package) is not None
        detail = f"installed, needed to {purpose}" if present else f"absent, needed to {purpose}"
        yield Probe(name=package, state=State.OK if present else State.FAILED, detail=detail, fix="" if present else command)


def git() -> Probe:
    """Check for git, which applies patches."""
    found = shutil.which("git")
    fix = "" if found else "install it: `sudo apt install git`, `sudo dnf install git` or `sudo pacman -S git`"
    return Probe(name="git", state=State.OK if found else State.FAILED, detail=found or "absent", fix=fix)


def gpu() -> Probe:
    """Say whether there is an NVIDIA GPU; the rungs of this release need none."""
    present = Path("/dev/nvidiactl").exists()
    return Probe(name="gpu", state=State.NOTE, detail="NVIDIA driver present, not used yet" if present else "none; the CPU rungs need none")


def disk(home: Path) -> Probe:
    """Check the free space where nodes keep their state."""
    place = next(path for path in (home, *home.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    enough = free >= MIN_FREE_BYTES
    detail = f"{free / (1 << 30):.1f} GiB free at {place}, {MIN_FREE_BYTES >> 30} GiB are needed"
    fix = "" if enough else "free space there, or set RALPH_HOME to a larger disk"
    return Probe(name="disk", state=State.OK if enough else State.FAILED, detail=detail, fix=fix)


def clock() -> Probe:
    """Check that the clock is not behind the installation itself."""
    behind = Path(__file__).stat().st_mtime - time.time()
    late = behind > MAX_CLOCK_AHEAD_S
    detail = f"{behind:.0f} s behind the files of this installation" if late else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return Probe(
        name="time",
        state=State.FAILED if late else State.OK,
        detail=detail,
        fix="set the clock: `timedatectl set-ntp true`" if late else "",
    )


def sandbox(config: Config | None, launcher: Launcher | None, *, full: bool) -> Iterator[Probe]:
    """Attack the sandbox."""
    try:
        chosen = open_sandbox(config, launcher=launcher)
        report = run_preflight(chosen, full=full)
    except RalphError as error:
        yield Probe(name="sandbox", state=State.FAILED, detail=error.code, fix=error.detail)
        return
    for attack in report.succeeded:
        fix = "do not run foreign code on this machine; report this"
        yield Probe(name="sandbox", state=State.FAILED, detail=f"{attack.name} succeeded: {attack.detail}", fix=fix)
    if report.passed:
        detail = f"{chosen.name}: {len(report.findings)} attacks blocked in {report.duration_s:.1f} s"
        yield Probe(name="sandbox", state=State.OK, detail=detail)
    for weakness in report.weaknesses:
        yield Probe(name="sandbox", state=State.NOTE, detail=weakness)


def node(config: Config) -> Iterator[Probe]:
    """Check everything that a node's configuration names."""
    try:
        profile = open_profile(config)
    except RalphError as error:
        yield _failed("profile", error)
        return
    yield Probe(name="profile", state=State.OK, detail=f"{profile.name}, rules {profile.rules.digest().hex()[:16]}")
    yield _loaded("recipe", lambda: f"the genesis recipe is {open_genesis(profile).digest().hex()[:16]}")
    yield from _data("data", config.data, profile.rules.data.manifest)
    if config.hidden is not None:
        yield from _hidden(config.hidden, config.hidden_key, profile.rules)
        if profile.rules.guards.exams:
            yield _loaded("exams", lambda: _exams(config, profile))
    yield _loaded("hotkey", lambda: Hotkey.load(config.keys.wallets, config.keys.coldkey, config.keys.hotkey).key_id)
    record_key = config.keys.record_key
    if record_key is not None:
        yield _loaded("record key", lambda: RecordKey.load(record_key).key_id)
    yield _store(config.store)
    yield from _chain(config, profile.chain)


def _hidden(place: Path, key: Path | None, rules: Rules) -> Iterator[Probe]:
    """Open the whole pool, and say when one rotation shows more of a shard than it should."""
    if key is None:
        fix = "name the file that `ralph data prepare` wrote beside the pool as `hidden_key`"
        yield Probe(name="hidden", state=State.FAILED, detail="the configuration names a hidden pool and no key to it", fix=fix)
        return
    probes = list(_data("hidden", place, rules.data.hidden_commitment, key=key))
    yield from probes
    if any(probe.state is State.FAILED for probe in probes):
        return
    commitment = pool_commitment(place)
    for name in SHARDS:
        documents, used = commitment.shard(name).documents, rules.hidden.count(Subset(shard=name, rotation=0))
        if used > documents:
            detail = f"a rotation scores {used} documents of shard {name}, which has {documents}; prepare a hidden pool from more text"
            yield Probe(name="hidden", state=State.FAILED, detail=detail, fix=next_step("OPS-DATA"))
        elif used > active_count(documents):
            detail = f"a rotation scores {used} of the {documents} documents of shard {name}; a tenth is meant, which needs more text"
            yield Probe(name="hidden", state=State.NOTE, detail=detail)


def _exams(config: Config, profile: NetworkProfile) -> str:
    """Open what the Rules guard beside text, as a validator does when it starts; return what it is."""
    data, rung = open_public_data(config, profile), profile.rules.rung(profile.rules.crown.rung)
    filler = data.validation.rows(1, rung.sequence).filler
    found = open_examinations(config, profile, data, hotkey=open_hotkey(config).key_id, filler=filler)
    counts = {entry.task.label: len(entry.items) for one in found for entry in one.exam.manifest.entries}
    return ", ".join(f"{count} items of {label}" for label, count in counts.items())


def _data(name: str, place: Path, expect: bytes, *, key: Path | None = None) -> Iterator[Probe]:
    try:
        findings = verify(place, expect=expect, key=key)
    except RalphError as error:
        yield _failed(name, error)
        return
    for one in findings:
        yield Probe(name=name, state=State.FAILED, detail=f"{one.file}: {one.problem}", fix=next_step("OPS-DATA"))
    if not findings:
        yield Probe(name=name, state=State.OK, detail=f"{place} is what the Rules name")


def _loaded(name: str, load: Callable[[], str]) -> Probe:
    try:
        return Probe(name=name, state=State.OK, detail=load())
    except RalphError as error:
        return _failed(name, error)


def _store(place: Path) -> Probe:
    if place.is_dir():
        return Probe(name="store", state=State.OK, detail=str(place))
    return Probe(name="store", state=State.FAILED, detail=f"there is no directory {place}", fix="correct `store` in the configuration")


def _chain(config: Config, genesis: bytes) -> Iterator[Probe]:
    try:
        head = asyncio.run(_head(config.chain, genesis))
    except RalphError as error:
        yield _failed("chain", error)
        return
    age = time.time() - head.timestamp
    yield Probe(name="chain", state=State.OK, detail=f"block {head.number}, {max(age, 0):.0f} s old")
    if age < -MAX_CLOCK_AHEAD_S:
        fix = "set the clock: `timedatectl set-ntp true`"
        yield Probe(name="time", state=State.FAILED, detail=f"this clock is {-age:.0f} s behind the newest block", fix=fix)
    elif age > QUIET_CHAIN_S:
        yield Probe(name="chain", state=State.NOTE, detail="no new block for a while; `ralph chain run` makes them")


async def _head(path: Path, genesis: bytes) -> Head:
    chain = LocalChain.connect(path)
    try:
        if await chain.block_hash(0) != genesis:
            raise ConfigurationError(f"{path} is another chain than the profile's")
        return await chain.head()
    finally:
        await chain.close()


def _failed(name: str, error: RalphError) -> Probe:
    return Probe(name=name, state=State.FAILED, detail=f"{error.code}: {error.detail}", fix=next_step(error.code))
