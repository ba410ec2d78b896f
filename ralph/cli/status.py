"""`ralph status`: the king, the running contests and how fresh the records are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ralph.cli.errors import Exit
from ralph.cli.history import Situation, read_situation
from ralph.cli.output import JsonOption, emit
from ralph.judge.plan import next_look_runs
from ralph.protocol.lineage import Contest, Reign, Throne


def status(config: Annotated[Path, typer.Option(help="A node's TOML.")], json: JsonOption = False) -> None:
    """Show the king, the running contests and how fresh the records are; exit 2 while there are none or they are stale."""
    seen = read_situation(config)
    value = _value(seen)
    emit(value, list(_lines(value)), as_json=json)
    raise typer.Exit(Exit.INCOMPLETE if seen.stale or not seen.entries else Exit.OK)


def _value(seen: Situation) -> dict[str, Any]:
    throne = seen.history.throne
    return {
        "block": seen.head.number,
        "finalised": seen.head.finalised,
        "round": seen.round_index,
        "validator": seen.validator,
        "records": len(seen.entries),
        "newest_record": throne.round_index if seen.entries else None,
        "stale": seen.stale,
        "king": {
            "tag": throne.king.tag,
            "tree": throne.king.tree.hex(),
            "hotkey": throne.king.hotkey or None,
            "crowned_in_round": throne.king.crowned_round,
            "standing": throne.king.standing,
            "probation": [len(throne.king.trial), seen.profile.rules.crown.probation_runs] if throne.king.standing == "probation" else None,
            "pool_runs": len(throne.pool),
        },
        "lineage": [_reign(one, throne) for one in throne.lineage],
        "high_water_bpb": throne.high_water_bpb,
        "contests": [_contest(one, seen) for one in throne.contests],
        "weights": seen.weights,
        "hidden": _hidden(seen),
        "waiting_for": list(seen.waiting_for),
    }


def _hidden(seen: Situation) -> dict[str, Any]:
    """Return the rotation of hidden documents, what was opened, and how the king does where nothing is decided."""
    records = [entry.signed.record for entry in seen.entries]
    watched = next((record.watch for record in reversed(records) if record.watch and record.king == seen.history.throne.king.tree), ())
    return {
        "rotation": seen.history.throne.rotation,
        "opened": [row.subset.key for record in records for row in record.openings],
        "watch": {row.subset.shard: [row.gain_bpb, row.standard_error_bpb, row.runs] for row in watched},
    }


def _reign(reign: Reign, throne: Throne) -> dict[str, Any]:
    return {
        "tag": reign.tag,
        "hotkey": reign.hotkey or None,
        "standing": reign.standing,
        "main_line": reign in throne.main_line,
        "gain_bpb": reign.gain_bpb if reign.hotkey else None,
        "published_gain_bpb": reign.published_gain_bpb,
        "demoted_in_round": reign.demoted_round,
        "restored_in_round": reign.restored_round,
    }


def _contest(contest: Contest, seen: Situation) -> dict[str, Any]:
    return {
        "case": contest.case.hex(),
        "hotkey": contest.hotkey,
        "stage": contest.stage,
        "runs": len(contest.runs),
        "next_look_runs": next_look_runs(contest, seen.profile.rules),
        "entry": contest.entry or None,
    }


def _hidden_lines(hidden: dict[str, Any]) -> Iterator[str]:
    opened = ", ".join(hidden["opened"]) or "nothing"
    yield f"hidden documents: rotation {hidden['rotation']}; opened so far: {opened}"
    if hidden["watch"]:
        gains = (f"{gain:+.4f} +- {error:.4f} bpb on {shard}" for shard, (gain, error, _) in hidden["watch"].items())
        yield f"  the king beside the one before him: {', '.join(gains)}; audit decides nothing, a smaller gain there tells of overfitting"


def _lines(value: dict[str, Any]) -> Iterator[str]:
    king = value["king"]
    yield f"block {value['block']} (final up to {value['finalised']}), round {value['round']}"
    newest = (
        "no record yet" if value["newest_record"] is None else f"{value['records']} records, the newest of round {value['newest_record']}"
    )
    yield f"validator {value['validator']}: {newest}{' - STALE' if value['stale'] else ''}"
    whose = king["hotkey"] or "the genesis recipe"
    yield f"king {king['tag']}: {whose}, since round {king['crowned_in_round']}, pool of {king['pool_runs']} runs, tree {king['tree'][:16]}"
    if king["probation"]:
        yield f"  on probation: {king['probation'][0]} of {king['probation'][1]} runs after the crown are in; his pay has not vested"
    for one in value["lineage"][1:]:
        since = "" if one["published_gain_bpb"] is None else f", {one['published_gain_bpb']:+.4f} since"
        line = "" if one["main_line"] else ", off the main line"
        yield f"  {one['tag']}: {one['hotkey']}, gain {one['gain_bpb']:+.4f} bpb at the crown{since}; {one['standing']}{line}"
    for one in value["contests"]:
        progress = f"{one['stage']}, {one['runs']} runs, {one['next_look_runs']} more at the next look"
        yield f"contest {one['case'][:16]} of {one['hotkey']}: {progress}"
    if not value["contests"]:
        yield "no contest is running"
    yield from _hidden_lines(value["hidden"])
    total = sum(value["weights"].values())
    for hotkey, weight in sorted(value["weights"].items(), key=lambda item: -item[1]):
        yield f"weight {weight / total:.1%}: {hotkey}"
    if value["waiting_for"]:
        yield f"the next block waits for: {', '.join(value['waiting_for'])}"
