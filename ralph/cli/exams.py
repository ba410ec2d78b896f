"""What a development network guards beside text: read before anything is made, so that a mistake costs nothing."""

from dataclasses import dataclass, field
from pathlib import Path

from ralph.data.poolkey import PoolKey, key_beside
from ralph.errors import ConfigurationError
from ralph.evaluate.core22.bundle import open_bundle
from ralph.evaluate.core22.guarded import auditable, guard_of
from ralph.evaluate.core22.manifest import Manifest, build
from ralph.evaluate.core22.private import ASKED_SHARD, PrivateItem, read_items
from ralph.evaluate.core22.sealing import seal
from ralph.protocol.rules import Rules
from ralph.protocol.scoring_rules import PrivateGuard, TaskGuard

PRIVATE_ACTIVE = 50
"""Private items that are asked in a rotation, where there are as many."""
CORE_ITEMS = 100
"""Of each guarded task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exams:
    """What is asked for."""

    core: Path | None = None
    """Bundle of CORE-22: all of its tasks that have enough items to be audited."""
    core_items: int = CORE_ITEMS
    private: tuple[Path, ...] = ()
    """Files of private items."""

    def read(self) -> "ReadExams":
        """Read and check what is named. Raises ConfigurationError."""
        manifest = None if self.core is None else build(open_bundle(self.core))
        return ReadExams(exams=self, manifest=manifest, items=read_items(self.private))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadExams:
    """What was asked for, read."""

    exams: Exams
    manifest: Manifest | None
    items: tuple[PrivateItem, ...] = field(repr=False)

    def guarded(self, rules: Rules, *, place: Path, secret: bytes) -> Rules:
        """Return Rules that guard it.

        Args:
            rules: The others.
            place: Where private items are sealed.
            secret: Their key, so that a network can be repeated.

        Raises:
            ConfigurationError: Too few items.
        """
        tasks = None if self.manifest is None else self._tasks(self.manifest, rules)
        private = self._private(place, secret) if self.items else None
        return rules.model_copy(update={"guards": rules.guards.model_copy(update={"tasks": tasks, "private_items": private})})

    def _tasks(self, manifest: Manifest, rules: Rules) -> TaskGuard:
        count = self.exams.core_items
        tasks = auditable(manifest.first(count), rules.exam)
        if not tasks:
            detail = (
                f"no task has enough items to be audited: {rules.exam.uniform_options} are probed of each, and --core-items asks {count}"
            )
            raise ConfigurationError(detail)
        return guard_of(manifest, tasks=tasks, items=count)

    def _private(self, place: Path, secret: bytes) -> PrivateGuard:
        key = key_beside(place)
        commitment = seal(place, self.items, key=PoolKey.load(key) if key.exists() else PoolKey.create(key, secret=secret))
        active = min(PRIVATE_ACTIVE, commitment.shard(ASKED_SHARD).documents)
        if not active:
            raise ConfigurationError(f"{len(self.items)} private items are too few: none of them is in the shard that is asked")
        return PrivateGuard(commitment=commitment.digest(), items=active)
