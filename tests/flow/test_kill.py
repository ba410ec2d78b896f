"""SIGKILL at every event, from another process: nothing is lost, nothing happens twice."""

from pathlib import Path

import pytest

from tests.flow import replay
from tests.flow.test_stories import BETTER
from tests.flow.world import KnobEdit, Player, World

ROUNDS = 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_validator_killed_at_every_event_ends_like_one_that_was_not(tmp_path: Path, flow_data: Path):
    undisturbed = World(tmp_path / "undisturbed", flow_data, (replay.MINER,))
    undisturbed.play([Player(name=replay.MINER, source=KnobEdit(values=BETTER))], rounds=ROUNDS)
    killed = World(tmp_path / "killed", flow_data, (replay.MINER,))
    kills = replay.replay(killed, replay.record(undisturbed), rounds=ROUNDS)

    assert "crowned" in {kind for kind, _, _ in replay.events(undisturbed)}
    assert replay.events(killed) == replay.events(undisturbed)
    assert replay.objects(killed) == replay.objects(undisturbed)
    assert replay.chain_state(killed) == replay.chain_state(undisturbed)
    assert kills == len(replay.events(undisturbed))
