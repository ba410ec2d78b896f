"""Which options of frozen answers are probed: a secret draw in which no probe gives away what another asks.

One option of an item at most, all of its scored tokens, and no item that is an example in the prompt of another drawn one. Items are told
apart by their digest, so the rule holds across tasks that share a data file. A whole option, because a lie in one token of it
moves its mean as well as a lie in all of them; one option, because the continuations of a schema item are the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ralph.errors import ConfigurationError
from ralph.evaluate.cells import Floats, Integers
from ralph.evaluate.core22.exam import Answers
from ralph.evaluate.core22.items import Item, item_digest
from ralph.evaluate.core22.prompts import shots
from ralph.evaluate.core22.results import right
from ralph.evaluate.draw import words
from ralph.protocol.canonical import digest

DRAW_TAG = "recipe-net/core22/draw/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRules:
    """How much is probed.

    Args:
        uniform: Options per task with the same chance for every item.
        weighted: Options per task where the answers gain most on the reference; without one they are uniform too.
        tau_nats: Largest difference between claim and probe that is no exceedance.
    """

    uniform: int
    weighted: int
    tau_nats: float

    def __post_init__(self) -> None:
        if self.uniform < 1 or self.weighted < 0 or not self.tau_nats > 0:
            raise ConfigurationError(f"{self.uniform} uniform and {self.weighted} weighted probes per task at {self.tau_nats} nats")

    @property
    def margin_nats(self) -> float:
        """Return by how much an answer must be ahead to count: of two numbers each may be off by the tolerance."""
        return 2 * self.tau_nats


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One option of an item.

    Args:
        item: Number of the item.
        option: Which of the item's options.
        row: Its number among all options of the task.
    """

    item: int
    option: int
    row: int


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
    """Draw the options of one task.

    Args:
        answers: Frozen.
        items: All items of the task, shuffled.
        key: 32 secret bytes, made after the answers were frozen.
        rules: How many.
        reference: The king's answers to the same items, or None.
        barred: What the auditing worker will have seen; what is drawn here is added.
    """
    bound = digest(DRAW_TAG, {"key": key, "answers": answers.digest()})
    owner = answers.owner()
    fair = 1.0 / np.bincount(owner)[owner]
    orders = [(_race(fair, words(bound, "uniform", owner.size)), rules.uniform + (rules.weighted if reference is None else 0))]
    if reference is not None:
        orders.append((_race(advantage(answers, reference), words(bound, "weighted", owner.size)), rules.weighted))
    # no distribution has a negative loss: whatever is given away by asking, such a claim is false
    impossible = np.unique(answers.cells.row(np.flatnonzero(answers.losses < -rules.tau_nats)))
    rows: list[int] = impossible[: rules.uniform].tolist()
    for order, most in orders:
        rows += _admitted(order, owner, answers, items, barred, most)
    first = answers.options[owner]
    return tuple(Place(item=int(owner[row]), option=int(row - first[row]), row=row) for row in dict.fromkeys(rows))


def advantage(answers: Answers, reference: Answers) -> Floats:
    """Return how much each option moves its item towards "right" against a reference: float64[O], never below 0.

    A right option gains by lower losses and a wrong one by higher, as a part of its mean, and a token that has become the largest
    logit counts 1. What gains in an item that is right by the answers and not by the reference counts 1 besides: who lies about many
    items lies about each as little as it takes.
    """
    lengths, row = answers.cells.lengths, answers.cells.row(np.arange(answers.cells.count))
    sign = np.where(np.isin(row, answers.gold), 1.0, -1.0)
    by_token: Floats = np.maximum(sign * (reference.losses - answers.losses), 0.0) / lengths[row]
    if answers.hits is not None and reference.hits is not None:
        by_token = by_token + (answers.hits & ~reference.hits)
    gained: Floats = np.add.reduceat(by_token, answers.cells.offsets[:-1])
    turned = (right(answers) & ~right(reference))[answers.owner()]
    return gained + ((gained > 0) & turned)


def _race(weights: Floats, stream: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> Integers:
    """Return the options of positive weight in a random order in which each next one is drawn in proportion to its weight.

    Exponential waiting times, the shortest first (Efraimidis and Spirakis 2006).
    """
    unit = ((stream >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    possible = np.flatnonzero(weights > 0)
    waiting = -np.log(unit[possible]) / weights[possible]
    order: Integers = possible[np.argsort(waiting, kind="stable")].astype(np.int64)
    return order


def _admitted(order: Iterable[int], owner: Integers, answers: Answers, items: Sequence[Item], barred: Barred, most: int) -> list[int]:
    """Return the first options of an order that may be probed beside all others, at most ``most``."""
    taken: list[int] = []
    looked_at: set[int] = set()
    for row in order:
        item = int(owner[row])
        if len(taken) == most:
            break
        if item not in looked_at:
            looked_at.add(item)
            examples = frozenset(item_digest(items[other]) for other in shots(item, len(items), answers.entry.task.shots))
            if barred.admit(answers.entry.items[item], examples):
                taken.append(int(row))
    return taken
