"""Whole stories with real training, told by the signed Records."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ralph.miner.announce import Entry
from ralph.miner.prove import Files
from ralph.miner.services import MinerServices
from ralph.protocol.patch import RecipeTree
from ralph.protocol.reasons import Reason
from ralph_devnet.attackers.luck import lucky
from ralph_devnet.attackers.sources import Copy, Peek, Scripted
from tests.flow.world import FixedStart, GoesSilentError, KnobEdit, Player, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BETTER = {"learning_rate": 0.01}


def dies(services: MinerServices, entry: Entry, seeds: Sequence[int]) -> Files:
    """Announce, look at the seeds, and die."""
    raise GoesSilentError


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, flow_data: Path):
    names = ("honest", "copycat", "peeker", "glimpser", "causal", "lucky", "plain", "preloaded")
    world = World(tmp_path_factory.mktemp("world"), flow_data, names)
    players = [
        Player(name="honest", source=KnobEdit(values=BETTER)),
        Player(name="copycat", source=Copy(own=world.devnet.hotkeys["copycat"], store=world.store)),
        Player(name="peeker", source=Peek(per_mille=1000)),
        Player(name="glimpser", source=Peek(per_mille=50)),
        Player(name="causal", source=Peek(per_mille=0)),
        Player(name="lucky", source=KnobEdit(values={"beta1": 0.85}), prover=lucky),
        Player(name="plain", source=KnobEdit(values={"beta1": 0.84})),
        Player(name="preloaded", source=FixedStart(values={"learning_rate": 0.009})),
    ]
    return world, world.play(players, rounds=5)


def test_an_honest_improvement_becomes_king_after_screen_filter_and_proof(story):
    world, history = story
    states = [state for _, state, _ in world.outcomes(history, "honest")]
    assert states[:2] == ["screened", "proving"]
    assert states[-1] == "crowned"
    assert history.throne.king.hotkey == world.devnet.hotkeys["honest"]
    assert history.throne.king.tag == "recipe-v1.1.0"


def test_the_weights_on_chain_are_what_the_records_pay(story):
    world, history = story
    assert asyncio.run(world.chain_weights()) == world.expected_weights(history)
    assert world.expected_weights(history)[world.devnet.hotkeys["honest"]] > 0


def test_a_copy_with_a_comment_added_is_refused_and_its_original_is_not(story):
    world, history = story
    assert [reason for _, _, reason in world.outcomes(history, "copycat")] == [Reason.INT_DUP]


@pytest.mark.parametrize("name", ["peeker", "glimpser"])
def test_a_model_that_looks_ahead_is_refused(story, name):
    world, history = story
    assert [(state, reason) for _, state, reason in world.outcomes(history, name)] == [("rejected", Reason.FRD_CLAIM)]


def test_the_best_of_many_private_seeds_is_refused(story):
    world, history = story
    assert [(state, reason) for _, state, reason in world.outcomes(history, "lucky")] == [("rejected", Reason.FRD_REPLAY)]


def test_a_recipe_that_starts_from_the_same_weights_whatever_the_seed_is_refused_in_the_proof(story):
    world, history = story
    assert [(state, reason) for _, state, reason in world.outcomes(history, "preloaded")][-1] == ("rejected", Reason.RUN_INIT)


@pytest.mark.parametrize("name", ["causal", "plain"])
def test_an_honest_twin_is_measured_and_not_refused(story, name):
    world, history = story
    outcomes = world.outcomes(history, name)
    assert outcomes
    assert all(state not in ("rejected", "absent") for _, state, _ in outcomes)


def test_a_miner_who_announces_and_goes_silent_is_absent(tmp_path: Path, flow_data: Path):
    world = World(tmp_path / "world", flow_data, ("silent",))
    history = world.play([Player(name="silent", source=KnobEdit(values=BETTER), prover=dies)], rounds=2)
    assert [(state, reason) for _, state, reason in world.outcomes(history, "silent")] == [("absent", Reason.INT_ABSENT)]


@dataclass(kw_only=True)
class TwoIdeas:
    """A source that finds its second idea only when it is asked to go on, and never takes one back."""

    ideas: tuple[KnobEdit, ...]
    at: int = 0
    finished: bool = True

    def start(self, king: RecipeTree) -> None:
        for idea in self.ideas:
            idea.start(king)

    def step(self) -> None:
        """Do nothing: ideas come by themselves."""

    def candidate(self) -> Scripted | None:
        return self.ideas[self.at].made

    def more(self) -> bool:
        self.at += 1
        return self.at < len(self.ideas)


def test_a_miner_whose_patch_was_dropped_goes_on_with_the_next_and_never_sends_one_twice(tmp_path: Path, flow_data: Path):
    world = World(tmp_path / "world", flow_data, ("honest",))
    source = TwoIdeas(ideas=(KnobEdit(values={"learning_rate": 0.0005}), KnobEdit(values=BETTER)))
    history = world.play([Player(name="honest", source=source)], rounds=6)
    outcomes = [(state, reason) for _, state, reason in world.outcomes(history, "honest")]
    assert outcomes[:2] == [("dropped", Reason.STA_WORSE.value), ("screened", Reason.STA_CONTINUE.value)]
    assert "rejected" not in {state for state, _ in outcomes}
