"""Which runs a round needs: a pure function of the accepted cases, the throne and the beacons."""

from collections.abc import Sequence
from dataclasses import dataclass

from ralph.judge.canary import Blame, blame
from ralph.judge.decide import queue_order
from ralph.judge.rotation import Kept, kept_runs, stage_subset
from ralph.judge.table import doubts
from ralph.protocol.canonical import digest
from ralph.protocol.lineage import Contest, Throne
from ralph.protocol.measurement import Measurement, Role, Stage
from ralph.protocol.pool import Subset
from ralph.protocol.record import CaseRow
from ralph.protocol.rounds import rotation_of
from ralph.protocol.rules import Rules
from ralph.protocol.seeds import draw, seed

NEED_TAG = "recipe-net/measurement-need/v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One measurement that the decision requires."""

    role: Role
    stage: Stage
    tree: bytes
    seed: int
    executed: bool
    """Whether the validator trains it; filter runs are the miner's, and re-scored runs were trained before."""
    subset: Subset
    """The hidden documents that it is scored on."""
    weights: bytes | None = None
    """Digest of the kept weights that are scored again; None for a run of this round."""

    def subject(self) -> bytes:
        """Return the digest that names this need in draws."""
        fields = {"role": self.role, "stage": self.stage, "tree": self.tree, "seed": self.seed, "subset": self.subset.value()}
        return digest(NEED_TAG, fields)

    @property
    def key(self) -> str:
        """Return a short unique text for event keys and logs."""
        return f"{self.stage}/{self.role}/{self.tree.hex()[:16]}/{self.seed:016x}/{self.subset.key}"

    @property
    def exam(self) -> str:
        """Return what ``exam_of`` does."""
        return exam_of(self.subset, self.tree, self.seed)


def exam_of(subset: Subset, tree: bytes, seed: int) -> str:
    """Return a text for a run on its documents, in whichever round it was scored: a name in the private store."""
    return f"{subset.key}/{tree.hex()}/{seed:016x}"


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

    The order is: kept runs of the king that are scored again, the king's pool where it is short, his probation and a replay, the king
    beside challengers, kept runs of the king before and of challengers, the king before on the seeds of the probation, then challengers
    in queue order. What a doubt about the king calls for beyond that is in ``follow_ups``.
    """
    contests = {contest.case: contest for contest in throne.contests}
    king, rotation = throne.king.tree, rotation_of(rules.hidden, round_index)
    kept = [_kept(one) for one in kept_runs(throne, rules, round_index)]
    trial = probation_seeds(throne, rules, beacon_two=beacons.two, round_index=round_index)
    missing = max(0, rules.crown.pool_runs - len(throne.pool) - len(trial))
    found = [one for one in kept if one.role == "king"]
    drawn = seeds(rules, beacon=beacons.two, round_index=round_index, purpose="pool", count=missing)
    found += [_run("king", "pool", king, one, rotation) for one in drawn]
    found += [_run("king", "probation", king, one, rotation) for one in trial]
    replays = canary_seeds(throne, rules, beacon_two=beacons.two, round_index=round_index)
    found += [_run("king", "canary", king, one, rotation) for one in replays]
    paired: dict[Stage, tuple[int, ...]] = {}
    challengers: list[Need] = []
    for case in queue_order([case for case in cases if case.refusal is None], beacons.two):
        if case.tree is None:
            raise ValueError(f"accepted case {case.announcement.hex()[:16]} has no tree")
        drawn = _case_seeds(case, contests.get(case.case), beacons, rules, round_index)
        stage: Stage = case.stage
        paired[stage] = max(paired.get(stage, ()), drawn, key=len)
        challengers += [_run("challenger", stage, case.tree, one, rotation) for one in drawn]
    found += [_run("king", stage, king, one, rotation) for stage, drawn in sorted(paired.items()) for one in drawn]
    found += [one for one in kept if one.role != "king"]
    found += [_run("former", "probation", throne.former.tree, one, rotation) for one in trial if throne.former]
    return (*found, *challengers)


def probation_seeds(throne: Throne, rules: Rules, *, beacon_two: bytes, round_index: int) -> tuple[int, ...]:
    """Return the seeds on which a king on probation and the king before him are run in this round."""
    if throne.king.standing != "probation":
        return ()
    count = min(rules.canary.probation_per_round, max(0, rules.crown.probation_runs - len(throne.king.trial)))
    return seeds(rules, beacon=beacon_two, round_index=round_index, purpose="probation", count=count)


def canary_seeds(throne: Throne, rules: Rules, *, beacon_two: bytes, round_index: int) -> tuple[int, ...]:
    """Return the seed of the king's run that is trained again in this round, if it is time for one. B2 says which, so nobody can know."""
    stored = [run.seed for run in throne.pool if run.environment is not None]
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
        found.setdefault(run.seed, _doubted(throne.king.tree, rules.genesis_tree, run))
        whose = blame(run.seed, measurements, throne.pool, rules.canary)
        if whose is None or (whose is Blame.KING and run.stage != "probation"):
            break
    return tuple(need for three in found.values() for need in three)


def _doubted(king: bytes, reference: bytes, run: Measurement) -> tuple[Need, ...]:
    """Return what a doubtful run calls for, on the documents that it was to be scored on."""
    asked: tuple[tuple[Role, Stage, bytes], ...] = (
        ("king", "repeat", king),
        ("reference", "canary", reference),
        ("reference", "repeat", reference),
    )
    return tuple(Need(role=role, stage=stage, tree=tree, seed=run.seed, executed=True, subset=run.subset) for role, stage, tree in asked)


def _run(role: Role, stage: Stage, tree: bytes, one: int, rotation: int) -> Need:
    executed = role != "challenger" or stage != "filter"
    return Need(role=role, stage=stage, tree=tree, seed=one, executed=executed, subset=stage_subset(stage, rotation))


def _kept(one: Kept) -> Need:
    return Need(role=one.role, stage="rescore", tree=one.tree, seed=one.seed, executed=False, subset=one.subset, weights=one.weights)


def _case_seeds(case: CaseRow, contest: Contest | None, beacons: Beacons, rules: Rules, round_index: int) -> tuple[int, ...]:
    if contest is None:
        return seeds(rules, beacon=beacons.one, round_index=round_index, purpose="screen", count=rules.crown.screen_runs)
    if contest.stage == "filter":
        if beacons.previous_two is None:
            raise ValueError("a filter look needs the beacon of the round before")
        return filter_seeds(contest, rules, previous_two=beacons.previous_two, round_index=round_index)
    count = next_look_runs(contest, rules)
    return seeds(rules, beacon=beacons.two, round_index=round_index, purpose="proof", count=count)
