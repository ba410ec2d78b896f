"""Outcomes and observations for the tests of what people see."""

from pathlib import Path

from ralph.interfaces import Head
from ralph.protocol.reasons import Reason
from ralph.protocol.rounds import window
from ralph_devnet.attackers.cast import Role
from ralph_devnet.facts import cast_facts, kings, submissions
from ralph_devnet.outcome import Audit, Machine, Outcome, Paths, Stage, Tried, Weights
from ralph_devnet.view import Scene
from ralph_devnet.watch import Observation, Pending
from tests.devnet.synthetic import ENVIRONMENT, HOSTILE, World

CAST = (
    Role(name="copycat", description="announces a published patch again", expected=Reason.INT_DUP, twin=None),
    Role(name="peeker", description="looks at the next token", expected=Reason.FRD_CLAIM, twin="causal"),
    Role(name="causal", description="never looks ahead", expected=None, twin=None),
)
MINERS = ("ada", "bea")


def tried(miner: str, number: int, decision: str, *, kind: str = "proposal", gain: float | None = 0.01, change: str = "x 1 -> 2") -> Tried:
    return Tried(
        miner=miner,
        number=number,
        reign=0,
        kind=kind,
        proposer="optimiser",
        change=change,
        decision=decision,
        reason="better by so much",
        val_bpb=None if gain is None else 2.8,
        gain_bpb=gain,
        standard_error_bpb=None if gain is None else 0.005,
        runs=0 if gain is None else 2,
    )


EXPERIMENTS = (
    tried("ada", 0, "keep", kind="baseline", gain=None),
    tried("ada", 1, "keep", change=f"learning_rate {HOSTILE}"),
    tried("ada", 2, "crash", gain=None),
    tried("bea", 0, "discard", gain=-0.02),
    tried("bea", 1, "discard"),
)


def outcome_of(world: World) -> Outcome:
    rows = submissions(world.history.entries, world.names)
    return Outcome(
        seed=7,
        short=False,
        machine=Machine(environment=ENVIRONMENT, cores=2),
        rounds=len(world.history.entries),
        kings=kings(world.history.entries, world.names),
        submissions=rows,
        cast=cast_facts(CAST, rows, world.addresses),
        experiments=EXPERIMENTS,
        honest=MINERS,
        weights=Weights(due={"ada": 30_000, "bea": 35_535}, on_chain={"ada": 55_327, "bea": 65_535}),
        audit=Audit(status=0, verdict="reproduced", report={"levels": ["L0", "L1"]}),
        stages=(Stage(name="round 0", seconds=12.34),),
        paths=Paths(home=Path("/demo"), logs=Path("/demo/logs")),
    )


def observation_of(world: World, *, block: int = 60) -> Observation:
    return Observation(
        head=Head(number=block, hash=bytes(32), timestamp=0.0, finalised=block - 2),
        window=window(world.profile.rules.rounds, 1),
        waiting=("ada", HOSTILE),
        entries=world.history.entries,
        throne=world.history.throne,
        pending=(Pending(name="bea", progress="announced"), Pending(name="ada", progress="delivered")),
        tried=EXPERIMENTS,
        weights=Weights(due={}, on_chain={}),
    )


def scene_of(world: World, *, elapsed_s: float = 75.0) -> Scene:
    return Scene(names=world.names, miners=MINERS, elapsed_s=elapsed_s, stage="round 1", rounds_limit=30)
