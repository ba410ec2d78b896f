"""`ralph demo`: the whole protocol on one machine, watched from outside."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from ralph.cli.output import JsonOption, Meter, progress
from ralph.data.partition import Progress
from ralph_devnet.demo import Options, Screen, run
from ralph_devnet.view import Lines, Scene, render, summary
from ralph_devnet.watch import Observation


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Fixes keys, beacons, data order and the miners' research.")] = 1,
    home: Annotated[Path, typer.Option(help="Directory of the demo; an earlier demo's is wiped.")] = Path(".demo"),
    data: Annotated[Path | None, typer.Option(help="Prepared data to use again; made when missing. Default: inside the home.")] = None,
    short: Annotated[bool, typer.Option("--short", help="The honest miners and one change of king only.")] = False,
    max_rounds: Annotated[int, typer.Option(min=1, help="Give up after this many rounds.")] = 30,
    timeout: Annotated[float, typer.Option(min=1.0, help="Give up after this many seconds.")] = 1800.0,
    json: JsonOption = False,
) -> None:
    """Run the whole protocol on this machine: miners, cheats, a validator, an audit, and a page about it.

    Exit status 0 says that everything a demo must show was shown: the changes of king, every cheat refused
    for its reason, every honest twin not refused, weights set, and the audit passed.
    """
    options = Options(home=home, seed=seed, data=data, short=short, max_rounds=max_rounds, timeout_s=timeout)
    with _ended_by(signal.SIGTERM, signal.SIGHUP):
        outcome = run(options, _screen(quiet=json))
    if json:
        sys.stdout.write(outcome.to_json() + "\n")
    else:
        Console(highlight=False).print(summary(outcome))
    raise typer.Exit(0 if outcome.holds else 1)


@contextmanager
def _ended_by(*numbers: signal.Signals) -> Iterator[None]:
    """Let signals end the demo as an interrupt does, so that no process stays behind."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.stderr.write(f"\nended by {signal.Signals(number).name}; no process is left behind\n")
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _screen(*, quiet: bool) -> Screen:
    """Return the live view on a terminal, plain lines otherwise; with ``quiet`` they leave standard output alone."""
    console = Console(stderr=quiet, highlight=False)
    return PlainScreen(console) if quiet or not console.is_terminal or console.is_dumb_terminal else LiveScreen(console)


class DataProgress:
    """The progress of preparing data; begins when there is some."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._meter: Meter | None = None

    def show(self, step: Progress) -> None:
        """Show one step."""
        if self._meter is None:
            self._meter = self._open.enter_context(progress("data"))
        self._meter.update(step.done, step.total, step.stage)

    def close(self) -> None:
        """End the display. Idempotent."""
        self._meter = None
        self._open.close()


class PlainScreen:
    """Plain lines, for logs and programs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = Lines(console)
        self._data = DataProgress()

    def stage(self, name: str, elapsed_s: float) -> None:
        """Say that another part begins."""
        self._data.close()
        self._lines.say(name, elapsed_s)

    def data(self, step: Progress) -> None:
        """Say how far the data are."""
        self._data.show(step)

    def show(self, seen: Observation, scene: Scene) -> None:
        """Say what is new."""
        self._lines.show(seen, scene)

    def close(self) -> None:
        """Nothing is held."""


class LiveScreen:
    """A view that is drawn anew twice a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = Lines(console)
        self._data = DataProgress()
        self._live: Live | None = None

    def stage(self, name: str, elapsed_s: float) -> None:
        """Say that another part begins, unless the view says so."""
        self._data.close()
        if self._live is None:
            self._lines.say(name, elapsed_s)

    def data(self, step: Progress) -> None:
        """Show how far the data are."""
        self._data.show(step)

    def show(self, seen: Observation, scene: Scene) -> None:
        """Draw the view."""
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, screen=False, vertical_overflow="ellipsis")
            self._live.start()
        self._live.update(render(seen, scene, height=self._console.height), refresh=True)

    def close(self) -> None:
        """Leave the last view on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None
