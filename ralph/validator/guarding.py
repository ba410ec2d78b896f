"""Guards on this validator's own documents: what every proof run scored on each of them stays here, what follows for a source goes out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ralph.data.dataset import Rows
from ralph.errors import ConfigurationError
from ralph.evaluate.cells import Floats
from ralph.evaluate.estimator import LN2
from ralph.interfaces import BundleStore
from ralph.judge.guards import Part, guard
from ralph.judge.plan import Need
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import GuardRow
from ralph.protocol.rules import Rules
from ralph.protocol.seeds import draw
from ralph.records.events import EventTable

KIND = "documents"
MAX_DOCUMENT_BYTES = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarding:
    """The losses of proof runs on single documents, kept in the event table and the private store.

    Raises:
        ConfigurationError: OPS-DATA, too few documents of a guarded source.
    """

    rules: Rules
    events: EventTable
    private: BundleStore
    hidden: Rows
    throne: Throne

    def __post_init__(self) -> None:
        for name in self.rules.guards.sources:
            count = self.hidden.sources.count(name)
            if count < self.rules.guards.min_documents:
                detail = (
                    f"the hidden pool scores {count} documents of source {name!r}, the guard of it needs {self.rules.guards.min_documents}"
                )
                raise ConfigurationError(detail, code="OPS-DATA")

    def keep(self, need: Need, document_nats: Floats) -> None:
        """Remember what a proof run, the king's or a challenger's, lost on each document: float64[N] in nats.

        A repeat of the king's stands in for a proof run that failed on the same seed.
        """
        if need.role == "king" and need.stage == "repeat":
            need = replace(need, stage="proof")
        if need.stage == "proof" and self.events.get(KIND, need.key) is None:
            self.events.append(KIND, need.key, self.private.put(np.ascontiguousarray(document_nats, "<f8").tobytes()))

    def rows(self, need: Need, wanted: Sequence[Need], *, beacon_two: bytes) -> tuple[GuardRow, ...]:
        """Return the guards of a contest after its last proof run of a round, and nothing after any other run.

        Args:
            need: The run that was just measured.
            wanted: All runs of the round.
            beacon_two: Fixes the resamples.
        """
        now = [one for one in wanted if one.role == "challenger" and one.stage == "proof" and one.tree == need.tree]
        if not now or need != now[-1]:
            return ()
        before = [run.seed for contest in self.throne.contests if contest.tree == need.tree for run in contest.runs]
        pairs = [self._pair(need.tree, seed) for seed in (*before, *(one.seed for one in now))]
        known = [pair for pair in pairs if pair is not None]
        if len(known) < len(pairs):
            return ()  # a run failed, which ends the contest by itself
        key = draw(beacon=beacon_two, purpose="guards", subject=need.subject())
        return tuple(guard(part, self.rules.guards, key=key) for part in self._parts(np.stack(known)))

    def _pair(self, tree: bytes, seed: int) -> Floats | None:
        """Return challenger less king on every document, or None where one of them has no score."""
        challenger = self._known(Need(role="challenger", stage="proof", tree=tree, seed=seed, executed=True))
        king = self._known(Need(role="king", stage="proof", tree=self.throne.king.tree, seed=seed, executed=True))
        return None if challenger is None or king is None else challenger - king

    def _known(self, need: Need) -> Floats | None:
        digest = self.events.get(KIND, need.key)
        return None if digest is None else np.frombuffer(self.private.get(digest, limit=MAX_DOCUMENT_BYTES), "<f8")

    def _parts(self, difference: Floats) -> list[Part]:
        """Return one part for each guarded source."""
        sources, weight = np.array(self.hidden.sources), LN2 * self.hidden.byte_counts
        return [
            Part(name=name, difference=difference[:, sources == name], weight=weight[sources == name]) for name in self.rules.guards.sources
        ]
