"""Which runs a round needs: a pure function of the accepted cases, the throne and the beacons."""

from collections.abc import Sequence
from dataclasses import dataclass

from ralph.judge.canary import Blame, blame
from ralph.judge.decide import queue_order
from ralph.judge.table import doubts
from ralph.protocol.canonical import digest
from ralph.protocol.lineage import Contest, Throne
from ralph.protocol.measurement import Measurement, Role, Stage
from ralph.protocol.record import CaseRow
from ralph.protocol.rules import Rules
from ralph.protocol.seeds import draw, seed

NEED_TAG = "recipe-net/measurement-need/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One measurement that the decision requires."""

    role: Role
    stage: Stage
    tree: bytes
    seed: int
    executed: bool
    """Whether the validator trains it; filter runs are the miner's."""

    def subject(self) -> bytes:
        """Return the digest that names this need in draws."""
        return digest(NEED_TAG, {"role": self.role, "stage": self.stage, "tree": self.tree, "seed": self.seed})

    @property
    def key(self) -> str:
        """Return a short unique text for event keys and logs."""
        return f"{self.stage}/{self.role}/{self.tree.hex()[:16]}/{self.seed:016x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beacons:
    """The public randomness that a round's seeds come from."""

    one: bytes
    two: bytes
    previous_two: bytes | None
    """B2 of the round before: the filter seeds that a miner ran in this round's prove window."""


def seeds(rules: Rules, *, beacon: bytes, round_index: int, purpose: Stage, count: int) -> tuple[int, ...]:
    """Return ``count`` seeds of a purpose at the decision rung."""
    return tuple(
        seed(beacon=beacon, track=rules.track, round_index=round_index, purpose=purpose, rung=rules.crown.rung, index=index)
        for index in range(count)
    )


def next_look_runs(contest: Contest, rules: Rules) -> int:
    """Return how many fresh runs the next look at a contest takes."""
    looks = rules.crown.filter_looks if contest.stage == "filter" else rules.crown.proof_looks
    return next(look for look in looks if look > len(contest.runs)) - len(contest.runs)


def filter_seeds(contest: Contest, rules: Rules, *, previous_two: bytes, round_index: int) -> tuple[int, ...]:
    """Return the seeds of a contest's filter look in ``round_index``, drawn by B2 of the round before."""
    count = next_look_runs(contest, rules)
    return seeds(rules, beacon=previous_two, round_index=round_index - 1, purpose="filter", count=count)


def needs(throne: Throne, cases: Sequence[CaseRow], beacons: Beacons, rules: Rules, *, round_index: int) -> tuple[Need, ...]:
    """Return every measurement of the round, in the order in which they run.

    The order is: the king's pool where it is short, his probation and a replay, the king beside challengers, the king before, then
    challengers in queue order. What a doubt about the king calls for beyond that is in ``follow_ups``.
    """
    contests = {contest.case: contest for contest in throne.contests}
    king = throne.king.tree
    trial = probation_seeds(throne, rules, beacon_two=beacons.two, round_index=round_index)
    missing = max(0, rules.crown.pool_runs - len(throne.pool) - len(trial))
    found = [_king("pool", king, one) for one in seeds(rules, beacon=beacons.two, round_index=round_index, purpose="pool", count=missing)]
    found += [_king("probation", king, one) for one in trial]
    found += [_king("canary", king, one) for one in canary_seeds(throne, rules, beacon_two=beacons.two, round_index=round_index)]
    paired: dict[Stage, tuple[int, ...]] = {}
    challengers: list[Need] = []
    for case in queue_order([case for case in cases if case.refusal is None], beacons.two):
        if case.tree is None:
            raise ValueError(f"accepted case {case.announcement.hex()[:16]} has no tree")
        drawn = _case_seeds(case, contests.get(case.case), beacons, rules, round_index)
        stage: Stage = case.stage
        paired[stage] = max(paired.get(stage, ()), drawn, key=len)
        executed = stage != "filter"
        challengers += [Need(role="challenger", stage=stage, tree=case.tree, seed=one, executed=executed) for one in drawn]
    found += [_king(stage, king, one) for stage, drawn in sorted(paired.items()) for one in drawn]
    found += [Need(role="former", stage="probation", tree=throne.former.tree, seed=one, executed=True) for one in trial if throne.former]
    return (*found, *challengers)


def probation_seeds(throne: Throne, rules: Rules, *, beacon_two: bytes, round_index: int) -> tuple[int, ...]:
    """Return the seeds on which a king on probation and the king before him are run in this round."""
    if throne.king.standing != "probation":
        return ()
    count = min(rules.canary.probation_per_round, max(0, rules.crown.probation_runs - len(throne.king.trial)))
    return seeds(rules, beacon=beacon_two, round_index=round_index, purpose="probation", count=count)


def canary_seeds(throne: Throne, rules: Rules, *, beacon_two: bytes, round_index: int) -> tuple[int, ...]:
    """Return the seed of the king's run that is trained again in this round, if it is time for one. B2 says which, so nobody can know."""
    stored = [run.seed for run in throne.pool if run.weights is not None]
    due = rules.canary.replay_rounds > 0 and round_index % rules.canary.replay_rounds == 0
    if not due or not stored or throne.former is None:
        return ()
    drawn = draw(beacon=beacon_two, purpose="canary", subject=throne.king.tree)
    return (stored[int.from_bytes(drawn[:8], "little") % len(stored)],)


def follow_ups(throne: Throne, measurements: Sequence[Measurement], rules: Rules) -> tuple[Need, ...]:
    """Return what the doubtful runs among the king's call for: each once more, and the genesis recipe twice on its seed.

    One doubt is settled after the other, and nothing more is asked once a fault of the king's own is established: the list grows as answers
    come in, and follows as a whole from a finished Record.
    """
    if throne.former is None:
        return ()
    found: dict[int, tuple[Need, ...]] = {}
    for run in doubts(measurements, throne):
        found.setdefault(run.seed, _doubted(throne.king.tree, rules.genesis_tree, run.seed))
        whose = blame(run.seed, measurements, throne.pool, rules.canary)
        if whose is None or (whose is Blame.KING and run.stage != "probation"):
            break
    return tuple(need for three in found.values() for need in three)


def _doubted(king: bytes, reference: bytes, one: int) -> tuple[Need, ...]:
    return (
        _king("repeat", king, one),
        Need(role="reference", stage="canary", tree=reference, seed=one, executed=True),
        Need(role="reference", stage="repeat", tree=reference, seed=one, executed=True),
    )


def _king(stage: Stage, tree: bytes, one: int) -> Need:
    return Need(role="king", stage=stage, tree=tree, seed=one, executed=True)


def _case_seeds(case: CaseRow, contest: Contest | None, beacons: Beacons, rules: Rules, round_index: int) -> tuple[int, ...]:
    if contest is None:
        return seeds(rules, beacon=beacons.one, round_index=round_index, purpose="screen", count=rules.crown.screen_runs)
    if contest.stage == "filter":
        if beacons.previous_two is None:
            raise ValueError("a filter look needs the beacon of the round before")
        return filter_seeds(contest, rules, previous_two=beacons.previous_two, round_index=round_index)
    count = next_look_runs(contest, rules)
    return seeds(rules, beacon=beacons.two, round_index=round_index, purpose="proof", count=count)
