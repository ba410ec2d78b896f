"""`ralph doctor`: check this machine, and say how to fix what is wrong."""

from pathlib import Path
from typing import Annotated

import typer

from ralph.cli.errors import Exit
from ralph.cli.output import JsonOption, emit, line
from ralph.cli.probes import Probe, State, machine, node
from ralph.config import Launcher, default_home, load_config


def doctor(
    config: Annotated[Path | None, typer.Option(help="A node's TOML: also check what it names.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Run the slow attacks on the sandbox as well, about a minute.")] = False,
    sandbox: Annotated[Launcher | None, typer.Option(help="Attack this sandbox, not the one of the configuration.")] = None,
    json: JsonOption = False,
) -> None:
    """Check this machine and say how to fix what is wrong: exit 0 when all is well, 1 when something is not."""
    known = load_config(config) if config is not None else None
    home = known.state if known is not None else default_home()

    def report(what: str) -> None:
        if not json:
            line(f"{what} ...", err=True)

    probes = list(machine(home, full=full, report=report, config=known, launcher=sandbox))
    probes += list(node(known)) if known is not None else []
    emit(as_json(probes), as_lines(probes), as_json=json)
    raise typer.Exit(Exit.NEGATIVE if failed(probes) else Exit.OK)


def failed(probes: list[Probe]) -> bool:
    """Return whether anything has to be fixed."""
    return any(probe.state is State.FAILED for probe in probes)


def as_json(probes: list[Probe]) -> dict[str, object]:
    """Return probes for programs."""
    rows = [{"name": one.name, "state": one.state.value, "detail": one.detail, "fix": one.fix or None} for one in probes]
    return {"ok": not failed(probes), "checks": rows}


def as_lines(probes: list[Probe]) -> list[str]:
    """Return probes for people; every failure with its fix on the next line."""
    lines: list[str] = []
    for one in probes:
        lines.append(f"{one.state.value:7} {one.name}: {one.detail}")
        if one.fix:
            lines.append(f"        fix: {one.fix}")
    wrong = sum(one.state is State.FAILED for one in probes)
    return [*lines, f"{wrong} things to fix" if wrong else "all is well"]
