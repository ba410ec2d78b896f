from pathlib import Path

import pytest

from tests.auditor.world import GENESIS, HIDDEN, World, edited, prepare_data


@pytest.fixture(scope="session")
def audited_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_data(tmp_path_factory.mktemp("audited-data"))


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory, audited_data: Path) -> World:
    """Five rounds: a pool, two announcements of which one is dropped and one never proves, a filter, a crown, and the round after."""
    world = World.create(tmp_path_factory.mktemp("audited") / "honest", audited_data)
    world.trees = {
        "alice": edited(GENESIS, "model.py", "depth = 2", "depth = 3"),
        "bob": edited(GENESIS, "config/base.toml", "value = 16", "value = 32"),
    }
    world.gains = {world.trees["alice"].digest(): 0.3, world.trees["bob"].digest(): -0.3}
    world.play()
    world.play(announce=("alice", "bob"))
    world.play()
    world.play()
    world.play()
    return world


@pytest.fixture
def world(honest: World, tmp_path: Path) -> World:
    """An own copy of the honest history, to go on from."""
    return honest.copy(tmp_path / "copy")


@pytest.fixture(scope="session")
def turning(honest: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The honest history up to the round before rotation 2."""
    world = honest.copy(tmp_path_factory.mktemp("turning") / "world")
    while len(world.records) < 2 * HIDDEN.rotation_rounds:
        world.play()
    return world


@pytest.fixture
def due(turning: World, tmp_path: Path) -> World:
    """A world in whose next round rotation 1 must be opened."""
    return turning.copy(tmp_path / "due")
