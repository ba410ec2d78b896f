"""Fixtures of the chain tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chain.support import LocalWorld


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., LocalWorld]]:
    """Make local chains with other parameters than the defaults."""
    worlds: list[LocalWorld] = []

    def make(**parameters: int) -> LocalWorld:
        directory = tmp_path / f"world-{len(worlds)}"
        directory.mkdir()
        worlds.append(LocalWorld(directory, **parameters))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def local(make_world: Callable[..., LocalWorld]) -> LocalWorld:
    return make_world()
