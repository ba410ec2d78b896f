"""Which runs a round needs: a pure function of the accepted cases, the throne and the beacons."""

from collections.abc import Sequence
from dataclasses import dataclass

from ralph.judge.decide import queue_order
from ralph.protocol.canonical import digest
from ralph.protocol.lineage import Contest, Throne
from ralph.protocol.measurement import Role, Stage
from ralph.protocol.record import CaseRow
from ralph.protocol.rules import Rules
from ralph.protocol.seeds import seed

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

    The order is: the king's pool where it is short, the king beside challengers, then challengers in
    queue order.
    """
    contests = {contest.case: contest for contest in throne.contests}
    missing = max(0, rules.crown.pool_runs - len(throne.pool))
    king = throne.king.tree
    found = [_king("pool", king, one) for one in seeds(rules, beacon=beacons.two, round_index=round_index, purpose="pool", count=missing)]
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
    return (*found, *challengers)


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
