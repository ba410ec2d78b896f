from pathlib import Path

import pytest

from tests.cli.network import prepare_small, ralph


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_small(tmp_path_factory.mktemp("cli-data"))


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Path:
    """The home of a network with one miner; nothing runs and nothing may change it."""
    home = tmp_path_factory.mktemp("cli") / "net"
    done = ralph("init", "--home", home, "--seed", 7, "--miner", "alice", "--data", small_data, "--json")
    assert done.status == 0, done.err
    assert done.json["seed"] == 7
    return home
