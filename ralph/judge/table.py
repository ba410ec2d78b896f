"""The measurements of one round, by role and stage, and which of the king's runs are in doubt."""

from collections.abc import Iterable, Sequence

from ralph.errors import CorruptStateError
from ralph.judge.canary import Blame, Cause, blame, doubtful, regressed, rollback, unscorable, unsound
from ralph.judge.rotation import crowning_seeds
from ralph.protocol.lineage import KingRun, PairedRun, Throne, TrialRun
from ralph.protocol.measurement import Failure, Measurement, Role, Stage
from ralph.protocol.pool import ShardName, Subset
from ralph.protocol.rules import Rules

POOLED: tuple[Stage, ...] = ("pool", "probation")
PAIRED: tuple[Stage, ...] = ("screen", "filter", "proof")
COMPARED: tuple[ShardName, ...] = ("confirm", "screen")
"""Shards on which kept runs are compared; ``audit`` decides nothing."""
TRAINED: frozenset[Stage] = frozenset({*POOLED, *PAIRED, "canary"})
"""Stages in which a king is trained because the round needs it, and not because of a doubt."""


class Table:
    """The round's measurements; those of the first executor count, and all of them where a king's fault is looked for.

    Args:
        measurements: Of the round.
        throne: With its values on the documents of the round.
        rules: The Rules in force.

    A king's run that failed counts as failed only where it fails again beside a reference that holds; where it goes well the second time,
    that run stands in for it.

    Raises:
        CorruptStateError: ``OPS-HOLD``, the measurements do not belong to the state, or a doubt about the king is not settled;
            ``OPS-NUMERIC``, two different king runs with one seed.
    """

    def __init__(self, measurements: Sequence[Measurement], throne: Throne, rules: Rules) -> None:
        self._all, self._throne, self._rules = measurements, throne, rules
        self._measurements = [item for item in measurements if item.executor == measurements[0].executor]
        former = throne.former
        trees = {"king": throne.king.tree, "former": former.tree if former else None, "reference": rules.genesis_tree}
        self._fault = self._find_fault()
        self._king: dict[Stage, dict[int, Measurement]] = {}
        for item in measurements:
            if item.role in trees and item.tree != trees[item.role]:
                raise CorruptStateError(f"{item.role} run with seed {item.seed:016x} is of another tree", code="OPS-HOLD")
        for item in self._measurements:
            if item.role == "king" and item.stage in TRAINED:
                known = self._king.setdefault(item.stage, {}).setdefault(item.seed, self._settled(item))
                if known.score is not None and item.score is not None and known.score.val_bpb != item.score.val_bpb:
                    raise CorruptStateError(f"two different king runs with seed {item.seed:016x}", code="OPS-NUMERIC")

    def cause(self) -> Cause | None:
        """Return why the king is to be demoted after this round, or None."""
        if self._fault is not None:
            return self._fault
        for shard in COMPARED:
            failed = unscorable(self._on_new_documents("king", shard), self._on_new_documents("former", shard))
            if failed is not None:
                return failed
        trial = (*self._throne.king.trial, *self.trial())
        if self._throne.king.standing == "probation":
            found = rollback(trial, self._rules.canary)
            if found is not None:
                return found
        return regressed(self._unselected("king"), self._unselected("former"), self._rules)

    def of(self, role: Role, stage: Stage) -> list[Measurement]:
        """Return the measurements of a role and stage, in order."""
        return [item for item in self._measurements if item.role == role and item.stage == stage]

    def trial(self) -> tuple[TrialRun, ...]:
        """Return this round's runs of a probation. Raises CorruptStateError when one of a pair is missing."""
        formers = {item.seed: item for item in self.of("former", "probation")}
        kings = self._king.get("probation", {})
        if formers.keys() != kings.keys():
            raise CorruptStateError("a run on probation has no other beside it", code="OPS-HOLD")
        return tuple(
            TrialRun(seed=seed, king=_value(king), former=_value(formers[seed]), evidence=(king.digest(), formers[seed].digest()))
            for seed, king in kings.items()
        )

    def pool(self) -> tuple[KingRun, ...]:
        """Return the king's runs of this round that no challenger stands beside."""
        return tuple(run for stage in POOLED for run in self._king_runs(stage))

    def failed_in_pool(self) -> int:
        """Return how many of those failed."""
        return sum(item.score is None for stage in POOLED for item in self._king.get(stage, {}).values())

    def proof_runs(self) -> tuple[KingRun, ...]:
        """Return the king's runs beside challengers on the documents of the pool, which they join afterwards."""
        return tuple(self._king_runs("proof"))

    def former_runs(self) -> tuple[KingRun, ...]:
        """Return the former king's runs of this round's probation."""
        return _runs(self.of("former", "probation"))

    def failure(self, tree: bytes) -> Failure | None:
        """Return why kept weights of a challenger cannot be scored on the documents of a new rotation."""
        again = (item for item in self.of("challenger", "rescore") if item.tree == tree)
        return next((item.failure for item in again if item.failure is not None), None)

    def challenger(self, tree: bytes, stage: Stage) -> list[Measurement]:
        """Return the challenger's measurements of a stage, in order."""
        return [item for item in self.of("challenger", stage) if item.tree == tree]

    def pairs(self, runs: list[Measurement], stage: Stage) -> tuple[PairedRun, ...]:
        """Return challenger and king side by side. Raises CorruptStateError when a king run is missing."""
        king = {run.seed: run for run in self._king_runs(stage)}
        pairs = []
        for run in runs:
            beside = king.get(run.seed)
            if beside is None or run.score is None or run.weights is None:
                raise CorruptStateError(f"no king run beside seed {run.seed:016x} of stage {stage}", code="OPS-HOLD")
            pair = PairedRun(
                seed=run.seed,
                challenger=run.score.val_bpb,
                king=beside.val_bpb,
                challenger_weights=run.weights,
                king_weights=beside.weights,
            )
            pairs.append(pair)
        return tuple(pairs)

    def _king_runs(self, stage: Stage) -> tuple[KingRun, ...]:
        return _runs(self._king.get(stage, {}).values())

    def _on_new_documents(self, role: Role, shard: ShardName) -> list[Measurement]:
        """Return the kept runs that were due on the documents of a new rotation."""
        turned = Subset(shard=shard, rotation=self._throne.rotation)
        return [item for item in self.of(role, "rescore") if item.subset == turned]

    def _unselected(self, role: Role) -> list[Measurement]:
        """Return those of them that have a score and crowned neither king."""
        crowned = crowning_seeds(self._throne)
        return [item for item in self._on_new_documents(role, "confirm") if item.score is not None and item.seed not in crowned]

    def _find_fault(self) -> Cause | None:
        """Return the first failure that is the king's own where others wait for his number; on probation a failure is counted instead."""
        for run in doubts(self._measurements, self._throne):
            if self._blame(run) is Blame.KING and run.stage != "probation":
                return unsound(run.seed, self._measurements)
        return None

    def _settled(self, run: Measurement) -> Measurement:
        """Return the run that counts for a seed: the repeat, where the first one failed and that went well."""
        if self._fault is not None or not doubtful(run, self._throne.pool) or self._blame(run) is Blame.KING:
            return run
        good = (one for one in self.of("king", "repeat") if one.seed == run.seed and not doubtful(one, self._throne.pool))
        return next(good, run)

    def _blame(self, run: Measurement) -> Blame:
        found = blame(run.seed, self._all, self._throne.pool, self._rules.canary)
        if found is None or found is Blame.OURS or self._throne.former is None:
            raise CorruptStateError(
                f"the king's run with seed {run.seed:016x} is in doubt and the reference recipe does not settle it", code="OPS-HOLD"
            )
        return found


def doubts(measurements: Sequence[Measurement], throne: Throne) -> tuple[Measurement, ...]:
    """Return the king's runs that failed or did not repeat, in order; repeats themselves are not among them."""
    kings = (item for item in measurements if item.role == "king" and item.stage in TRAINED)
    return tuple(item for item in kings if doubtful(item, throne.pool))


def _runs(measurements: Iterable[Measurement]) -> tuple[KingRun, ...]:
    """Return scored runs as they are kept. Raises CorruptStateError where one does not name its weights."""
    runs = []
    for item in measurements:
        if item.score is not None and item.weights is None:
            raise CorruptStateError(f"{item.role} run with seed {item.seed:016x} does not name its weights", code="OPS-HOLD")
        if item.score is not None and item.weights is not None:
            runs.append(KingRun(seed=item.seed, val_bpb=item.score.val_bpb, weights=item.weights, environment=item.environment))
    return tuple(runs)


def _value(item: Measurement) -> float | None:
    return None if item.score is None else item.score.val_bpb
