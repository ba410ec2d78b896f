"""What a change of documents asks for: which kept runs are scored again, what they replace, and what may be compared.

Hidden documents differ by more than any gain, so numbers are compared on one subset only. When a rotation begins, every
stored run that is still to be compared is scored again first: the king's pool, and the pairs of running contests. After a
crown, and at each rotation, some runs of the king and of the king before him, on equal seeds, are also scored on shard
``audit``, which decides nothing; what the crown has sealed is scored for the king alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ralph.errors import CorruptStateError
from ralph.protocol.lineage import Contest, KingRun, PairedRun, Throne
from ralph.protocol.measurement import Measurement, Role, Stage
from ralph.protocol.pool import SHARDS, Subset
from ralph.protocol.record import Record, WatchRow
from ralph.protocol.rounds import begins_rotation, rotation_of
from ralph.protocol.rules import HiddenRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A run whose weights were kept, to be scored on a subset."""

    role: Role
    tree: bytes
    seed: int
    weights: bytes
    subset: Subset

    @property
    def key(self) -> tuple[bytes, int, Subset]:
        """Return what names the score."""
        return self.tree, self.seed, self.subset


def stage_subset(stage: Stage, rotation: int) -> Subset:
    """Return the documents that runs of a stage are scored on. A re-scored run has no documents of its own."""
    if stage == "rescore":
        raise ValueError("which documents a kept run is scored on again is not a matter of its stage")
    return Subset(shard="screen" if stage in ("screen", "filter") else "confirm", rotation=rotation)


def kept_runs(throne: Throne, rules: HiddenRules, round_index: int) -> tuple[Kept, ...]:
    """Return the kept runs that a round scores again: kings first, each once."""
    rotation = rotation_of(rules, round_index)
    found: list[Kept] = []
    if rotation != throne.rotation:
        found += [_of_king(throne, run, Subset(shard="confirm", rotation=rotation)) for run in throne.pool]
        found += [_of_previous(throne, run, Subset(shard="confirm", rotation=rotation)) for run in throne.previous]
        found += [_beside(throne, contest, run, rotation) for contest in throne.contests for run in contest.runs]
    crowned = len(throne.lineage) > 1 and throne.king.crowned_round == round_index - 1
    if throne.previous and (crowned or rotation != throne.rotation):
        audit = Subset(shard="audit", rotation=rotation)
        found += [_of_king(throne, run, audit) for run in throne.pool[: len(throne.previous)]]
        found += [_of_previous(throne, run, audit) for run in throne.previous]
    if crowned and throne.sealed_documents:
        sealed = Subset(shard="confirm", rotation=rotation_of(rules, round_index - 1), crown=round_index - 1)
        found += [_of_king(throne, run, sealed) for run in throne.pool[: rules.watched_runs]]
    if rotation != throne.rotation:
        found += [_of_challenger(contest, run, rotation) for contest in throne.contests for run in contest.runs]
    return tuple({one.key: one for one in found}.values())


def _of_king(throne: Throne, run: KingRun, subset: Subset) -> Kept:
    return Kept(role="king", tree=throne.king.tree, seed=run.seed, weights=run.weights, subset=subset)


def _of_previous(throne: Throne, run: KingRun, subset: Subset) -> Kept:
    return Kept(role="king", tree=throne.lineage[-2].tree, seed=run.seed, weights=run.weights, subset=subset)


def _beside(throne: Throne, contest: Contest, run: PairedRun, rotation: int) -> Kept:
    subset = stage_subset(contest.stage, rotation)
    return Kept(role="king", tree=throne.king.tree, seed=run.seed, weights=run.king_weights, subset=subset)


def _of_challenger(contest: Contest, run: PairedRun, rotation: int) -> Kept:
    subset = stage_subset(contest.stage, rotation)
    return Kept(role="challenger", tree=contest.tree, seed=run.seed, weights=run.challenger_weights, subset=subset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """The scores of kept runs in one round. None is a challenger that failed."""

    values: Mapping[tuple[bytes, int, Subset], float | None] = field(default_factory=dict)

    @staticmethod
    def of(measurements: Sequence[Measurement], wanted: Sequence[Kept]) -> "Rescored":
        """Collect the re-scored runs, which must be exactly the wanted ones with the weights that were kept.

        Raises:
            CorruptStateError: OPS-HOLD, one is missing, was not asked for, has other weights, or the king has no score.
        """
        known = {one.key: one for one in wanted}
        values: dict[tuple[bytes, int, Subset], float | None] = {}
        for item in measurements:
            if item.stage != "rescore":
                continue
            kept = known.get((item.tree, item.seed, item.subset))
            if kept is None or item.role != kept.role or item.executed or kept.key in values:
                raise _held(f"run {item.seed:016x} was scored again on {item.subset.key} without being due")
            if item.score is None and item.role == "king":
                raise _held(f"run {item.seed:016x} of a king has no score on {item.subset.key}")
            if item.score is not None and item.weights != kept.weights:
                raise _held(f"run {item.seed:016x} was scored again on {item.subset.key} with other weights than were kept")
            values[kept.key] = None if item.score is None else item.score.val_bpb
        missing = [one for one in wanted if one.key not in values]
        if missing:
            raise _held(f"{len(missing)} kept runs were not scored again, the first is {missing[0].seed:016x} on {missing[0].subset.key}")
        return Rescored(values=values)

    def _king(self, tree: bytes, run: KingRun, subset: Subset) -> KingRun:
        value = self.values[tree, run.seed, subset]
        if value is None:
            raise _held(f"run {run.seed:016x} of a king has no score on {subset.key}")
        return replace(run, val_bpb=value)

    def _pair(self, king: bytes, contest: Contest, run: PairedRun, subset: Subset) -> PairedRun | None:
        beside, own = self.values[king, run.seed, subset], self.values[contest.tree, run.seed, subset]
        return None if beside is None or own is None else replace(run, challenger=own, king=beside)

    def turned(self, throne: Throne, rotation: int) -> Throne:
        """Return the state with all its values on the documents of ``rotation``. A failed challenger keeps no run; its case ends."""
        if rotation == throne.rotation:
            return throne
        confirm = Subset(shard="confirm", rotation=rotation)
        contests = []
        for contest in throne.contests:
            subset = stage_subset(contest.stage, rotation)
            pairs = [self._pair(throne.king.tree, contest, run, subset) for run in contest.runs]
            contests.append(replace(contest, runs=tuple(pair for pair in pairs if pair is not None)))
        return replace(
            throne,
            rotation=rotation,
            pool=tuple(self._king(throne.king.tree, run, confirm) for run in throne.pool),
            previous=tuple(self._king(throne.lineage[-2].tree, run, confirm) for run in throne.previous),
            contests=tuple(contests),
        )

    def watch(self, throne: Throne) -> tuple[WatchRow, ...]:
        """Return the king beside the king before him on ``confirm`` and on ``audit``, or nothing where ``audit`` was not scored.

        Args:
            throne: With its values on the documents of the round's rotation.
        """
        audit = Subset(shard="audit", rotation=throne.rotation)
        if not any(subset == audit for _, _, subset in self.values):
            return ()
        king, previous = throne.pool[: len(throne.previous)], throne.previous
        own = [self._king(throne.king.tree, run, audit) for run in king]
        old = [self._king(throne.lineage[-2].tree, run, audit) for run in previous]
        confirm = Subset(shard="confirm", rotation=throne.rotation)
        return _watched(throne, confirm, king, previous), _watched(throne, audit, own, old)


def _watched(throne: Throne, subset: Subset, king: Sequence[KingRun], previous: Sequence[KingRun]) -> WatchRow:
    gains = [old.val_bpb - new.val_bpb for old, new in zip(previous, king, strict=True)]
    mean = math.fsum(gains) / len(gains)
    variance = math.fsum((one - mean) ** 2 for one in gains) / (len(gains) - 1) if len(gains) > 1 else 0.0
    return WatchRow(
        subset=subset,
        king=throne.king.tree,
        previous=throne.lineage[-2].tree,
        runs=len(gains),
        gain_bpb=mean,
        standard_error_bpb=math.sqrt(variance / len(gains)),
    )


def turn(throne: Throne, measurements: Sequence[Measurement], rules: HiddenRules, round_index: int) -> tuple[Throne, Rescored]:
    """Return the state before a round on the round's documents, and the scores of kept runs that put it there.

    Raises:
        CorruptStateError: OPS-HOLD, as ``Rescored.of``.
    """
    rescored = Rescored.of(measurements, kept_runs(throne, rules, round_index))
    return rescored.turned(throne, rotation_of(rules, round_index)), rescored


def check_subsets(measurements: Sequence[Measurement], rotation: int) -> None:
    """Refuse to decide on runs of other documents than the round's. Re-scored runs are checked by ``Rescored``.

    Raises:
        CorruptStateError: OPS-HOLD with the first such run.
    """
    for item in measurements:
        if item.stage != "rescore" and item.subset != stage_subset(item.stage, rotation):
            wanted = stage_subset(item.stage, rotation).key
            detail = f"{item.role} run {item.seed:016x} of stage {item.stage} was scored on documents {item.subset.key}, not {wanted}"
            raise _held(f"{detail}; numbers of different documents are never compared")


def ended(records: Sequence[Record], rules: HiddenRules, round_index: int) -> tuple[Subset, ...]:
    """Return the subsets that are over when a round begins, and are opened in its Record.

    A rotation's documents end with it; what a crown sealed ends with the rotation in which that king is dethroned.

    Args:
        records: Every Record before ``round_index``, oldest first.
        rules: How long a rotation lasts.
        round_index: The round that begins.
    """
    if round_index == 0 or not begins_rotation(rules, round_index):
        return ()
    over = rotation_of(rules, round_index) - 1
    crowns = [record for record in records[:round_index] if record.crown is not None]
    sealed = [
        Subset(shard="confirm", rotation=rotation_of(rules, crowned.round), crown=crowned.round)
        for crowned, dethroned in pairwise(crowns)
        if rotation_of(rules, dethroned.round) == over and crowned.crown is not None and crowned.crown.sealed_documents
    ]
    return (*(Subset(shard=name, rotation=over) for name in SHARDS), *sealed)


def _held(detail: str) -> CorruptStateError:
    return CorruptStateError(detail, code="OPS-HOLD")
