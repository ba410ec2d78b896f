"""A king who was lucky at his crown is rolled back by real runs, the king before reigns and earns again, and his challenger is not lost."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from ralph.auditor.audit import audit
from ralph.auditor.report import Report, Verdict
from ralph.chain.local import LocalChain
from ralph.protocol.patch import RecipeTree
from ralph.protocol.reasons import Reason
from ralph.repository.genesis import genesis_recipe
from ralph.repository.git import RecipeRepository
from tests.flow.accident import BOMB, Lucky, planted, rules_with
from tests.flow.world import KnobEdit, Player, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FIRST, SECOND, THIRD = {"learning_rate": 0.0035}, {"learning_rate": 0.009}, {"learning_rate": 0.008}
CROWNED, FALLEN, ROUNDS = 6, 7, 9
NAMES = ("steady", "lucky", "patient")


@dataclass(slots=True, kw_only=True)
class Patient(KnobEdit):
    """Submits to the lucky king, and the same idea again to whoever comes after him."""

    begun: bool = False

    def start(self, king: RecipeTree) -> None:
        self.begun = self.begun or b"initial_seed" in king.files["train.py"]
        if self.begun:
            self.made, self.used = self.make(king), False


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, flow_data: Path):
    home = tmp_path_factory.mktemp("demotion")
    rules = rules_with(4)
    multiplier = planted(World(home / "twin", flow_data, NAMES, rules=rules), crowned=CROWNED)
    world = World(home / "world", flow_data, NAMES, rules=rules)
    steady = KnobEdit(values=FIRST)
    first = steady.make(genesis_recipe()).tree
    players = [
        Player(name="steady", source=steady),
        Player(name="lucky", source=Lucky(values=SECOND, multiplier=multiplier, king=first.normalised_digest())),
        Player(name="patient", source=Patient(values=THIRD)),
    ]
    return world, world.play(players, rounds=ROUNDS), first


def test_a_lucky_king_is_rolled_back_by_runs_after_his_crown(story):
    world, history, first = story
    records = [entry.signed.record for entry in history.entries]
    assert [(one.round, one.crown.hotkey) for one in records if one.crown] == [
        (3, world.devnet.hotkeys["steady"]),
        (CROWNED, world.devnet.hotkeys["lucky"]),
    ]
    demotion = records[FALLEN].demotion
    assert demotion is not None
    assert (demotion.hotkey, demotion.reason, demotion.restored) == (world.devnet.hotkeys["lucky"], "STA-ROLLBACK", first.digest())
    assert records[CROWNED].crown.gain_bpb > 0


def test_the_king_before_reigns_and_earns_again_and_the_demoted_one_no_more(story):
    world, history, first = story
    assert [one.standing for one in history.throne.lineage] == ["dethroned", "restored", "demoted"]
    assert history.throne.king.tree == first.digest()
    paid = asyncio.run(world.chain_weights())
    assert paid == world.expected_weights(history)
    assert paid[world.devnet.hotkeys["steady"]] > 0
    assert world.devnet.hotkeys["lucky"] not in paid


def test_the_tree_of_the_king_before_is_back_on_the_main_line(story):
    world, _, first = story
    repository = RecipeRepository.open(world.devnet.config("validator").parent / "recipe.git")
    assert [one.tag for one in repository.lineage()] == ["recipe-v1.0.0", "recipe-v1.1.0", "recipe-v1.2.0", "recipe-v1.2.1"]
    assert repository.tree("recipe-v1.2.1") == first


def test_a_challenger_of_the_demoted_king_is_not_lost(story):
    world, history, _ = story
    outcomes = world.outcomes(history, "patient")
    assert outcomes[0] == (FALLEN, "void", Reason.STA_DEMOTED.value)
    assert outcomes[1][:2] == (FALLEN + 1, "screened")


def test_an_auditor_reproduces_the_demotion(story):
    world, _, _ = story

    assert audited(world).findings == ()
    assert audited(world).verdict is Verdict.REPRODUCED


def audited(world: World) -> Report:
    async def report() -> Report:
        chain = LocalChain.connect(world.devnet.chain)
        try:
            return await audit(chain=chain, store=world.store, profile=world.devnet.profile)
        finally:
            await chain.close()

    return asyncio.run(report())


def test_a_king_with_a_bomb_is_demoted_beside_the_reference_and_no_round_is_held(tmp_path: Path, flow_data: Path):
    """T40, with real runs: he blows up on a seed of his reign, twice, and the genesis recipe trains on it, twice."""
    rules, names = rules_with(2, pool=7), ("lucky",)
    multiplier = planted(World(tmp_path / "twin", flow_data, names, rules=rules), crowned=3)
    world = World(tmp_path / "world", flow_data, names, rules=rules)
    source = Lucky(values={"learning_rate": 0.01}, multiplier=multiplier, king=genesis_recipe().normalised_digest(), harm=BOMB)
    history = world.play([Player(name="lucky", source=source)], rounds=5)
    record = history.entries[4].signed.record
    assert record.demotion is not None
    assert (record.demotion.reason, record.demotion.hotkey) == ("RUN-KING", world.devnet.hotkeys["lucky"])
    evidence = [item.measurement for item in record.measurements if item.measurement.digest() in record.demotion.evidence]
    assert sorted((one.role, one.stage, one.score is not None) for one in evidence) == [
        ("king", "pool", False),
        ("king", "repeat", False),
        ("reference", "canary", True),
        ("reference", "repeat", True),
    ]
    assert history.throne.king.tree == world.devnet.profile.rules.genesis_tree
    assert asyncio.run(world.chain_weights()) == world.expected_weights(history)
    assert audited(world).verdict is Verdict.REPRODUCED
