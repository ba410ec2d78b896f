"""Which items are scored: fixed before anybody is scored, the same for every validator.

An item's id is its task, its number and the SHA-256 of its canonical form, so "item 17 of piqa" cannot be two different items on two
machines. A task's entry also binds its definition and a digest of all its items, because examples come from all of them.
The digest of a manifest names the whole exam; validators compare it before they compare numbers.

``first(n)`` takes the first n items of each task. Items keep their number, their examples and so their prompt. ``only`` takes some tasks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ralph.errors import ConfigurationError
from ralph.evaluate.core22.items import CODE, Item, item_digest
from ralph.evaluate.core22.prompts import ordered
from ralph.evaluate.core22.tasks import TASKS, Task
from ralph.protocol.canonical import digest

TAG = "recipe-net/core22/v1"
POOL_TAG = "recipe-net/core22/pool/v1"


class ItemSource(Protocol):
    """Items by task: a ``Bundle``, or private items."""

    @property
    def present(self) -> tuple[Task, ...]:
        """Return the tasks of which there are items."""
        ...

    @property
    def absent(self) -> tuple[str, ...]:
        """Return the labels of public tasks of which there are none."""
        ...

    def items(self, task: Task) -> tuple[Item, ...]:
        """Return all items of a task in a fixed order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemId:
    """The name of an item."""

    task: str
    index: int
    sha256: bytes

    def __str__(self) -> str:
        return f"{self.task}/{self.index}/{self.sha256.hex()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEntry:
    """One task of a manifest.

    Args:
        task: Its definition.
        pool: Number of its items in the bundle, from which examples are drawn.
        pool_digest: Digest over all of them in order.
        items: Digests of the items that are scored: the first of the pool.
    """

    task: Task
    pool: int
    pool_digest: bytes
    items: tuple[bytes, ...] = field(repr=False)

    def ids(self) -> Iterator[ItemId]:
        """Return the ids of the scored items in order."""
        return (ItemId(task=self.task.label, index=index, sha256=sha256) for index, sha256 in enumerate(self.items))

    def value(self) -> dict[str, Any]:
        """Return what the manifest's digest covers. Chance levels are no part of it: they change no answer."""
        task = self.task
        return {
            "label": task.label,
            "type": task.type.value,
            "shots": task.shots,
            "delimiter": task.delimiter,
            "pool": self.pool,
            "pool_digest": self.pool_digest,
            "items": len(self.items),
            "items_digest": digest(POOL_TAG, b"".join(self.items)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An exam.

    Args:
        entries: Its tasks in the order of ``TASKS``.
        absent: Labels of those of the 22 that it does not hold.
    """

    entries: tuple[TaskEntry, ...]
    absent: tuple[str, ...]

    def digest(self) -> bytes:
        """Return the digest that names this exam."""
        return digest(TAG, {"tasks": [entry.value() for entry in self.entries], "absent": list(self.absent)})

    def first(self, count: int) -> "Manifest":
        """Return the exam of the first ``count`` items of each task, or all of a task that has fewer."""
        if count < 1:
            raise ConfigurationError(f"{count} items of each task are no exam")
        return Manifest(entries=tuple(replace(entry, items=entry.items[:count]) for entry in self.entries), absent=self.absent)

    def only(self, labels: Sequence[str]) -> "Manifest":
        """Return the exam of these tasks; raises ConfigurationError ``OPS-DATA`` where one of them is not held."""
        held = [entry.task.label for entry in self.entries]
        missing = [label for label in labels if label not in held]
        if missing:
            raise ConfigurationError(f"the bundle has no items of {', '.join(missing)}; it has {', '.join(held)}", code=CODE)
        left_out = {label for label in held if label not in labels} | set(self.absent)
        return Manifest(
            entries=tuple(entry for entry in self.entries if entry.task.label in labels),
            absent=tuple(task.label for task in TASKS if task.label in left_out),
        )


def shuffled(bundle: ItemSource, task: Task) -> tuple[Item, ...]:
    """Return all items of a task in the order of their numbers."""
    items = bundle.items(task)
    return tuple(items[place] for place in ordered(len(items)))


def build(bundle: ItemSource) -> Manifest:
    """Return the exam of everything that a bundle holds, reading one task at a time."""
    return Manifest(entries=tuple(_entry(task, shuffled(bundle, task)) for task in bundle.present), absent=bundle.absent)


def load(bundle: ItemSource, entry: TaskEntry) -> tuple[Item, ...]:
    """Return all items of a manifest's task, shuffled: the scored ones come first.

    Raises:
        ConfigurationError: ``OPS-DATA``, the bundle does not hold the items that the manifest names.
    """
    if entry.task not in bundle.present:
        raise ConfigurationError(f"the bundle has no {entry.task.file}, which the manifest names", code=CODE)
    items = shuffled(bundle, entry.task)
    found = _entry(entry.task, items)
    if found.pool_digest != entry.pool_digest or found.items[: len(entry.items)] != entry.items:
        detail = f"{entry.task.file} holds {found.pool} items with digest {found.pool_digest.hex()}, not the manifest's {entry.pool}"
        raise ConfigurationError(detail, code=CODE)
    return items


def _entry(task: Task, items: tuple[Item, ...]) -> TaskEntry:
    digests = tuple(item_digest(item) for item in items)
    return TaskEntry(task=task, pool=len(items), pool_digest=digest(POOL_TAG, b"".join(digests)), items=digests)
