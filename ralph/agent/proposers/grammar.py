"""Switch declared choices: one at a time, then near misses together, then what was kept off again.

The grammar is what the recipe declares: a terminal is one knob with one of its other choices. Productions, in the order in which they
are used up; within each, chance decides, and what earlier reigns found better comes before what they found worse:
1. one knob that was not switched in this reign, to one of its other choices;
2. two near misses of this reign at once: switches that were better by a standard error and not clearly so;
3. another choice of a knob that was switched before;
4. an ablation: one kept switch off again;
5. two or three switches at once.

No tree is proposed twice in a reign. A switch that left the trained model as it was is not repeated on its own.
"""

import itertools
import math
import random
from collections.abc import Iterator, Sequence

from ralph.agent.knobs import Change, Choice, Scalar, changes
from ralph.agent.proposers.interface import Context, Proposal, Trial, describe

Switch = tuple[str, Scalar]
"""A knob's name and the choice that it is switched to."""

COMBINED = 3
"""Most switches at once."""
ATTEMPTS = 64
"""Random combinations looked at before giving up."""


class Grammar:
    """Implements ``Proposer`` over the knobs that have choices."""

    name = "grammar"

    def propose(self, context: Context) -> Proposal | None:
        """Return the first edit of the productions that was not tried."""
        knobs = {knob.name: knob for knob in context.knobs if isinstance(knob, Choice)}
        for switches in self._productions(context, knobs):
            tree = context.novel(dict(switches))
            if tree is not None:
                edits = tuple(Change(name=name, before=knobs[name].value, after=value) for name, value in switches)
                mechanism = "a declared choice: " + "; ".join(describe(edits, context.knobs))
                return Proposal(tree=tree, change="; ".join(str(edit) for edit in edits), mechanism=mechanism)
        return None

    def _productions(self, context: Context, knobs: dict[str, Choice]) -> Iterator[tuple[Switch, ...]]:
        generator = context.random()
        singles = _singles(context, knobs, generator)
        switched = {change.name for trial in context.trials if trial.reign == context.reign for change in trial.changes}
        kept = _ablations(context, knobs, generator)
        yield from ((switch,) for switch in singles if switch[0] not in switched and switch not in kept)
        yield from _apart(itertools.combinations(_near_misses(context, knobs), 2))
        yield from ((switch,) for switch in singles if switch not in kept)
        yield from ((switch,) for switch in kept)
        for _ in range(ATTEMPTS):
            count = min(generator.randint(2, COMBINED), len(singles))
            yield from _apart([tuple(generator.sample(singles, count))])


def _singles(context: Context, knobs: dict[str, Choice], generator: random.Random) -> list[Switch]:
    """Return every switch away from the head in random order, what was found better before first."""
    switches = [(knob.name, choice) for knob in knobs.values() for choice in knob.choices if choice != knob.value]
    generator.shuffle(switches)
    found: dict[Switch, int] = {}
    for trial in context.trials:
        if len(trial.changes) == 1 and trial.changes[0].name in knobs:
            found[trial.changes[0].name, trial.changes[0].after] = _worth(trial)
    return sorted(switches, key=lambda switch: -found.get(switch, 0))


def _worth(trial: Trial) -> int:
    """Return 1 for a gain, -1 for a loss or a crash, 0 within one standard error."""
    if trial.gain_bpb is None:
        return -1
    return 0 if abs(trial.gain_bpb) <= trial.standard_error_bpb else int(math.copysign(1, trial.gain_bpb))


def _near_misses(context: Context, knobs: dict[str, Choice]) -> list[Switch]:
    """Return single switches of this reign that looked better and were not kept, the best first."""
    found: dict[Switch, float] = {}
    for trial in context.trials:
        if trial.reign == context.reign and len(trial.changes) == 1 and not trial.kept and _worth(trial) > 0:
            change = trial.changes[0]
            if change.name in knobs and change.after in knobs[change.name].choices and change.after != knobs[change.name].value:
                found[change.name, change.after] = trial.gain_bpb or 0.0
    return sorted(found, key=lambda switch: -found[switch])


def _ablations(context: Context, knobs: dict[str, Choice], generator: random.Random) -> list[Switch]:
    """Return what the branch switched, back to the king's choice."""
    back = [(change.name, change.before) for change in changes(context.king, context.head) if change.name in knobs]
    return generator.sample(back, len(back))


def _apart(combinations: Iterator[tuple[Switch, ...]] | Sequence[tuple[Switch, ...]]) -> Iterator[tuple[Switch, ...]]:
    """Yield the combinations that do not set one knob twice."""
    for combination in combinations:
        if len({name for name, _ in combination}) == len(combination):
            yield combination
