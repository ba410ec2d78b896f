"""Guards on this validator's own documents and on items of tasks.

What every proof run scored on each document and answered to each item stays here; what follows for a source or a task goes out, rounded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ralph.data.dataset import Rows
from ralph.errors import ConfigurationError, StoreUnavailable
from ralph.evaluate.cells import Floats
from ralph.evaluate.core22.examining import Graded
from ralph.evaluate.estimator import LN2
from ralph.interfaces import BundleStore
from ralph.judge.agreement import document_error
from ralph.judge.guards import Part, guard
from ralph.judge.plan import Need, exam_of
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import GuardRow
from ralph.protocol.pool import Subset
from ralph.protocol.rules import Rules
from ralph.protocol.seeds import draw
from ralph.validator.answers import Answers

FOLDER = "documents"
MAX_DOCUMENT_BYTES = 1 << 20
"""What the store takes under one name: losses of 131,072 documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLosses:
    """What every scored run lost on each document, in the private store until the documents are opened."""

    private: BundleStore

    def keep(self, need: Need, weights: bytes | None, document_nats: Floats) -> None:
        """Remember float64[N] in nats, under the run and under its weights.

        A run that is made again on the same documents may give other weights: under the run the first losses stay.
        """
        data = np.ascontiguousarray(document_nats, "<f8").tobytes()
        self.private.put_named(_name(need.exam, weights), data)
        if self.find(need.exam) is None:
            self.private.put_named(_name(need.exam, None), data)

    def find(self, exam: str, weights: bytes | None = None) -> Floats | None:
        """Return what a run lost on each document, that with some weights or the first; None where it has no score."""
        try:
            return np.frombuffer(self.private.get_named(_name(exam, weights), limit=MAX_DOCUMENT_BYTES), "<f8")
        except StoreUnavailable:
            return None


def _name(exam: str, weights: bytes | None) -> str:
    return f"{FOLDER}/{exam}" if weights is None else f"{FOLDER}/{exam}/{weights.hex()[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pair:
    """Challenger and king on one seed."""

    difference: Floats
    """float64[N]: challenger less king on each document, in nats."""
    challenger: Mapping[str, Graded]
    king: Mapping[str, Graded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarding:
    """Bounds on each guarded source and task over a contest's proof runs, all on the documents of one rotation.

    Raises:
        ConfigurationError: OPS-DATA, too few documents of a guarded source.
    """

    rules: Rules
    losses: DocumentLosses
    answers: Answers
    hidden: Rows
    """Of shard ``confirm`` in this rotation."""
    subset: Subset
    throne: Throne

    def __post_init__(self) -> None:
        for name in self.rules.guards.sources:
            count = self.hidden.sources.count(name)
            if count < self.rules.guards.min_documents:
                detail = (
                    f"the hidden pool scores {count} documents of source {name!r}, the guard of it needs {self.rules.guards.min_documents}"
                )
                raise ConfigurationError(detail, code="OPS-DATA")

    def rows(self, need: Need, wanted: Sequence[Need], *, beacon_two: bytes) -> tuple[GuardRow, ...]:
        """Return the guards of a contest after its last proof run of a round, and nothing after any other run.

        Args:
            need: The run that was just measured.
            wanted: All runs of the round.
            beacon_two: Fixes the resamples.
        """
        now = _proof_runs(need, wanted)
        if not now or need != now[-1]:
            return ()
        before = [run.seed for contest in self.throne.contests if contest.tree == need.tree for run in contest.runs]
        pairs = [self._pair(need.tree, seed) for seed in (*before, *(one.seed for one in now))]
        known = [pair for pair in pairs if pair is not None]
        if len(known) < len(pairs):
            return ()  # a run failed, which ends the contest by itself
        key = draw(beacon=beacon_two, purpose="guards", subject=need.subject())
        return tuple(self._rounded(guard(part, self.rules.guards, key=key)) for part in self._parts(known))

    def document_error(self, need: Need, wanted: Sequence[Need]) -> float | None:
        """Return the standard error over documents of this round's proof runs of a contest after the last of them, None after others."""
        now = _proof_runs(need, wanted)
        known = [pair for one in now if (pair := self._pair(need.tree, one.seed)) is not None]
        if not now or need != now[-1] or len(known) < len(now):
            return None
        weight = (LN2 * self.hidden.byte_counts).astype(np.float64)
        error = document_error(np.stack([pair.difference for pair in known]), weight)
        return round(error, self.rules.evaluation.published_decimals)

    def _pair(self, tree: bytes, seed: int) -> _Pair | None:
        """Return what is known of one seed, or None where challenger or king has no score."""
        king = self.throne.king.tree
        ours, his = (self.losses.find(exam_of(self.subset, one, seed)) for one in (tree, king))
        answers, his_answers = self.answers.find(tree, seed), self.answers.find(king, seed)
        if ours is None or his is None or answers is None or his_answers is None:
            return None
        return _Pair(difference=ours - his, challenger=answers, king=his_answers)

    def _parts(self, pairs: Sequence[_Pair]) -> Iterator[Part]:
        """Return what the Rules guard, in their order."""
        sources, weight = np.array(self.hidden.sources), LN2 * self.hidden.byte_counts
        for kind, name in self.rules.guards.parts:
            if kind == "source":
                here = sources == name
                yield Part(kind=kind, name=name, difference=np.stack([pair.difference[here] for pair in pairs]), weight=weight[here])
                continue
            both = [(pair.challenger[name], pair.king[name]) for pair in pairs]
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


def _proof_runs(need: Need, wanted: Sequence[Need]) -> list[Need]:
    """Return the proof runs of a need's tree in this round."""
    return [one for one in wanted if one.role == "challenger" and one.stage == "proof" and one.tree == need.tree]
