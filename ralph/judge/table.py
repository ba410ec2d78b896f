"""The measurements of one round, by role and stage, and which of the king's runs are in doubt."""

from collections.abc import Sequence

from ralph.errors import CorruptStateError
from ralph.judge.canary import Blame, Cause, blame, doubtful, regressed, rollback, unsound
from ralph.protocol.lineage import KingRun, PairedRun, Throne, TrialRun
from ralph.protocol.measurement import Measurement, Role, Stage
from ralph.protocol.rules import Rules

POOLED: tuple[Stage, ...] = ("pool", "probation")
PAIRED: tuple[Stage, ...] = ("screen", "filter", "proof")
TRAINED: frozenset[Stage] = frozenset({*POOLED, *PAIRED, "canary"})
"""Stages in which a king is trained because the round needs it, and not because of a doubt."""


class Table:
    """The round's measurements.

    A king's run that failed counts as failed only where it fails again beside a reference that holds; where it goes well the second time,
    that run stands in for it.

    Raises:
        CorruptStateError: ``OPS-HOLD``, the measurements do not belong to the state, or a doubt about the king is not settled;
            ``OPS-NUMERIC``, two different king runs with one seed.
    """

    def __init__(self, measurements: Sequence[Measurement], throne: Throne, rules: Rules) -> None:
        self._measurements, self._throne, self._rules = measurements, throne, rules
        former = throne.former
        trees = {"king": throne.king.tree, "former": former.tree if former else None, "reference": rules.genesis_tree}
        self._fault = self._find_fault()
        self._king: dict[Stage, dict[int, Measurement]] = {}
        for item in measurements:
            if item.role in trees and item.tree != trees[item.role]:
                raise CorruptStateError(f"{item.role} run with seed {item.seed:016x} is of another tree", code="OPS-HOLD")
            if item.role == "king" and item.stage in TRAINED:
                known = self._king.setdefault(item.stage, {}).setdefault(item.seed, self._settled(item))
                if known.score is not None and item.score is not None and known.score.val_bpb != item.score.val_bpb:
                    raise CorruptStateError(f"two different king runs with seed {item.seed:016x}", code="OPS-NUMERIC")

    def cause(self) -> Cause | None:
        """Return why the king is to be demoted after this round, or None."""
        if self._fault is not None:
            return self._fault
        trial = (*self._throne.king.trial, *self.trial())
        if self._throne.king.standing == "probation":
            found = rollback(trial, self._rules.canary)
            if found is not None:
                return found
        return regressed(self.of("king", "rotation"), self.of("former", "rotation"), self._rules)

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

    def paired_king_runs(self) -> tuple[KingRun, ...]:
        """Return the king's runs that stood beside challengers; they join the pool afterwards."""
        return tuple(run for stage in PAIRED for run in self._king_runs(stage))

    def challenger(self, tree: bytes, stage: Stage) -> list[Measurement]:
        """Return the challenger's measurements of a stage, in order."""
        return [item for item in self.of("challenger", stage) if item.tree == tree]

    def pairs(self, runs: list[Measurement], stage: Stage) -> tuple[PairedRun, ...]:
        """Return challenger and king side by side. Raises CorruptStateError when a king run is missing."""
        king = {run.seed: run.val_bpb for run in self._king_runs(stage)}
        pairs = []
        for run in runs:
            if run.seed not in king or run.score is None:
                raise CorruptStateError(f"no king run beside seed {run.seed:016x} of stage {stage}", code="OPS-HOLD")
            pairs.append(PairedRun(seed=run.seed, challenger=run.score.val_bpb, king=king[run.seed]))
        return tuple(pairs)

    def _king_runs(self, stage: Stage) -> list[KingRun]:
        return [
            KingRun(seed=seed, val_bpb=item.score.val_bpb, weights=item.weights, environment=item.environment)
            for seed, item in self._king.get(stage, {}).items()
            if item.score is not None
        ]

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
        found = blame(run.seed, self._measurements, self._throne.pool, self._rules.canary)
        if found is None or found is Blame.OURS or self._throne.former is None:
            raise CorruptStateError(
                f"the king's run with seed {run.seed:016x} is in doubt and the reference recipe does not settle it", code="OPS-HOLD"
            )
        return found


def doubts(measurements: Sequence[Measurement], throne: Throne) -> tuple[Measurement, ...]:
    """Return the king's runs that failed or did not repeat, in order; repeats themselves are not among them."""
    kings = (item for item in measurements if item.role == "king" and item.stage in TRAINED)
    return tuple(item for item in kings if doubtful(item, throne.pool))


def _value(item: Measurement) -> float | None:
    return None if item.score is None else item.score.val_bpb
