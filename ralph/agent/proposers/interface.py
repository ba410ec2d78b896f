"""What a proposer is: a pure function from what is known to one edit.

A proposer sees the branch head and every earlier trial and returns a tree with a sentence about it. It keeps no state, so a
controller that was killed gets the same proposal again from the same ledger.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from ralph.agent.knobs import Change, Knob, Scalar, edit
from ralph.protocol.patch import RecipeTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One finished experiment as a proposer sees it."""

    reign: int
    changes: tuple[Change, ...]
    """Knobs that differ between the head of that time and the tree that was tried."""
    gain_bpb: float | None
    """Measured against the head of that time; None for a crash."""
    standard_error_bpb: float
    kept: bool

    @property
    def inert(self) -> bool:
        """Return whether the trained model came out identical: the edit touches nothing that is in use."""
        return self.gain_bpb == 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything that a proposer may look at."""

    head: RecipeTree = field(repr=False)
    king: RecipeTree = field(repr=False)
    knobs: tuple[Knob, ...]
    """Knobs of the head."""
    trials: tuple[Trial, ...]
    """In the order they were made, those of earlier reigns too."""
    tried: frozenset[bytes] = field(repr=False)
    """Digests of the trees that ran in this reign."""
    reign: int
    noise_bpb: float
    """Standard error of a gain that was measured on one pair of runs."""
    seed: int
    """All chance comes from here; it differs between experiments."""

    def random(self) -> random.Random:
        """Return the generator of this proposal."""
        return random.Random(self.seed)

    def novel(self, values: dict[str, Scalar]) -> RecipeTree | None:
        """Return the head with these knob values if it can be made and has not run in this reign."""
        tree = edit(self.head, values)
        return tree if tree is not None and tree.digest() not in self.tried else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An edit to try."""

    tree: RecipeTree = field(repr=False)
    change: str
    """What is changed."""
    mechanism: str
    """Why it might help, before anything is measured."""


class Proposer(Protocol):
    """Where edits come from."""

    name: str

    def propose(self, context: Context) -> Proposal | None:
        """Return the next edit to try, or None when there is nothing left that was not tried."""
        ...


def describe(changes: tuple[Change, ...] | list[Change], knobs: tuple[Knob, ...]) -> Iterator[str]:
    """Yield one sentence for each changed knob: what it is, in the words of the recipe."""
    about = {knob.name: knob.about for knob in knobs}
    for change in changes:
        yield f"{change} ({about.get(change.name) or 'no comment'})"
