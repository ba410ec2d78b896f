"""The demo on a screen: a live view on a terminal, plain lines otherwise.

What is shown is a pure function of an observation. Text of others reaches the terminal only as ``Text``
(which interprets no markup) after ``words.safe`` took out whatever could steer it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ralph.protocol.record import State
from ralph_devnet.facts import CastFact, KingFact, SubmissionFact, kings, submissions
from ralph_devnet.outcome import Outcome, Tried
from ralph_devnet.watch import Observation
from ralph_devnet.words import GENESIS, STATES, Names, audit_command, count, duration, gain, level, safe, sentence

MIN_ROWS, MAX_ROWS, MAX_KINGS = 3, 16, 6
FIXED_LINES = 18
"""Lines of the live view that are there whatever the lists hold."""
MARKS: dict[State, tuple[str, str]] = {
    "rejected": ("✗", "red"),
    "absent": ("✗", "yellow"),
    "void": ("-", "bright_black"),
    "dropped": ("↓", "yellow"),
    "queued": ("…", "bright_black"),
    "deferred": ("!", "magenta"),
    "screened": ("→", "cyan"),
    "filtering": ("→", "cyan"),
    "proving": ("→", "cyan"),
    "crowned": ("★", "bold green"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the live view needs besides the observation."""

    names: Names
    miners: Sequence[str]
    elapsed_s: float
    stage: str
    rounds_limit: int


def render(seen: Observation, scene: Scene, *, height: int = 50) -> RenderableType:
    """Return the live view for a screen of so many lines; what does not fit is the older part of each list."""
    found = kings(seen.entries, scene.names)
    shown = found[-max(2, min(MAX_KINGS, height - FIXED_LINES - len(scene.miners) - MIN_ROWS)) :]
    rows = min(MAX_ROWS, max(MIN_ROWS, height - FIXED_LINES - len(scene.miners) - max(1, len(shown))))
    parts = (king_table(shown, folded=True), _submission_table(seen, scene, rows), _research_table(seen, scene))
    return Group(_head(seen, scene), *(item for part in parts for item in (part, Text())))


def king_table(found: Sequence[KingFact], *, folded: bool = False) -> Table:
    """Return the lineage, the newest king first; ``folded`` cuts long changes to one line."""
    table = _table("Kings", "val_bpb on hidden text, lower is better")
    table.add_column("recipe", no_wrap=True)
    table.add_column("by", no_wrap=True)
    table.add_column("val_bpb", justify="right", no_wrap=True)
    table.add_column("runs", justify="right", no_wrap=True)
    table.add_column("gain over last", justify="right", no_wrap=True)
    table.add_column("what changed", ratio=1, no_wrap=folded, overflow="ellipsis")
    for king in reversed(found):
        style = "bold green" if king.reigns else ""
        runs = "" if king.level is None else f"{king.level.runs}{' proof' if king.level_of == 'proof' else ''}"
        table.add_row(
            Text(safe(king.title), style=style),
            Text(king.name, style=style),
            Text(level(king.level.mean, king.level.sd) if king.level else "not measured yet"),
            runs,
            gain(king.gain_bpb, king.standard_error_bpb),
            Text(safe(king.change, 160)),
        )
    if not found:
        table.add_row("", Text(GENESIS), "", "", "", Text("its first runs are being measured", style="dim"))
    return table


def submission_row(row: SubmissionFact) -> tuple[Text, ...]:
    """Return who, what became of it, and why, as cells."""
    mark, style = MARKS[row.state]
    why = Text(f"{safe(row.reason, 20)}  ", style="dim")
    why.append(sentence(row.reason), style="not dim")
    return (
        Text(str(row.round)),
        Text(row.name),
        Text(f"{mark} {STATES[row.state]}", style=style),
        Text(gain(row.gain_bpb, row.standard_error_bpb)),
        why,
    )


def _head(seen: Observation, scene: Scene) -> Panel:
    block, blocks = seen.head.number, seen.window
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"round {blocks.index}", style="bold")
    text.append(f" of at most {scene.rounds_limit}   ", style="dim")
    text.append(seen.phase, style="bold cyan")
    text.append(f"   block {block} ({max(0, block - blocks.start)} of {blocks.end - blocks.start})", style="dim")
    waiting = ", ".join(safe(name, 30) for name in seen.waiting)
    text.append(f"\nwaiting for {waiting}" if waiting else "\nblocks are being made")
    text.append(f"\n{seen.throne.king.tag}", style="bold green")
    text.append(f" reigns, made by {scene.names.of(seen.throne.king.hotkey)}; ")
    text.append(f"{len(seen.throne.lineage) - 1} changes of king, {len(seen.throne.contests)} contests running")
    return Panel(
        text,
        title=Text(f"ralph demo · {scene.stage}"),
        subtitle=Text(duration(scene.elapsed_s)),
        title_align="left",
        subtitle_align="right",
    )


def _submission_table(seen: Observation, scene: Scene, limit: int) -> Table:
    table = _table("Submissions", "of the last rounds")
    table.add_column("round", justify="right", no_wrap=True)
    table.add_column("who", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("gain, bpb", justify="right", no_wrap=True)
    table.add_column("why", ratio=1, no_wrap=True, overflow="ellipsis")
    for one in seen.pending:
        words = {"announced": "announced: patch and hypothesis are committed", "delivered": "delivered: its proof waits for the judges"}
        table.add_row("now", one.name, Text("• " + one.progress), "", Text(words[one.progress], style="dim"))
    rows = submissions(seen.entries, scene.names)
    for row in list(reversed(rows))[: max(0, limit - len(seen.pending))]:
        table.add_row(*submission_row(row))
    if not rows and not seen.pending:
        table.add_row("", Text("none yet", style="dim"), "", "", "")
    return table


def _research_table(seen: Observation, scene: Scene) -> Table:
    table = _table("Private research", "on the miners' own machines, with seeds of their own")
    for heading in ("miner", "tried", "kept", "discarded"):
        table.add_column(heading, justify="left" if heading == "miner" else "right", no_wrap=True)
    table.add_column("branch so far", justify="right", no_wrap=True)
    table.add_column("last experiment", ratio=1, no_wrap=True, overflow="ellipsis")
    for miner in scene.miners:
        mine = [one for one in seen.tried if one.miner == miner]
        tries = [one for one in mine if one.counts]
        kept = sum(one.kept for one in tries)
        last = last_words(mine[-1]) if mine else "measuring how far the king's own runs scatter"
        table.add_row(miner, str(len(tries)), str(kept), str(len(tries) - kept), gain(branch_gain(mine)), Text(last))
    return table


def branch_gain(mine: Sequence[Tried]) -> float | None:
    """Return the sum of the private gains that were kept on the present king; None while nothing was."""
    kept = [one.gain_bpb for one in mine if one.reign == mine[-1].reign and one.kept and one.counts and one.gain_bpb is not None]
    return sum(kept) if kept else None


def last_words(one: Tried) -> str:
    """Return an experiment as a line."""
    return f"{safe(one.decision, 10)}: {safe(one.change, 90)} ({safe(one.reason, 120)})"


def _table(title: str, about: str) -> Table:
    heading = Text(title, style="bold")
    heading.append(f"  {about}", style="dim")
    return Table(
        title=heading, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, expand=True, pad_edge=False, padding=(0, 1, 0, 0)
    )


def summary(outcome: Outcome) -> RenderableType:
    """Return the end of a demo: kings, cheats, what was shown, where to look."""
    parts: list[RenderableType] = [king_table(outcome.kings)]
    if outcome.cast:
        parts.append(cast_table(outcome.cast))
    parts.append(_claims_table(outcome))
    parts.append(_where(outcome))
    if outcome.stopped_because:
        parts.append(Text(f"Stopped: {outcome.stopped_because}", style="bold red"))
    return Group(*(item for part in parts for item in (Text(), part)))


def cast_table(cast: Sequence[CastFact]) -> Table:
    """Return what the cheats tried, what the signed Records say, and how their twins fared."""
    table = _table("Cheats and their honest twins", "from the signed records")
    for heading in ("who", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what he tries", ratio=3)
    table.add_column("why", ratio=4)
    table.add_column("honest twin", ratio=2)
    for fact in cast:
        twin = "" if fact.twin_row is None else f"{fact.twin_name}: {STATES[fact.twin_row.state]}"
        if fact.row is None:
            table.add_row(fact.role.name, Text("no final row", style="red"), fact.role.description, "", Text(twin))
            continue
        mark, style = MARKS[fact.row.state]
        why = Text(safe(fact.row.reason, 20), style="bold")
        why.append(f"  {sentence(fact.row.reason)}", style="not bold")
        table.add_row(fact.role.name, Text(f"{mark} {STATES[fact.row.state]}", style=style), fact.role.description, why, Text(twin))
    return table


def _claims_table(outcome: Outcome) -> Table:
    table = _table("What this demo must show", "all of it" if outcome.holds else "not all of it was shown")
    table.add_column("", no_wrap=True)
    table.add_column("claim", ratio=1)
    table.add_column("seen", ratio=1)
    for claim in outcome.claims:
        table.add_row(
            Text("✓", style="green") if claim.holds else Text("✗", style="bold red"), Text(claim.name), Text(safe(claim.detail, 300))
        )
    return table


def _where(outcome: Outcome) -> Text:
    took = duration(sum(stage.seconds for stage in outcome.stages))
    text = Text(f"{took} minutes, {outcome.rounds} rounds, {len(outcome.tries)} ideas tried in private.\n", style="dim")
    paths = outcome.paths
    for name, path in (("page", paths.page), ("plot", paths.plot), ("outcome", paths.document), ("logs", paths.logs)):
        if path is not None:
            text.append(f"{name:>8}  ", style="not dim bold").append(f"{path}\n", style="not dim")
    text.append(f"{'verify':>8}  ", style="not dim bold").append(audit_command(paths.home), style="not dim")
    return text


class Lines:
    """What happened since the last observation, as plain lines."""

    def __init__(self, console: Console, *, quiet_s: float = 30.0) -> None:
        self._console, self._quiet_s = console, quiet_s
        self._recorded = 0
        self._told: set[tuple[str, int]] = set()
        self._said_s = 0.0

    def say(self, text: str, elapsed_s: float) -> None:
        """Print one line."""
        self._said_s = elapsed_s
        self._console.print(Text(f"[{duration(elapsed_s):>5}] {safe(text, 400)}"), soft_wrap=True)

    def show(self, seen: Observation, scene: Scene) -> None:
        """Print what is new, and now and then that something is still going on."""
        for one in seen.tried:
            if (one.miner, one.number) not in self._told:
                self._told.add((one.miner, one.number))
                self.say(f"{one.miner} tried: {last_words(one)}", scene.elapsed_s)
        if len(seen.entries) > self._recorded:
            self._rounds(seen, scene)
        if scene.elapsed_s - self._said_s >= self._quiet_s:
            waiting = f", waiting for {', '.join(seen.waiting)}" if seen.waiting else ""
            self.say(f"round {seen.window.index}, {seen.phase}, block {seen.head.number}{waiting}", scene.elapsed_s)

    def _rounds(self, seen: Observation, scene: Scene) -> None:
        rows = submissions(seen.entries, scene.names)
        for entry in seen.entries[self._recorded :]:
            index = entry.signed.record.round
            for row in (one for one in rows if one.round == index):
                measured = (
                    f" Gain {gain(row.gain_bpb, row.standard_error_bpb)} bpb over {count(row.runs or 0, 'run')}."
                    if row.gain_bpb is not None
                    else ""
                )
                self.say(f"round {index}: {row.name} {STATES[row.state]}: {sentence(row.reason)} ({row.reason}){measured}", scene.elapsed_s)
            self.say(f"round {index} is recorded and verified; {entry.throne.king.tag} reigns", scene.elapsed_s)
        self._recorded = len(seen.entries)
