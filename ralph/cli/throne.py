"""`ralph history`: every change on the throne, from the Records."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ralph.cli.errors import Exit
from ralph.cli.history import Situation, read_situation
from ralph.cli.output import JsonOption, emit
from ralph.protocol.lineage import Throne


def history(config: Annotated[Path, typer.Option(help="A node's TOML.")], json: JsonOption = False) -> None:
    """Show crowns, ends of probation and demotions in order, and what is on the main line today; exit 2 while there are no records."""
    seen = read_situation(config)
    events = list(_events(seen))
    emit({"events": events}, [_line(event) for event in events] or ["the throne has not changed hands"], as_json=json)
    raise typer.Exit(Exit.OK if seen.entries else Exit.INCOMPLETE)


def _events(seen: Situation) -> Iterator[dict[str, Any]]:
    line = {reign.tag for reign in seen.history.throne.main_line}
    before = Throne.genesis(seen.profile.rules.genesis_tree)
    for entry in seen.entries:
        record, after = entry.signed.record, entry.throne
        common = {"round": record.round, "tag": before.king.tag, "hotkey": before.king.hotkey or None, "main_line": before.king.tag in line}
        if before.king.standing == "probation" and after.lineage[before.seat].standing == "vested":
            yield {**common, "event": "vested", "gain_bpb": after.lineage[before.seat].published_gain_bpb}
        if record.crown is not None:
            own = {"tag": record.crown.tag, "hotkey": record.crown.hotkey, "main_line": record.crown.tag in line}
            yield {**common, **own, "event": "crowned", "gain_bpb": record.crown.gain_bpb}
        if record.demotion is not None:
            row = record.demotion
            said = {"reason": row.reason, "detail": row.detail, "evidence": len(row.evidence)}
            yield {**common, **said, "event": "demoted", "restored": after.king.tag, "release": row.tag}
        before = after


def _line(event: dict[str, Any]) -> str:
    who = f"round {event['round']}: {event['tag']} of {event['hotkey']}"
    if event["event"] == "demoted":
        evidence = f"{event['evidence']} measurements"
        return (
            f"{who} is demoted ({event['reason']}): {event['detail']}; {evidence}. {event['restored']} reigns again as {event['release']}"
        )
    off = "" if event["main_line"] else " (off the main line today)"
    if event["event"] == "vested":
        gain = "" if event["gain_bpb"] is None else f", gain {event['gain_bpb']:+.4f} bpb in runs after the crown"
        return f"{who} has passed his probation{gain}{off}"
    return f"{who} is crowned, gain {event['gain_bpb']:+.4f} bpb at the crown{off}"
