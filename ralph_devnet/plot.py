"""The picture of a demo: the lineage with its challengers, who was refused, and what was tried in private.

One drawing, two outputs: a PNG with fixed colours, and an SVG whose colours are CSS variables, so that it
follows the theme of the page it stands in. This is the only module that imports matplotlib.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from ralph_devnet.facts import KingFact, Level, SubmissionFact
from ralph_devnet.outcome import Outcome, Tried
from ralph_devnet.words import count, safe

SIZE_INCHES = (10.0, 7.6)
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ralph-demo",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "text.parse_math": False,
}
SPREAD = 0.16
"""Horizontal distance between dots of one round."""
LABEL_ROOM = 0.06
"""Part of the height that is left for the label below the lowest king."""
MAX_TICKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Colours by meaning, as six hexadecimal digits."""

    ink: str
    muted: str
    grid: str
    king: str
    better: str
    dropped: str
    refused: str
    first: str
    second: str


LIGHT = Palette(
    ink="#1b1f24",
    muted="#59636e",
    grid="#d8dee4",
    king="#8250df",
    better="#1a7f37",
    dropped="#9a6700",
    refused="#cf222e",
    first="#0969da",
    second="#bf5b04",
)
_MARKERS = Palette(**{field.name: f"#0000{index + 16:02x}" for index, field in enumerate(fields(Palette))})
"""Colours that stand for CSS variables."""


def png(outcome: Outcome, path: Path) -> None:
    """Write the picture as a PNG on white."""
    with mpl.rc_context(STYLE):
        figure = draw(outcome, LIGHT)
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png", dpi=130, facecolor="white", metadata={"Software": "ralph"})


def svg(outcome: Outcome, *, label: str) -> str:
    """Return the picture as an SVG element whose colours are the variables ``--ink``, ``--king`` and so on."""
    out = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = draw(outcome, _MARKERS)
        FigureCanvasSVG(figure)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = f"<svg role='img' aria-label={quoteattr(label)} " + text[text.index("<svg ") + len("<svg ") :]
    for field in fields(Palette):
        text = text.replace(getattr(_MARKERS, field.name), f"var(--{field.name})")
    return text


def draw(outcome: Outcome, palette: Palette) -> Figure:
    """Draw the three panels."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    refused = [row for row in outcome.submissions if row.state == "rejected"]
    names = list(dict.fromkeys(row.name for row in refused))
    heights = [4.2, 0.5 + 0.28 * max(1, len(names)), 2.2]
    lineage, strip, tried = figure.subplots(3, 1, height_ratios=heights)
    _lineage(lineage, outcome, palette)
    _refused(strip, refused, names, palette)
    strip.set_xlim(lineage.get_xlim())
    for axes in (lineage, strip):
        axes.xaxis.set_major_locator(MultipleLocator(1) if outcome.rounds <= MAX_TICKS else MaxNLocator(integer=True))
    _tried(tried, outcome, palette)
    for axes in (lineage, strip, tried):
        _dress(axes, palette)
    return figure


def _lineage(axes: Axes, outcome: Outcome, palette: Palette) -> None:
    axes.set_title("Lineage: bits per byte on hidden text, lower is better; mean and sd over seeds")
    axes.set_ylabel("val_bpb")
    left, right = -0.7, max(outcome.rounds, 1) + 0.5
    axes.set_xlim(left, right)
    measured = [(king, king.level) for king in outcome.kings if king.level is not None]
    for place, (king, level) in enumerate(measured):
        end = right if king.reigns and not king.again else king.last_round + 0.5
        start = left if king.crowned_round is None else king.crowned_round + 0.5
        _king(axes, king, level, palette, start=start, end=end, to_the_left=place == 0 or start > (left + 2 * right) / 3)
        for first, last in king.again:
            _level(axes, king, level, palette, start=first - 0.5, end=right if last == outcome.rounds - 1 else last + 0.5)
        if place:
            before = next((one.mean for other, one in measured if other.tree == king.parent), level.mean)
            axes.vlines(start, min(before, level.mean), max(before, level.mean), color=palette.king, linewidth=1, linestyle="dotted")
    groups = (
        ("went on", {"screened", "filtering", "proving"}, palette.first, "o"),
        ("crowned", {"crowned"}, palette.better, "*"),
        ("dropped: not clearly better", {"dropped"}, palette.dropped, "v"),
        ("void: another became king", {"void"}, palette.muted, "s"),
        ("refused after measuring", {"rejected"}, palette.refused, "x"),
    )
    for label, states, colour, marker in groups:
        rows = [row for row in outcome.submissions if row.state in states and row.level is not None]
        _challengers(axes, rows, outcome.submissions, label, colour, marker)
    low, high = axes.get_ylim()
    axes.set_ylim(low - LABEL_ROOM * (high - low), high)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper right", frameon=False, fontsize=9, labelcolor=palette.ink)


def _king(axes: Axes, king: KingFact, level: Level, palette: Palette, *, start: float, end: float, to_the_left: bool) -> None:
    mean, sd = level.mean, level.sd or 0.0
    _level(axes, king, level, palette, start=start, end=end)
    runs = count(level.runs, "run" if king.level_of == "reign" else "proof run")
    label = f"{safe(king.tag, 40)} by {safe(king.name, 20)}: {mean:.3f} ({runs})"
    place, side = (end, "right") if to_the_left else (start, "left")
    note = axes.annotate(
        label,
        (place, mean - sd),
        xytext=(-3 if to_the_left else 3, -4),
        textcoords="offset points",
        va="top",
        ha=side,
        fontsize=9,
        color=palette.king,
    )
    note.set_in_layout(False)


def _level(axes: Axes, king: KingFact, level: Level, palette: Palette, *, start: float, end: float) -> None:
    """Draw one stretch on the throne; that of a king who was demoted later is grey."""
    mean, sd, colour = level.mean, level.sd or 0.0, palette.muted if king.standing == "demoted" else palette.king
    axes.hlines(mean, start, end, color=colour, linewidth=2.2, linestyle="solid" if king.level_of == "reign" else "dashed")
    axes.fill_between([start, end], mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)


def _challengers(
    axes: Axes, rows: Sequence[SubmissionFact], everything: Sequence[SubmissionFact], label: str, colour: str, marker: str
) -> None:
    placed = [(_place(row, everything), row.level) for row in rows]
    points = [(x, level.mean, level.sd or 0.0) for x, level in placed if level is not None]
    if not points:
        return
    xs, ys, errors = zip(*points, strict=True)
    size = 11 if marker == "*" else 6
    axes.errorbar(xs, ys, yerr=errors, fmt=marker, color=colour, markersize=size, elinewidth=1, label=label, zorder=3)


def _place(row: SubmissionFact, everything: Sequence[SubmissionFact]) -> float:
    """Return where a dot goes: beside the others of its round."""
    same = [one for one in everything if one.round == row.round and one.level is not None]
    return row.round + SPREAD * (same.index(row) - (len(same) - 1) / 2)


def _refused(axes: Axes, rows: Sequence[SubmissionFact], names: Sequence[str], palette: Palette) -> None:
    axes.set_title("Refused, by round")
    axes.set_yticks(range(len(names)), [safe(name, 20) for name in names])
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.set_xlabel("round", loc="right", labelpad=1)
    for row in rows:
        place = (row.round, names.index(row.name))
        axes.plot(*place, marker="x", color=palette.refused, markersize=7, markeredgewidth=2)
        note = axes.annotate(
            safe(row.reason, 20), place, xytext=(8, 0), textcoords="offset points", va="center", fontsize=9, color=palette.refused
        )
        note.set_in_layout(False)
    if not rows:
        axes.text(0.0, 0.0, "nobody", color=palette.muted, va="center")


def _tried(axes: Axes, outcome: Outcome, palette: Palette) -> None:
    axes.set_title("Tried in private by the honest miners: gain over what each had")
    axes.set_ylabel("gain, bpb")
    axes.axhline(0.0, color=palette.muted, linewidth=0.8)
    order = {id(one): place for place, one in enumerate(outcome.tries, start=1)}
    for name, colour in zip(outcome.honest, (palette.first, palette.second), strict=False):
        mine = [one for one in outcome.tries if one.miner == name]
        for kept in (True, False):
            _dots(axes, [(order[id(one)], one) for one in mine if one.kept == kept], colour, name, kept=kept)
    unmeasured = sum(one.gain_bpb is None for one in outcome.tries)
    axes.set_xlabel("experiment" + (f" ({unmeasured} without a value are not shown)" if unmeasured else ""), loc="right")
    axes.set_xlim(0.0, len(outcome.tries) + 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best", frameon=False, fontsize=9, labelcolor=palette.ink, ncols=2)


def _dots(axes: Axes, tried: Sequence[tuple[int, Tried]], colour: str, name: str, *, kept: bool) -> None:
    points = [(place, one.gain_bpb, one.standard_error_bpb or 0.0) for place, one in tried if one.gain_bpb is not None]
    if not points:
        return
    xs, ys, errors = zip(*points, strict=True)
    face = colour if kept else "none"
    label = f"{safe(name, 20)}, {'kept' if kept else 'discarded'}"
    axes.errorbar(xs, ys, yerr=errors, fmt="o", color=colour, markerfacecolor=face, markersize=5, elinewidth=0.8, label=label)


def _dress(axes: Axes, palette: Palette) -> None:
    """Colour everything that is not data."""
    axes.title.set_color(palette.ink)
    axes._left_title.set_color(palette.ink)  # type: ignore[attr-defined]
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(palette.muted)
        axis.set_tick_params(colors=palette.muted)
    for spine in axes.spines.values():
        spine.set_color(palette.grid)
    axes.grid(visible=True, axis="y", color=palette.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
