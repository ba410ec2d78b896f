"""`ralph audit`: recompute every decision from what was published, without torch and without a key."""

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ralph.auditor.audit import Progress, audit
from ralph.auditor.report import Kind, Report, Verdict
from ralph.chain.local import LocalChain
from ralph.cli.output import JsonOption, emit, printable, progress
from ralph.config import load_config, load_profile
from ralph.errors import ConfigurationError, InfrastructureError
from ralph.log import set_up
from ralph.protocol.network import NetworkProfile
from ralph.store.directory import DirectoryStore

logger = logging.getLogger(__name__)

POLL_S = 2.0
WORDS = {
    Verdict.REPRODUCED: "reproduced: everything that this audit looks at follows from what was published",
    Verdict.DIVERGED: "DIVERGED: something published is not what its inputs give",
    Verdict.INCOMPLETE: "incomplete: nothing diverged, but not everything could be looked at",
}

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Recompute every decision.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the published files, the chain and the trusted profile are."""

    chain: Path
    store: Path
    profile: NetworkProfile
    hotkey: str | None
    heads: tuple[tuple[int, bytes], ...] = ()


@app.callback()
def _group() -> None:
    """Recompute every decision from what was published."""


@app.command()
def run(
    config: Annotated[Path | None, typer.Option(help="A node's TOML; the options below replace what it says.")] = None,
    profile: Annotated[Path | None, typer.Option(help="The network profile that you trust.")] = None,
    chain: Annotated[Path | None, typer.Option(help="File of the chain.")] = None,
    store: Annotated[Path | None, typer.Option(help="Directory of the store.")] = None,
    validator: Annotated[str | None, typer.Option(help="Hotkey of the validator; not needed where there is one.")] = None,
    head: Annotated[list[str] | None, typer.Option(help="SIZE:ROOT of a log seen earlier, also by somebody else. Repeatable.")] = None,
    json: JsonOption = False,
) -> None:
    """Audit everything that a validator published: exit 0 reproduced, 1 diverged, 2 incomplete.

    Needs the published files and the chain, nothing else.
    """
    target = target_of(config=config, profile=profile, chain=chain, store=store, validator=validator, heads=head or [])
    with progress("audit", quiet=json) as meter:
        report = asyncio.run(audited(target, meter.update))
    emit(as_json(report), as_lines(report), as_json=json)
    raise typer.Exit(int(report.verdict))


@app.command()
def follow(
    config: Annotated[Path, typer.Option(help="A node's TOML.")],
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Audit again whenever the validator publishes, until SIGTERM or SIGINT; exit with the last verdict."""
    raise typer.Exit(int(serve(config, verbose=verbose)))


def serve(path: Path, *, verbose: bool) -> Verdict:
    """Run an auditor from its configuration file; return the last verdict."""
    config = load_config(path)
    set_up(json_lines=config.json_log, verbose=verbose)
    return asyncio.run(_follow(path, Trail(path=config.state / "audit-heads")))


async def _follow(path: Path, trail: "Trail") -> Verdict:
    """Audit whenever something new is published until a signal arrives; return the last verdict."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    verdict, seen, reproduced = Verdict.INCOMPLETE, b"", set[bytes]()
    while not stop.is_set():
        try:
            target = target_of(config=path, profile=None, chain=None, store=None, validator=None, heads=trail.heads())
            slot = await _slot(target)
            if slot != seen:
                report = await audited(target, lambda *_: None, reproduced=reproduced)
                seen, verdict = slot, report.verdict
                if verdict is Verdict.REPRODUCED:
                    trail.add(head_of(report))
                _log(report)
        except InfrastructureError as error:
            logger.warning("waiting %.0f s: %s", POLL_S, error)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), POLL_S)
    return verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Heads of logs that this auditor reproduced, one a line, kept outside everything that the validator writes."""

    path: Path

    def heads(self) -> list[str]:
        """Return them, oldest first."""
        return self.path.read_text(encoding="ascii").split() if self.path.exists() else []

    def add(self, head: str) -> None:
        """Append a head durably, once."""
        if head in self.heads():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="ascii") as file:
            file.write(head + "\n")
            file.flush()
            os.fsync(file.fileno())


async def _slot(target: Target) -> bytes:
    """Return what stands in the validator's slot, empty while nothing does."""
    chain = LocalChain.connect(target.chain)
    try:
        slots = await chain.commitments((await chain.head()).finalised)
    finally:
        await chain.close()
    return slots.get(target.hotkey, b"") if target.hotkey else b"".join(slots.values())


def _log(report: Report) -> None:
    for one in report.findings:
        level = logging.WARNING if one.kind is Kind.UNKNOWN else logging.ERROR if one.kind is Kind.DIVERGED else logging.INFO
        logger.log(level, "%s %s: %s: %s", one.kind.value, one.check.value, printable(one.subject), printable(one.detail))
    logger.info("%s: %d records, head %s", report.verdict.name.lower(), report.records, head_of(report))


def target_of(
    *, config: Path | None, profile: Path | None, chain: Path | None, store: Path | None, validator: str | None, heads: list[str]
) -> Target:
    """Return what to audit, from a configuration, from options, or both. Raises ConfigurationError."""
    known = load_config(config) if config is not None else None
    profile = profile or (known.profile if known else None)
    chain, store = chain or (known.chain if known else None), store or (known.store if known else None)
    if profile is None or chain is None or store is None:
        raise ConfigurationError("give either --config, or all of --profile, --chain and --store")
    if not store.is_dir():
        raise ConfigurationError(f"there is no store at {store}")
    return Target(
        chain=chain,
        store=store,
        profile=load_profile(profile),
        hotkey=validator or (known.validator if known else None),
        heads=tuple(parse_head(text) for text in heads),
    )


def parse_head(text: str) -> tuple[int, bytes]:
    """Return (size, root) of ``SIZE:ROOT``. Raises ConfigurationError."""
    size, _, root = text.partition(":")
    try:
        parsed = int(size), bytes.fromhex(root)
    except ValueError:
        parsed = -1, b""
    if parsed[0] < 0 or len(parsed[1]) != 32:
        raise ConfigurationError(f"{text!r} is no log head; `ralph audit run` prints one as SIZE:ROOT")
    return parsed


async def audited(target: Target, report_progress: Progress, *, reproduced: set[bytes] | None = None) -> Report:
    """Connect and audit. See ``ralph.auditor.audit``."""
    chain = LocalChain.connect(target.chain)
    try:
        return await audit(
            chain=chain,
            store=DirectoryStore(target.store),
            profile=target.profile,
            hotkey=target.hotkey,
            heads=target.heads,
            reproduced=reproduced,
            reveal_delay=chain.parameters.reveal_delay,
            progress=report_progress,
        )
    finally:
        await chain.close()


def as_json(report: Report) -> dict[str, Any]:
    """Return a report for programs."""
    return {
        "verdict": report.verdict.name.lower(),
        "validator": report.validator,
        "block": report.block,
        "records": report.records,
        "head": head_of(report),
        "findings": [
            {"level": one.level.value, "check": one.check.value, "kind": one.kind.value, "subject": one.subject, "detail": one.detail}
            for one in report.findings
        ],
        "checks": {tally.check.value: tally.count for tally in report.tallies},
        "not_checked": [{"level": one.level, "what": one.what, "why": one.why} for one in report.unchecked],
    }


def as_lines(report: Report) -> Iterator[str]:
    """Yield a report for people, findings first."""
    order = (Kind.DIVERGED, Kind.UNKNOWN, Kind.NOTE)
    for one in sorted(report.findings, key=lambda finding: order.index(finding.kind)):
        yield f"{one.kind.value.upper():8} {one.level.value} {one.check.value}: {one.subject}: {one.detail}"
    yield f"{report.records} records of validator {report.validator}, chain read up to block {report.block}"
    for level in sorted({tally.check.level for tally in report.tallies}):
        counts = (f"{tally.check.value} {tally.count}" for tally in report.tallies if tally.check.level is level)
        yield f"{level.value} checks made: {', '.join(counts)}"
    for missing in report.unchecked:
        yield f"not checked ({missing.level}): {missing.what}: {missing.why}"
    yield f"head of the log: {head_of(report)}"
    yield WORDS[report.verdict]


def head_of(report: Report) -> str:
    """Return the log's head as auditors exchange it."""
    return f"{report.records}:{report.root.hex()}"
