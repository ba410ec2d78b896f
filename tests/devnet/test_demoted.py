"""A demo in which a king falls: what the tables, the page and the picture say of him and of the one who reigns again."""

from dataclasses import replace
from pathlib import Path

import pytest

from ralph_devnet import plot
from ralph_devnet.facts import KingFact, kings
from ralph_devnet.report import page
from ralph_devnet.view import king_table
from tests.devnet.material import outcome_of
from tests.devnet.synthetic import Entering, World
from tests.devnet.test_view import shown


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Ada is crowned, turns out worse than the genesis recipe, and bea is crowned after that."""
    path = tmp_path_factory.mktemp("demoted")
    world = World(path=path, nodes=("ada", "bea"), quality={"genesis": 2.87, "ada-1": 2.70, "bea-1": 2.60})
    world.play()
    world.play_until_crowned(Entering(name="ada", tree="ada-1", change="a lucky draw"))
    world.quality = {**world.quality, "ada-1": 3.20}
    for _ in range(3):
        world.play()
    return world.play_until_crowned(Entering(name="bea", tree="bea-1", change="rope"))


def test_the_facts_name_the_stretches_on_the_throne(world: World) -> None:
    genesis, ada, bea = kings(world.history.entries, world.names)
    assert [one.standing for one in (genesis, ada, bea)] == ["dethroned", "demoted", "probation"]
    assert genesis.again == ((ada.last_round + 1, bea.crowned_round),)
    assert genesis.last_round == ada.crowned_round
    assert bea.parent == genesis.tree
    assert (ada.title, bea.title) == ("recipe-v1.1.0 (demoted)", "recipe-v1.2.0")


def test_tables_page_and_picture_show_a_demotion(world: World) -> None:
    outcome = outcome_of(world)
    assert "recipe-v1.1.0 (demoted)" in shown(king_table(outcome.kings))
    drawn = plot.svg(outcome, label="lineage")
    assert "recipe-v1.1.0 by ada" in drawn
    assert "recipe-v1.1.0 (demoted)" in page(outcome, picture=drawn, diffs={})


def test_the_picture_changes_with_the_stretches(world: World) -> None:
    outcome = outcome_of(world)
    forgotten: list[KingFact] = [replace(king, again=()) for king in outcome.kings]
    assert plot.svg(replace(outcome, kings=tuple(forgotten)), label="x") != plot.svg(outcome, label="x")


def test_a_history_that_ends_with_a_demotion_is_drawn(world: World, tmp_path: Path) -> None:
    end = next(index for index, entry in enumerate(world.history.entries) if entry.signed.record.demotion)
    genesis, ada = kings(world.history.entries[: end + 1], world.names)
    assert (genesis.standing, genesis.reigns, ada.reigns) == ("restored", True, False)
    plot.png(replace(outcome_of(world), kings=(genesis, ada), rounds=end + 1), tmp_path / "end.png")
    assert (tmp_path / "end.png").stat().st_size > 1000
