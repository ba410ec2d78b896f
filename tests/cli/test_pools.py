"""Hidden pools from the command line: made, checked, refreshed, and refused with a way out."""

import shutil
import stat
from pathlib import Path

import pytest

from ralph.config import load_config, save_config
from ralph.data.shards import pool_commitment
from tests.cli.network import ralph


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for number in range(900):
        (folder / f"{number}.txt").write_text(f"Story {number}: " + f"the king of {number % 37} met the miner of {number % 41}. " * 6)
    return folder


@pytest.fixture
def copy(network: Path, small_data: Path, tmp_path: Path) -> Path:
    """A validator's configuration over copies of the network's data; returns the TOML."""
    shutil.copytree(small_data, tmp_path / "data")
    places = {name: tmp_path / "data" / name for name in ("public", "hidden", "hidden.key")}
    config = load_config(network / "validator" / "config.toml")
    changes = {"data": places["public"], "hidden": places["hidden"], "hidden_key": places["hidden.key"]}
    save_config(tmp_path / "config.toml", config.model_copy(update=changes))
    return tmp_path / "config.toml"


def test_two_validators_prepare_disjoint_pools_of_one_corpus(text: Path, tmp_path: Path) -> None:
    made = []
    for number in range(2):
        place = tmp_path / str(number)
        words = ["--out", place / "public", "--hidden", place / "hidden", "--key", place / "secret", "--pool", number, "--pools", 2]
        done = ralph("data", "prepare", "--source", "text", text, *words, "--vocabulary", 300, "--workers", 1, "--json")
        assert done.status == 0, done.err
        made.append(done.json)
        assert stat.S_IMODE((place / "secret").stat().st_mode) == 0o600
        assert ralph("data", "verify", place / "hidden", "--key", place / "secret").status == 0
        missing = ralph("data", "verify", place / "hidden")
        assert missing.status == 1
        assert "hidden.key" in missing.out
    assert made[0]["manifest"] == made[1]["manifest"]
    assert made[0]["commitment"] != made[1]["commitment"] == pool_commitment(tmp_path / "1" / "hidden").digest().hex()


def test_a_pool_that_does_not_exist_is_refused(text: Path, tmp_path: Path) -> None:
    words = ["--out", tmp_path / "public", "--hidden", tmp_path / "hidden", "--pool", 2, "--pools", 2]
    done = ralph("data", "prepare", "--source", "text", text, *words)
    assert done.status == 3
    assert "there is no pool 2 of 2" in done.err


def test_a_pool_of_the_configuration_is_verified_with_its_key(copy: Path) -> None:
    assert ralph("data", "verify", "--config", copy).status == 0
    path = copy.parent / "data" / "hidden" / "confirm.sealed"
    path.write_bytes(path.read_bytes()[:-1])
    done = ralph("data", "verify", "--config", copy)
    assert done.status == 1
    assert "OPS-DATA" in done.out
    assert "confirm.sealed was not sealed with the key" in done.out


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda key: key.unlink(), "there is no key file"),
        (lambda key: key.chmod(0o644), "chmod 600"),
        (lambda key: key.write_bytes(bytes(64)), "is no key of a hidden pool"),
    ],
    ids=["missing", "open to others", "damaged"],
)
def test_a_validator_does_not_start_without_a_good_key(copy: Path, spoil, said: str) -> None:
    spoil(copy.parent / "data" / "hidden.key")
    for words in (("doctor",), ("validator", "run")):
        done = ralph(*words, "--config", copy)
        assert done.status != 0
        assert said in done.out + done.err
        assert "OPS-DATA" in done.out + done.err or "ralph data verify" in done.out + done.err


def test_a_validator_needs_the_key_in_its_configuration(copy: Path) -> None:
    save_config(copy, load_config(copy).model_copy(update={"hidden_key": None}))
    done = ralph("validator", "run", "--config", copy)
    assert done.status == 3
    assert "needs `hidden` and `hidden_key`" in done.err
    assert "hidden_key" in ralph("config", "check", "--config", copy).out


def test_doctor_says_that_a_rotation_scores_more_than_a_tenth(scoring: Path) -> None:
    done = ralph("config", "check", "--config", scoring)
    assert done.status == 0, done.out
    assert "a rotation scores 32 of the" in done.out
    assert "a tenth is meant" in done.out


def test_doctor_refuses_a_pool_with_fewer_documents_than_a_rotation_scores(copy: Path) -> None:
    done = ralph("config", "check", "--config", copy)
    assert done.status == 3, done.out
    assert "a rotation scores 640 documents of shard confirm, which has" in done.out


def test_a_pool_is_refreshed_with_newer_text(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "newer"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number}.txt").write_text(f"News {number}: " + f"the weather of day {number} was like day {number % 7}. " * 6)
    done = ralph("data", "refresh", tmp_path / "new", f"docs={folder}", "--config", copy, "--json")
    assert done.status == 0, done.err
    old, new = pool_commitment(copy.parent / "data" / "hidden"), pool_commitment(tmp_path / "new")
    assert new.previous == old.digest()
    assert done.json["commitment"] == new.digest().hex()
    assert done.json["stayed"]["screen"] == old.shard("screen").documents - -(-old.shard("screen").documents // 10)
    assert ralph("data", "verify", tmp_path / "new", "--key", copy.parent / "data" / "hidden.key").status == 0
    again = ralph("data", "refresh", tmp_path / "other", f"docs={folder / '1.txt'}", "--config", copy)
    assert again.status == 3
    assert "add newer text" in again.err
