"""Hidden documents rotate under a running contest: with real training, kills in between, and an audit of what was opened."""

import asyncio
from pathlib import Path

import pytest

from ralph.auditor.audit import audit
from ralph.auditor.report import Verdict
from ralph.chain.local import LocalChain
from ralph.protocol.pool import SHARDS, Subset
from ralph.protocol.record import Record
from ralph.protocol.rules import Rules
from ralph.records.history import History
from tests.flow import replay
from tests.flow.test_stories import BETTER
from tests.flow.world import KnobEdit, Player, World, small_rules

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TURN = 4
"""The first round of rotation 1: the contest has had one look of its proof, and has the other in this round."""
ROUNDS = 6


def turning_rules(**fields) -> Rules:
    """Return the small Rules with two proof looks and a rotation that ends between them."""
    rules = small_rules(**fields)
    crown = rules.crown.model_copy(
        update={"proof_looks": (2, 4), "proof_weights": (1e-9, 1 - 1e-9), "proof_drop": (-9.0,), "alpha_reign": 0.9}
    )
    hidden = rules.hidden.model_copy(update={"rotation_rounds": TURN, "screen": 16, "confirm": 48, "audit": 12})
    guards = rules.guards.model_copy(update={"min_documents": 2})
    return rules.model_copy(update={"crown": crown, "hidden": hidden, "guards": guards})


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory, flow_data: Path) -> tuple[World, History]:
    world = World(tmp_path_factory.mktemp("turned") / "world", flow_data, (replay.MINER,), rules=turning_rules)
    return world, world.play([Player(name=replay.MINER, source=KnobEdit(values=BETTER))], rounds=ROUNDS)


def records(history: History) -> list[Record]:
    return [entry.signed.record for entry in history.entries]


def test_a_contest_goes_on_over_a_rotation_and_is_crowned_on_documents_of_one(turned):
    world, history = turned
    states = [state for _, state, _ in world.outcomes(history, replay.MINER)]
    assert states == ["screened", "proving", "proving", "crowned"]
    turn = records(history)[TURN]
    again = [item.measurement for item in turn.measurements if item.measurement.stage == "rescore"]
    confirm = Subset(shard="confirm", rotation=1)
    assert {one.subset for one in again} == {confirm}
    assert {one.role for one in again} == {"king", "challenger"}
    before = {(one.tree, one.seed): one.weights for record in records(history)[:TURN] for one in measured(record)}
    assert all(one.weights == before[one.tree, one.seed] for one in again)
    assert turn.crown is not None
    assert {one.subset for one in measured(turn) if one.stage == "proof"} == {confirm}


def measured(record: Record):
    return [item.measurement for item in record.measurements]


def test_after_the_crown_both_kings_are_watched_and_the_new_one_is_scored_on_what_it_sealed(turned):
    _, history = turned
    after = records(history)[TURN + 1]
    confirm, audit_row = after.watch
    assert (confirm.subset.shard, audit_row.subset.shard, confirm.runs) == ("confirm", "audit", 2)
    assert confirm.gain_bpb > 0
    assert abs(confirm.gain_bpb - audit_row.gain_bpb) < confirm.gain_bpb
    sealed = Subset(shard="confirm", rotation=1, crown=TURN)
    assert [one.score.documents for one in measured(after) if one.subset == sealed] == [6, 6]


def test_what_was_used_is_opened_and_a_stranger_reproduces_it(turned):
    world, history = turned
    opened = [row.subset for record in records(history) for row in record.openings]
    assert opened == [Subset(shard=name, rotation=0) for name in SHARDS]

    async def audited():
        chain = LocalChain.connect(world.devnet.chain)
        try:
            return await audit(chain=chain, store=world.store, profile=world.devnet.profile, reveal_delay=chain.parameters.reveal_delay)
        finally:
            await chain.close()

    report = asyncio.run(audited())
    assert report.verdict is Verdict.REPRODUCED, report.findings


def test_a_validator_killed_while_it_scores_again_ends_like_one_that_was_not(turned, tmp_path: Path, flow_data: Path):
    undisturbed, _ = turned
    killed = World(tmp_path / "killed", flow_data, (replay.MINER,), rules=turning_rules)
    found = replay.events(undisturbed)
    again = [number for number, (kind, key, _) in enumerate(found) if kind == "measurement" and "/rescore/" in key]
    at = replay.moments(found, start=again[0])
    kills = replay.replay(killed, replay.record(undisturbed), rounds=TURN + 1, at=at)
    until = found[: len(replay.events(killed))]
    assert replay.events(killed) == until
    assert ("crowned", str(TURN)) in {(kind, key) for kind, key, _ in until}
    assert kills == len([number for number in at if number <= len(until)])
