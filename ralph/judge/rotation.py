"""What a change of documents asks for: which kept runs are scored again, what they replace, and what may be compared.

Hidden documents differ by more than any gain, so numbers are compared on one subset only. When a rotation begins, every
stored run that is still to be compared is scored again first: the king's pool, some runs of the king before him, and the pairs of
running contests. After a crown, and at each rotation, some runs of both kings on equal seeds are also scored on shard ``audit``,
which decides nothing; what the crown has sealed is scored for the king alone. The pools of kings further back are forgotten: whoever
of them reigns again begins a new one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ralph.errors import CorruptStateError
from ralph.protocol.lineage import Contest, KingRun, PairedRun, Reign, Throne, TrialRun
from ralph.protocol.measurement import Measurement, Role, Stage
from ralph.protocol.pool import SHARDS, Subset
from ralph.protocol.record import Record, WatchRow
from ralph.protocol.rounds import begins_rotation, rotation_of
from ralph.protocol.rules import Rules
from ralph.protocol.scoring_rules import HiddenRules


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
    """Return the documents that runs of a stage are scored on. A re-scored run and a repeat have none of their own."""
    if stage in ("rescore", "repeat"):
        raise ValueError(f"which documents a run of stage {stage} is scored on is not a matter of its stage")
    return Subset(shard="screen" if stage in ("screen", "filter") else "confirm", rotation=rotation)


def kept_runs(throne: Throne, rules: Rules, round_index: int) -> tuple[Kept, ...]:
    """Return the kept runs that a round scores again: the king's first, then the former king's and the challengers', each once."""
    hidden, rotation = rules.hidden, rotation_of(rules.hidden, round_index)
    turns = rotation != throne.rotation
    king: list[Kept] = []
    former: list[Kept] = []
    challengers: list[Kept] = []
    if turns:
        confirm = Subset(shard="confirm", rotation=rotation)
        king += [_of_king(throne, run, confirm) for run in throne.pool]
        king += [_beside(throne, contest, run, rotation) for contest in throne.contests for run in contest.runs]
        former += [_of_former(throne, run, confirm) for run in canary_runs(throne, rules)]
        challengers += [_of_challenger(contest, run, rotation) for contest in throne.contests for run in contest.runs]
    crowned = throne.former is not None and throne.king.crowned_round == round_index - 1
    if crowned or turns:
        audit = Subset(shard="audit", rotation=rotation)
        pairs = watched(throne, hidden)
        king += [_of_king(throne, own, audit) for own, _ in pairs]
        former += [_of_former(throne, his, audit) for _, his in pairs]
    if crowned and throne.sealed_documents:
        sealed = Subset(shard="confirm", rotation=rotation_of(hidden, round_index - 1), crown=round_index - 1)
        king += [_of_king(throne, run, sealed) for run in throne.pool[: hidden.watched_runs]]
    return tuple({one.key: one for one in (*king, *former, *challengers)}.values())


def watched(throne: Throne, rules: HiddenRules) -> tuple[tuple[KingRun, KingRun], ...]:
    """Return the king's and the former king's runs on equal seeds that are also scored on ``audit``."""
    former = {run.seed: run for run in throne.former_runs}
    return tuple((run, former[run.seed]) for run in throne.pool if run.seed in former)[: rules.watched_runs]


def canary_runs(throne: Throne, rules: Rules) -> tuple[KingRun, ...]:
    """Return the runs of the former king that are scored again at a rotation: his newest that crowned nobody, and those watched.

    On probation all runs beside the king's are among them, because they are compared further.
    """
    crowned = crowning_seeds(throne)
    honest = [run.seed for run in throne.former_runs if run.seed not in crowned]
    chosen = {his.seed for _, his in watched(throne, rules.hidden)} | set(honest[-rules.canary.rotation_runs :])
    if throne.king.standing == "probation":
        chosen |= {run.seed for run in throne.king.trial}
    return tuple(run for run in throne.former_runs if run.seed in chosen)


def crowning_seeds(throne: Throne) -> frozenset[int]:
    """Return the seeds of runs that crowned one of the two kings: whoever was lucky there still is on other documents."""
    return frozenset(run.seed for run in (*throne.pool, *throne.former_runs) if run.environment is None)


def _of_king(throne: Throne, run: KingRun, subset: Subset) -> Kept:
    return Kept(role="king", tree=throne.king.tree, seed=run.seed, weights=run.weights, subset=subset)


def _of_former(throne: Throne, run: KingRun, subset: Subset) -> Kept:
    return Kept(role="former", tree=_former(throne).tree, seed=run.seed, weights=run.weights, subset=subset)


def _former(throne: Throne) -> Reign:
    if throne.former is None:
        raise _held("runs of a former king are kept, and there is none")
    return throne.former


def _beside(throne: Throne, contest: Contest, run: PairedRun, rotation: int) -> Kept:
    subset = stage_subset(contest.stage, rotation)
    return Kept(role="king", tree=throne.king.tree, seed=run.seed, weights=run.king_weights, subset=subset)


def _of_challenger(contest: Contest, run: PairedRun, rotation: int) -> Kept:
    subset = stage_subset(contest.stage, rotation)
    return Kept(role="challenger", tree=contest.tree, seed=run.seed, weights=run.challenger_weights, subset=subset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """The kept runs that one round has scored again."""

    runs: Mapping[tuple[bytes, int, Subset], Measurement] = field(default_factory=dict)

    @staticmethod
    def of(measurements: Sequence[Measurement], wanted: Sequence[Kept]) -> "Rescored":
        """Collect the re-scored runs, which must be exactly the wanted ones with the weights that were kept.

        Raises:
            CorruptStateError: OPS-HOLD, one is missing, was not asked for, or has other weights.
        """
        known = {one.key: one for one in wanted}
        runs: dict[tuple[bytes, int, Subset], Measurement] = {}
        for item in measurements:
            if item.stage != "rescore":
                continue
            kept = known.get((item.tree, item.seed, item.subset))
            if kept is None or item.role != kept.role or item.executed or kept.key in runs:
                raise _held(f"run {item.seed:016x} was scored again on {item.subset.key} without being due")
            if item.score is not None and item.weights != kept.weights:
                raise _held(f"run {item.seed:016x} was scored again on {item.subset.key} with other weights than were kept")
            runs[kept.key] = item
        missing = [one for one in wanted if one.key not in runs]
        if missing:
            raise _held(f"{len(missing)} kept runs were not scored again, the first is {missing[0].seed:016x} on {missing[0].subset.key}")
        return Rescored(runs=runs)

    def turned(self, throne: Throne, rotation: int) -> Throne:
        """Return the state with all its values on the documents of ``rotation``.

        A run that failed is not kept. A challenger's case ends by that; whether the king's failure is his own is for the table to say.
        """
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
            lineage=tuple(self._reign(throne, reign, confirm) for reign in throne.lineage),
            pool=self._pool(throne.king.tree, throne.pool, confirm),
            contests=tuple(contests),
        )

    def watch(self, throne: Throne, rules: HiddenRules) -> tuple[WatchRow, ...]:
        """Return the king beside the former king on ``confirm`` and on ``audit``, or nothing where ``audit`` was not scored.

        Args:
            throne: With its values on the documents of the round's rotation.
            rules: How many runs are watched.
        """
        audit, confirm = Subset(shard="audit", rotation=throne.rotation), Subset(shard="confirm", rotation=throne.rotation)
        seen = [
            (on_confirm, tuple(pair))
            for on_confirm in watched(throne, rules)
            if len(pair := self._on_audit(throne, on_confirm, audit)) == len(on_confirm)
        ]
        if not seen:
            return ()
        return _watched(throne, confirm, [one for one, _ in seen]), _watched(throne, audit, [one for _, one in seen])

    def _value(self, tree: bytes, seed: int, subset: Subset) -> float | None:
        found = self.runs.get((tree, seed, subset))
        return None if found is None or found.score is None else found.score.val_bpb

    def _pool(self, tree: bytes, pool: Sequence[KingRun], subset: Subset) -> tuple[KingRun, ...]:
        values = [(run, self._value(tree, run.seed, subset)) for run in pool]
        return tuple(replace(run, val_bpb=value) for run, value in values if value is not None)

    def _pair(self, king: bytes, contest: Contest, run: PairedRun, subset: Subset) -> PairedRun | None:
        beside, own = self._value(king, run.seed, subset), self._value(contest.tree, run.seed, subset)
        return None if beside is None or own is None else replace(run, challenger=own, king=beside)

    def _on_audit(self, throne: Throne, pair: tuple[KingRun, KingRun], audit: Subset) -> tuple[KingRun, ...]:
        own, his = pair
        return (*self._pool(throne.king.tree, [own], audit), *self._pool(_former(throne).tree, [his], audit))

    def _reign(self, throne: Throne, reign: Reign, confirm: Subset) -> Reign:
        """Return a reign with what it had on the new documents; of a king who was neither scored again nor reigns, nothing is left."""
        if reign.kept is not None:
            pool = self._pool(reign.tree, reign.kept.pool, confirm) if reign is throne.former else ()
            return replace(reign, kept=replace(reign.kept, pool=pool))
        if reign is throne.king and reign.standing == "probation":
            return replace(reign, trial=tuple(self._trial(throne, run, confirm) for run in reign.trial))
        return reign

    def _trial(self, throne: Throne, run: TrialRun, confirm: Subset) -> TrialRun:
        """Return a run on probation on the new documents. A side that failed in training stays failed."""
        sides = ((throne.king.tree, run.king), (_former(throne).tree, run.former))
        again = [None if value is None else self.runs.get((tree, run.seed, confirm)) for tree, value in sides]
        if any(value is not None and found is None for (_, value), found in zip(sides, again, strict=True)):
            raise _held(f"the run with seed {run.seed:016x} on probation was not kept")
        king, former = (None if found is None or found.score is None else found.score.val_bpb for found in again)
        evidence = [before if found is None else found.digest() for before, found in zip(run.evidence, again, strict=True)]
        return TrialRun(seed=run.seed, king=king, former=former, evidence=(evidence[0], evidence[1]))


def _watched(throne: Throne, subset: Subset, pairs: Sequence[tuple[KingRun, ...]]) -> WatchRow:
    gains = [old.val_bpb - new.val_bpb for new, old in pairs]
    mean = math.fsum(gains) / len(gains)
    variance = math.fsum((one - mean) ** 2 for one in gains) / (len(gains) - 1) if len(gains) > 1 else 0.0
    return WatchRow(
        subset=subset,
        king=throne.king.tree,
        previous=_former(throne).tree,
        runs=len(gains),
        gain_bpb=mean,
        standard_error_bpb=math.sqrt(variance / len(gains)),
    )


def turn(throne: Throne, measurements: Sequence[Measurement], rules: Rules, round_index: int) -> tuple[Throne, Rescored]:
    """Return the state before a round on the round's documents, and the kept runs that put it there.

    Raises:
        CorruptStateError: OPS-HOLD, as ``Rescored.of``.
    """
    rescored = Rescored.of(measurements, kept_runs(throne, rules, round_index))
    return rescored.turned(throne, rotation_of(rules.hidden, round_index)), rescored


def check_subsets(measurements: Sequence[Measurement], rotation: int) -> None:
    """Refuse to decide on runs of other documents than the round's. Re-scored runs are checked by ``Rescored``.

    What a doubt about the king calls for is scored where the doubtful run was.

    Raises:
        CorruptStateError: OPS-HOLD with the first such run.
    """
    doubted = {item.seed: item.subset for item in measurements if item.role == "king" and item.stage not in ("repeat", "rescore")}
    for item in measurements:
        if item.stage == "rescore":
            continue
        wanted = doubted.get(item.seed) if item.stage == "repeat" or item.role == "reference" else stage_subset(item.stage, rotation)
        if item.subset != wanted:
            name = "those of a run of the king" if wanted is None else wanted.key
            detail = f"{item.role} run {item.seed:016x} of stage {item.stage} was scored on documents {item.subset.key}, not {name}"
            raise _held(f"{detail}; numbers of different documents are never compared")


def ended(records: Sequence[Record], rules: HiddenRules, round_index: int) -> tuple[Subset, ...]:
    """Return the subsets that are over when a round begins, and are opened in its Record.

    A rotation's documents end with it; what a crown sealed ends with the rotation in which that king is first taken off the throne.

    Args:
        records: Every Record before ``round_index``, oldest first.
        rules: How long a rotation lasts.
        round_index: The round that begins.
    """
    if round_index == 0 or not begins_rotation(rules, round_index):
        return ()
    over = rotation_of(rules, round_index) - 1
    changes = [record for record in records[:round_index] if record.crown is not None or record.demotion is not None]
    sealed = [
        Subset(shard="confirm", rotation=rotation_of(rules, crowned.round), crown=crowned.round)
        for crowned, fell in pairwise(changes)
        if rotation_of(rules, fell.round) == over and crowned.crown is not None and crowned.crown.sealed_documents
    ]
    return (*(Subset(shard=name, rotation=over) for name in SHARDS), *sealed)


def _held(detail: str) -> CorruptStateError:
    return CorruptStateError(detail, code="OPS-HOLD")
