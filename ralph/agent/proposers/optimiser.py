"""Move declared numbers: a tree-structured Parzen estimator for each knob, over a bounded move from the head.

**Moves.** A knob with a logarithmic scale moves by at most a factor of 2 for each edit, a linear one by at most a quarter of its
range, always within its declared limits. A move is a multiple of that step, on a coarse grid first and on a finer one later.

**Which way and how far** is asked of Optuna's TPE (Bergstra et al. 2011), knob by knob. Its study is rebuilt from the ledger each
time: the head is a trial with the value 0, and every place where the knob has been is a trial with the gain measured from here
to there. So TPE has something to compare with from the second look at a knob on. The first look is a whole step in a random
direction, because a small one would drown in noise. When TPE answers with where the head is, or with a place that was
no better, the knob is done on that grid.

**Which knobs.** Where an earlier move made a difference beyond noise and TPE wants to go somewhere, the two knobs with the largest
difference go first, together: what was clearly worse one way says more about the other way than an untouched knob does. Then
come knobs that were never moved, one at a time, so that what a move did is known; in random order, but those with a
logarithmic scale first, because such a declaration says that not even the size of the number is known. Then the others,
the fine grid, and random pairs. A knob whose move left the trained model as it was is not in use: it rests until
a choice or the king has changed.
"""

import importlib
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ralph.agent.knobs import Change, Number, Scalar
from ralph.agent.proposers.interface import Context, Proposal, describe
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
"""So many knobs are moved at once where each is known to matter."""
ATTEMPTS = 64
"""Random moves looked at before giving up."""


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
        if move == 0.0:
            return None
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
        tracks = {knob.name: _track(knob, context) for knob in context.knobs if isinstance(knob, Number)}
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
        shuffled = [track for track in generator.sample(tracks, len(tracks)) if not track.inert]
        seen = sorted((track for track in shuffled if track.gains), key=lambda track: -track.evidence)
        new = sorted((track for track in shuffled if not track.gains), key=lambda track: not track.knob.log)
        for grid in GRIDS:
            clear = [track for track in seen if track.evidence >= CLEAR * context.noise_bpb]
            asked = {track.knob.name: self._ask(track, grid, generator.getrandbits(32)) for track in clear}
            yield from _groups({name: move for name, move in asked.items() if move}, TOGETHER)
            yield from _groups({track.knob.name: grid * _side(track, generator) for track in new}, 1)
            yield from ({track.knob.name: self._ask(track, grid, generator.getrandbits(32))} for track in seen if track not in clear)
        for _ in range(ATTEMPTS):
            chosen = generator.sample(shuffled, min(TOGETHER, len(shuffled)))
            yield {track.knob.name: generator.choice(GRIDS) * _side(track, generator) for track in chosen}

    def _ask(self, track: Track, grid: float, seed: int) -> float:
        """Return where TPE wants to go, in steps from the head; 0 for nowhere."""
        optuna = self._optuna
        low, high = (grid * math.trunc(_reach(track.knob, side) / grid) for side in (-1, 1))
        if low == high:
            return 0.0
        distribution = {"move": optuna.distributions.FloatDistribution(low, high, step=grid)}
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for move, gain in ((0.0, 0.0), *track.gains):
            nearest = min(max(round(move / grid) * grid, low), high)
            study.add_trial(optuna.trial.create_trial(params={"move": nearest}, distributions=distribution, value=gain))
        move = float(study.ask(distribution).params["move"])
        been = any(abs(place - move) < grid / 2 and gain <= 0.0 for place, gain in track.gains)
        return 0.0 if been else move


def _groups(moves: dict[str, float], most: int) -> Iterator[dict[str, float]]:
    """Yield the moves some at a time, then one at a time."""
    for count in range(most, 0, -1):
        for first in range(0, len(moves), count):
            yield dict(itertools.islice(moves.items(), first, first + count))


def _side(track: Track, generator: random.Random) -> int:
    """Return a random direction in which the knob can move."""
    sides = [side for side in (-1, 1) if track.after(side) is not None]
    return generator.choice(sides or [1])


def _track(knob: Number, context: Context) -> Track:
    """Follow one knob through all trials; what other knobs did at the same time is put down to it too."""
    levels: dict[float, float] = {}
    inert: int | None = None
    for trial in context.trials:
        change = next((change for change in trial.changes if change.name == knob.name), None)
        if inert is not None and (trial.reign != inert or (trial.kept and any(isinstance(other.after, str) for other in trial.changes))):
            levels, inert = {}, None
        if change is not None and isinstance(change.before, int | float) and isinstance(change.after, int | float):
            inert = trial.reign if trial.inert else None
            start, end = _place(change.before, knob), _place(change.after, knob)
            levels.setdefault(start, 0.0)
            levels[end] = levels[start] + (-CRASH_BPB if trial.gain_bpb is None else trial.gain_bpb)
    if inert is not None and inert != context.reign:
        levels, inert = {}, None
    here = _place(knob.value, knob)
    base = levels.get(here, 0.0)
    gains = tuple((place - here, level - base) for place, level in sorted(levels.items()) if place != here)
    return Track(knob=knob, gains=gains, inert=inert is not None)


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
