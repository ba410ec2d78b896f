"""Which tokens of frozen answers are probed: a secret draw in which no probe gives away what another asks.

One token of an item at most, and no item that is an example in the prompt of another drawn one. Items are told apart by their digest,
so the rule holds across tasks that share a data file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ralph.errors import ConfigurationError
from ralph.evaluate.cells import Floats, Integers
from ralph.evaluate.core22.exam import Answers
from ralph.evaluate.core22.items import Item, item_digest
from ralph.evaluate.core22.prompts import shots
from ralph.evaluate.draw import words
from ralph.protocol.canonical import digest

DRAW_TAG = "recipe-net/core22/draw/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRules:
    """How much is probed.

    Args:
        uniform: Probes per task with the same chance for every item.
        weighted: Probes per task where the answers gain most on the reference; none without one.
        tau_nats: Largest difference between claim and probe that is no exceedance.
    """

    uniform: int
    weighted: int
    tau_nats: float

    def __post_init__(self) -> None:
        if self.uniform < 1 or self.weighted < 0 or not self.tau_nats > 0:
            raise ConfigurationError(f"{self.uniform} uniform and {self.weighted} weighted probes per task at {self.tau_nats} nats")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One scored token of a task.

    Args:
        item: Number of the item.
        option: Which of the item's options.
        token: Which of the option's scored tokens.
        cell: Its number among all cells of the task.
    """

    item: int
    option: int
    token: int
    cell: int


@dataclass(slots=True, kw_only=True)
class Barred:
    """Digests of the items that the auditing worker is asked about, and of those that it is shown as examples, over all tasks."""

    asked: set[bytes] = field(default_factory=set)
    shown: set[bytes] = field(default_factory=set)

    def admit(self, item: bytes, examples: frozenset[bytes]) -> bool:
        """Take an item up unless it or its prompt would give something away; return whether it was."""
        if item in self.asked or item in self.shown or examples & self.asked:
            return False
        self.asked.add(item)
        self.shown |= examples
        return True


def draw(
    answers: Answers, items: Sequence[Item], *, key: bytes, rules: AuditRules, reference: Answers | None, barred: Barred
) -> tuple[Place, ...]:
    """Draw the tokens of one task.

    Args:
        answers: Frozen.
        items: All items of the task, shuffled.
        key: 32 secret bytes, made after the answers were frozen.
        rules: How many.
        reference: The king's answers to the same items, or None.
        barred: What the auditing worker will have seen; what is drawn here is added.
    """
    bound = digest(DRAW_TAG, {"key": key, "answers": answers.digest()})
    options = answers.cells.row(np.arange(answers.cells.count))
    owner = np.searchsorted(answers.options, options, side="right").astype(np.int64) - 1
    fair = 1.0 / np.bincount(owner, minlength=len(answers.entry.items))[owner]
    orders = [(_race(fair, words(bound, "uniform", owner.size)), rules.uniform)]
    if reference is not None:
        orders.append((_race(advantage(answers, reference), words(bound, "weighted", owner.size)), rules.weighted))
    # no distribution has a negative loss: whatever is given away by asking, such a claim is false
    cells: list[int] = np.flatnonzero(answers.losses < -rules.tau_nats)[: rules.uniform].tolist()
    for order, most in orders:
        cells += _admitted(order, owner, answers, items, barred, most)
    first = answers.options[owner]
    return tuple(
        Place(
            item=int(owner[cell]),
            option=int(options[cell] - first[cell]),
            token=int(cell - answers.cells.offsets[options[cell]]),
            cell=cell,
        )
        for cell in cells
    )


def advantage(answers: Answers, reference: Answers) -> Floats:
    """Return how much each token moves its item towards "right" against a reference: float64[C], never below 0.

    A right option gains by a lower loss and a wrong one by a higher, each as a share of its mean; a token that has become the
    largest logit counts 1 besides.
    """
    row = answers.cells.row(np.arange(answers.cells.count))
    sign = np.where(np.isin(row, answers.gold), 1.0, -1.0)
    gained: Floats = np.maximum(sign * (reference.losses - answers.losses), 0.0) / answers.cells.lengths[row]
    if answers.hits is not None and reference.hits is not None:
        gained = gained + (answers.hits & ~reference.hits)
    return gained


def _race(weights: Floats, stream: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> Integers:
    """Return the cells of positive weight in a random order in which each next one is drawn in proportion to its weight.

    Exponential waiting times, the shortest first (Efraimidis and Spirakis 2006).
    """
    unit = ((stream >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    possible = np.flatnonzero(weights > 0)
    waiting = -np.log(unit[possible]) / weights[possible]
    order: Integers = possible[np.argsort(waiting, kind="stable")].astype(np.int64)
    return order


def _admitted(order: Iterable[int], owner: Integers, answers: Answers, items: Sequence[Item], barred: Barred, most: int) -> list[int]:
    """Return the first cells of an order that may be probed beside all others, at most ``most``."""
    taken: list[int] = []
    looked_at: set[int] = set()
    for cell in order:
        item = int(owner[cell])
        if len(taken) == most:
            break
        if item not in looked_at:
            looked_at.add(item)
            examples = frozenset(item_digest(items[other]) for other in shots(item, len(items), answers.entry.task.shots))
            if barred.admit(answers.entry.items[item], examples):
                taken.append(int(cell))
    return taken
