"""Move declared numbers: a tree-structured Parzen estimator for each knob, over a bounded move from the head.

**Moves.** A knob with a logarithmic scale moves by at most a factor of 2 for each edit, a linear one by at most a quarter of its
range, always within its declared limits. A move is a multiple of that step, on a coarse grid first and on a finer one later.

**Which way and how far** is asked of Optuna's TPE (Bergstra et al. 2011), knob by knob. Its study is rebuilt from the ledger
each time: the head is a trial with the value 0, every place that the knob has been at is a trial with the gain
measured from there to here. So TPE has something to compare with from the second look at a knob on. The first look at a knob
is a whole step in a random direction, because a small one would drown in noise. When TPE
answers with the place where the head is, the knob is done on that grid.

**Which knobs.** Where an earlier move made a difference beyond noise and TPE wants to go somewhere, the two knobs with the largest
difference go first: what was clearly worse one way says more about the other way than an untouched knob does. Then
knobs that were never moved, two at once in random order; then the fine grid. A knob whose move left the trained model as it was
is not in use and rests until a choice has changed.
"""

import importlib
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ralph.agent.knobs import Change, Number, Scalar
from ralph.agent.proposers.interface import Context, Proposal, Trial, describe
from ralph.errors import ConfigurationError

LINEAR_STEPS = 4
"""A linear knob's step is its range divided by this."""
GRIDS = (1.0, 0.5)
"""Moves are multiples of these, in steps; the coarse grid first."""
CLEAR = 2.0
"""A difference of so many standard errors of one pair of runs is worth following."""
CRASH_BPB = 1.0
"""A crash counts as this much worse."""
TOGETHER = 2
"""So many knobs that were never moved are moved at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Where a knob has been."""

    knob: Number
    gains: tuple[tuple[float, float], ...]
    """(move in steps, gain in bpb) from the head to every place but the head's."""
    inert: bool

    @property
    def evidence(self) -> float:
        """Return the largest difference that a step has made."""
        return max((abs(gain) / max(1.0, abs(move)) for move, gain in self.gains), default=0.0)

    def after(self, move: float) -> Scalar | None:
        """Return the knob's value after a move, None when that is no move."""
        value = self.knob.rounded(_value(_place(self.knob.value, self.knob) + move, self.knob))
        return None if value == self.knob.value else value


class Optimiser:
    """Implements ``Proposer`` over the knobs that have a range."""

    name = "optimiser"

    def __init__(self) -> None:
        try:
            self._optuna: Any = importlib.import_module("optuna")
        except ImportError as error:
            raise ConfigurationError("the optimiser needs Optuna: pip install 'ralph-subnet[agent]'") from error
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)

    def propose(self, context: Context) -> Proposal | None:
        """Return a move of one or two knobs."""
        tracks = {knob.name: _track(knob, context.trials) for knob in context.knobs if isinstance(knob, Number)}
        for moves in self._moves(list(tracks.values()), context):
            after = {name: tracks[name].after(move) for name, move in moves.items()}
            values = {name: value for name, value in after.items() if value is not None}
            tree = context.novel(values) if values else None
            if tree is not None:
                changes = tuple(Change(name=name, before=tracks[name].knob.value, after=value) for name, value in values.items())
                mechanism = "TPE over earlier moves: " + "; ".join(describe(changes, context.knobs))
                return Proposal(tree=tree, change="; ".join(str(change) for change in changes), mechanism=mechanism)
        return None

    def _moves(self, tracks: Sequence[Track], context: Context) -> Iterator[dict[str, float]]:
        """Yield moves, name -> steps, the most promising first."""
        generator = context.random()
        shuffled = generator.sample(tracks, len(tracks))
        seen = sorted((track for track in shuffled if track.gains and not track.inert), key=lambda track: -track.evidence)
        new = [track for track in shuffled if not track.gains and not track.inert]
        for grid in GRIDS:
            asked = {track.knob.name: self._ask(track, grid, generator) for track in seen}
            moving = [track for track in seen if asked[track.knob.name]]
            clear = [track for track in moving if track.evidence >= CLEAR * context.noise_bpb]
            for count in (TOGETHER, 1):
                for first in range(0, len(clear), count):
                    yield {track.knob.name: asked[track.knob.name] for track in clear[first : first + count]}
            for count in (TOGETHER, 1):
                for first in range(0, len(new), count):
                    yield {track.knob.name: grid * self._side(track, generator) for track in new[first : first + count]}
            for track in moving:
                yield {track.knob.name: asked[track.knob.name]}

    def _ask(self, track: Track, grid: float, generator: random.Random) -> float:
        """Return where TPE wants to go, in steps from the head; 0 for nowhere."""
        optuna = self._optuna
        low, high = (grid * math.trunc(_reach(track.knob, side) / grid) for side in (-1, 1))
        if low == high:
            return 0.0
        distribution = {"move": optuna.distributions.FloatDistribution(low, high, step=grid)}
        sampler = optuna.samplers.TPESampler(seed=generator.getrandbits(32), n_startup_trials=1)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for move, gain in ((0.0, 0.0), *track.gains):
            nearest = min(max(round(move / grid) * grid, low), high)
            study.add_trial(optuna.trial.create_trial(params={"move": nearest}, distributions=distribution, value=gain))
        move = float(study.ask(distribution).params["move"])
        been = any(abs(place - move) < grid / 2 and gain <= 0.0 for place, gain in track.gains)
        return 0.0 if been else move

    @staticmethod
    def _side(track: Track, generator: random.Random) -> int:
        """Return a random direction in which the knob can move."""
        open_sides = [side for side in (-1, 1) if track.after(side) is not None]
        return generator.choice(open_sides or [1])


def _track(knob: Number, trials: Sequence[Trial]) -> Track:
    """Follow one knob through all trials; what other knobs did at the same time is put down to it too."""
    levels: dict[float, float] = {}
    inert = False
    for trial in trials:
        change = next((change for change in trial.changes if change.name == knob.name), None)
        if change is None:
            inert = inert and not (trial.kept and any(isinstance(other.after, str) for other in trial.changes))
        elif isinstance(change.before, int | float) and isinstance(change.after, int | float):
            inert = trial.inert
            start, end = _place(change.before, knob), _place(change.after, knob)
            levels.setdefault(start, 0.0)
            levels[end] = levels[start] + (-CRASH_BPB if trial.gain_bpb is None else trial.gain_bpb)
    here = _place(knob.value, knob)
    base = levels.get(here, 0.0)
    gains = tuple((place - here, level - base) for place, level in sorted(levels.items()) if place != here)
    return Track(knob=knob, gains=gains, inert=inert)


def _place(value: float, knob: Number) -> float:
    """Return a value's place on the knob's scale, in steps."""
    if knob.log:
        return math.log2(max(value, knob.low))
    return LINEAR_STEPS * (value - knob.low) / (knob.high - knob.low)


def _value(place: float, knob: Number) -> float:
    if knob.log:
        return float(2.0**place)
    return knob.low + place * (knob.high - knob.low) / LINEAR_STEPS


def _reach(knob: Number, side: int) -> float:
    """Return how far the knob can move to one side, at most one step."""
    end = _place(knob.high if side > 0 else knob.low, knob) - _place(knob.value, knob)
    return min(max(end, -1.0), 1.0)
