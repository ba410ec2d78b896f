from pathlib import Path

import pytest

from ralph.config import load_config, load_profile, save_config, save_profile
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


@pytest.fixture(scope="session")
def scoring(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validator's configuration under Rules that score no more documents than the small pool has; returns the TOML."""
    place = tmp_path_factory.mktemp("scoring")
    profile = load_profile(network / "devnet.toml")
    hidden = profile.rules.hidden.model_copy(update={"screen": 16, "confirm": 32, "audit": 16})
    save_profile(place / "devnet.toml", profile.model_copy(update={"rules": profile.rules.model_copy(update={"hidden": hidden})}))
    config = load_config(network / "validator" / "config.toml")
    save_config(place / "config.toml", config.model_copy(update={"profile": place / "devnet.toml"}))
    return place / "config.toml"
