"""SIGKILL after every kind of event, from another process: nothing is lost, nothing happens twice."""

from pathlib import Path

import pytest

from ralph.repository.genesis import genesis_recipe
from tests.flow import replay
from tests.flow.accident import Lucky, planted, rules_with
from tests.flow.test_stories import BETTER
from tests.flow.world import Player, World

CROWNED, ROUNDS = 3, 5


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_validator_killed_after_every_kind_of_event_ends_like_one_that_was_not(tmp_path: Path, flow_data: Path):
    """From the first pool over a crown to the demotion that takes it back."""
    twin, undisturbed, killed = (World(tmp_path / name, flow_data, (replay.MINER,), rules=rules_with(3)) for name in ("a", "b", "c"))
    lucky = Lucky(values=BETTER, multiplier=planted(twin, crowned=CROWNED), king=genesis_recipe().normalised_digest())
    undisturbed.play([Player(name=replay.MINER, source=lucky)], rounds=ROUNDS)
    at = replay.moments(replay.events(undisturbed))
    kills = replay.replay(killed, replay.record(undisturbed), rounds=ROUNDS, at=at)

    assert {"crowned", "demoted"} <= {kind for kind, _, _ in replay.events(undisturbed)}
    assert replay.events(killed) == replay.events(undisturbed)
    assert replay.objects(killed) == replay.objects(undisturbed)
    assert replay.chain_state(killed) == replay.chain_state(undisturbed)
    assert kills == len(at)
