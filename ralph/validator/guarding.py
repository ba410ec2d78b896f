"""Guards on this validator's own documents and on items of tasks.

What every proof run scored on each document and answered to each item stays here; what follows for a source or a task goes out, rounded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ralph.data.dataset import Rows
from ralph.errors import ConfigurationError
from ralph.evaluate.cells import Floats
from ralph.evaluate.core22.examining import Examined, Graded, Kept
from ralph.evaluate.estimator import LN2
from ralph.interfaces import BundleStore
from ralph.judge.guards import Part, guard
from ralph.judge.plan import Need
from ralph.protocol.canonical import decode, encode
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import GuardRow
from ralph.protocol.rules import Rules
from ralph.protocol.seeds import draw
from ralph.records.events import EventTable

KIND, KING = "proof-run", "king-answers"
MAX_RUN_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """What is kept of one scored proof run."""

    documents: Floats
    tasks: Mapping[str, Graded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarding:
    """The losses of proof runs on single documents and their answers to single items, kept in the event table and the private store.

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

    def keep(self, need: Need, document_nats: Floats, examined: Sequence[Examined]) -> None:
        """Remember what a proof run, the king's or a challenger's, lost on each document (float64[N] in nats) and answered to each item."""
        if need.stage != "proof" or self.events.get(KIND, need.key) is not None:
            return
        for one in examined if need.role == "king" else ():
            key = f"{need.tree.hex()}/{one.examination.name}"
            if self.events.get(KING, key) is None:
                kept = {label: [answers.losses, answers.hits] for label, answers in one.kept.items()}
                self.events.append(KING, key, self.private.put(encode(kept)))
        tasks = {part.name: _plain(part) for one in examined for part in one.parts}
        run = {"documents": np.ascontiguousarray(document_nats, "<f8").tobytes(), "tasks": tasks}
        self.events.append(KIND, need.key, self.private.put(encode(run)))

    def king_answers(self, names: Sequence[str]) -> dict[str, dict[str, Kept]]:
        """Return the king's answers to these examinations, by task; an examination that he has not sat is left out."""
        found: dict[str, dict[str, Kept]] = {}
        for name in names:
            digest = self.events.get(KING, f"{self.throne.king.tree.hex()}/{name}")
            if digest is not None:
                plain = decode(self.private.get(digest, limit=MAX_RUN_BYTES), limit=MAX_RUN_BYTES)
                found[name] = {label: Kept(losses=losses, hits=hits) for label, (losses, hits) in plain.items()}
        return found

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
        return tuple(self._rounded(guard(part, self.rules.guards, key=key)) for part in self._parts(known))

    def _pair(self, tree: bytes, seed: int) -> tuple[_Run, _Run] | None:
        """Return challenger and king on one seed, or None where one of them has no score."""
        challenger = self._known(Need(role="challenger", stage="proof", tree=tree, seed=seed, executed=True))
        king = self._known(Need(role="king", stage="proof", tree=self.throne.king.tree, seed=seed, executed=True))
        return None if challenger is None or king is None else (challenger, king)

    def _known(self, need: Need) -> _Run | None:
        digest = self.events.get(KIND, need.key)
        if digest is None:
            return None
        plain = decode(self.private.get(digest, limit=MAX_RUN_BYTES), limit=MAX_RUN_BYTES)
        tasks = {name: _graded(name, part) for name, part in plain["tasks"].items()}
        return _Run(documents=np.frombuffer(plain["documents"], "<f8"), tasks=tasks)

    def _parts(self, pairs: Sequence[tuple[_Run, _Run]]) -> Iterator[Part]:
        """Return what the Rules guard, in their order."""
        sources, weight = np.array(self.hidden.sources), LN2 * self.hidden.byte_counts
        for kind, name in self.rules.guards.parts:
            if kind == "source":
                here = sources == name
                worse = [(challenger.documents - king.documents)[here] for challenger, king in pairs]
                yield Part(kind=kind, name=name, difference=np.stack(worse), weight=weight[here])
                continue
            both = [(challenger.tasks[name], king.tasks[name]) for challenger, king in pairs]
            if kind == "answers":
                lost = [king.correct.astype(np.float64) - challenger.correct for challenger, king in both]
                yield Part(kind=kind, name=name, difference=np.stack(lost), weight=np.ones(lost[0].size))
            else:
                worse = [challenger.gold_nats - king.gold_nats for challenger, king in both]
                units: Floats = LN2 * both[0][1].gold_bytes.astype(np.float64)
                yield Part(kind=kind, name=name, difference=np.stack(worse), weight=units)

    def _rounded(self, row: GuardRow) -> GuardRow:
        """Leave out the digits that nobody needs: a worker may choose them."""
        decimals = (self.rules.evaluation if row.kind == "source" else self.rules.exam).published_decimals
        return row.model_copy(update={"difference": round(row.difference, decimals), "upper": round(row.upper, decimals)})


def _plain(part: Graded) -> list[bytes]:
    return [part.correct.tobytes(), part.gold_nats.astype("<f8").tobytes(), part.gold_bytes.astype("<i8").tobytes()]


def _graded(name: str, plain: Sequence[bytes]) -> Graded:
    correct, nats, sizes = plain
    return Graded(
        name=name,
        correct=np.frombuffer(correct, np.bool_),
        gold_nats=np.frombuffer(nats, "<f8"),
        gold_bytes=np.frombuffer(sizes, "<i8"),
    )
