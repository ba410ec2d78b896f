"""The commands around a network that `ralph init` made."""

import re
import shlex
import sqlite3
from pathlib import Path

import pytest

from ralph.chain.wallet import Hotkey, RecordKey
from ralph.cli.main import app
from ralph.config import load_config, load_profile
from tests.cli.network import ralph


def invoke(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words])
    return int(ended.value.code or 0), capsys.readouterr().out


def test_init_names_commands_that_exist_and_files_that_are_there(small_data: Path, tmp_path: Path) -> None:
    home = tmp_path / "a home"
    done = ralph("init", "--home", home, "--seed", 8, "--data", small_data)
    assert done.status == 0, done.err
    lines = [shlex.split(line) for line in re.findall(r"ralph .*", done.out)]
    assert [words[1] for words in lines] == ["chain", "validator", "miner", "status", "audit"]
    assert all(Path(word).is_file() for words in lines for word in words if word.startswith("/"))
    assert (tmp_path / "a home" / "chain.seed").is_file()


def test_the_same_seed_makes_the_same_network(network: Path, small_data: Path, tmp_path: Path) -> None:
    again = ralph("init", "--home", tmp_path / "net", "--seed", 7, "--miner", "alice", "--data", small_data, "--json").json
    assert again["hotkeys"]["alice"] == Hotkey.load(network / "alice" / "wallets", "alice", "default").key_id
    assert load_profile(network / "devnet.toml") == load_profile(tmp_path / "net" / "devnet.toml")


def test_config_show_prints_every_value_with_its_origin(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, "config", "show", "--config", network / "alice" / "config.toml")
    assert status == 0
    assert f"chain = {network / 'chain.sqlite'}  (file)" in out
    assert "hidden = not set  (default)" in out
    assert len([line for line in out.splitlines() if line.endswith(("(file)", "(default)"))]) == 23


def test_config_check_checks_everything_that_a_configuration_names(scoring: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, "config", "check", "--config", scoring)
    assert status == 0, out
    names = {line.split()[1].rstrip(":") for line in out.splitlines() if line.startswith("ok")}
    assert names == {"profile", "recipe", "data", "hidden", "hotkey", "record", "store", "chain"}


def test_doctor_finds_nothing_wrong_here(scoring: Path) -> None:
    """On a machine that can run the tests, which is what `make test` asks for."""
    done = ralph("doctor", "--config", scoring, "--json")
    wrong = [one for one in done.json["checks"] if one["state"] == "failed"]
    assert (done.status, wrong) == (0, [])
    assert {"python", "torch", "git", "disk", "time", "sandbox", "chain", "data"} <= {one["name"] for one in done.json["checks"]}


def test_doctor_says_how_to_fix_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RALPH_HOME", str(tmp_path))
    monkeypatch.setattr("ralph.cli.probes.MIN_FREE_BYTES", 1 << 60)
    status, out = invoke(capsys, "doctor")
    assert status == 1
    assert re.search(r"failed +disk: .* GiB free at .*\n +fix: free space there, or set RALPH_HOME", out)
    assert out.splitlines()[-1] == "1 things to fix"


def test_status_of_a_network_without_records_is_incomplete(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, "status", "--config", network / "alice" / "config.toml")
    assert status == 2
    assert "no record yet" in out
    assert "king recipe-v1.0.0: the genesis recipe" in out


def test_keys_show_prints_public_halves_only(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, "keys", "show", "--config", network / "validator" / "config.toml")
    config = load_config(network / "validator" / "config.toml")
    assert config.keys.record_key is not None
    assert status == 0
    assert RecordKey.load(config.keys.record_key).key_id in out
    secret = config.keys.record_key.read_bytes()[:32].hex()
    assert secret not in out


def test_new_keys_are_private_files_that_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, "keys", "new", "--wallets", tmp_path, "--coldkey", "me", "--record-key", tmp_path / "record.key")
    assert status == 0
    assert Hotkey.load(tmp_path, "me", "default").key_id in out
    assert RecordKey.load(tmp_path / "record.key").key_id in out
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "record.key", tmp_path / "me" / "hotkeys" / "default"))


def test_keys_new_asks_what_to_make(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(capsys, "keys", "new")[0] == 3


def test_verified_data_are_exactly_what_their_manifest_says(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, "data", "verify", "--config", network / "validator" / "config.toml")
    assert status == 0
    assert out.count("exactly what its manifest says") == 2


def test_data_verify_asks_for_a_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(capsys, "data", "verify")[0] == 3


def test_the_same_training_gives_the_same_root_and_prints_the_summary(network: Path, tmp_path: Path) -> None:
    config = network / "alice" / "config.toml"
    first = ralph("train", "--rung", "C1", "--seed", 5, "--config", config, "--documents", 16)
    again = ralph("train", "--rung", "C1", "--seed", 5, "--config", config, "--documents", 16, "--json")
    assert (first.status, again.status) == (0, 0), first.err + again.err
    assert f"transcript_root: {again.json['transcript_root']}\n" in first.out
    assert f"weights: {again.json['weights']}\n" in first.out
    assert f"tokens_served: {again.json['tokens_served']}\n" in first.out
    summary = dict(line.split(":") for line in first.out.partition("---\n")[2].splitlines())
    assert float(summary["val_bpb"]) == pytest.approx(again.json["val_bpb"], abs=1e-6)
    assert set(summary) == {
        "val_bpb",
        "training_seconds",
        "total_seconds",
        "peak_memory_mb",
        "depth",
        "mfu_percent",
        "total_tokens_M",
        "num_steps",
        "num_params_M",
    }
    assert re.search(r"train C1: \d+/\d+ loss \d+\.\d{4} nats, [\d,]+ tokens/s", first.err)
    assert again.err == ""
    two = ralph(
        "train", "--rung", "C1", "--seed", 5, "--config", config, "--documents", 16, "--ranks", 2, "--out", tmp_path / "two", "--json"
    )
    assert two.json["tokens_served"] == again.json["tokens_served"]
    assert two.json["val_bpb"] == pytest.approx(again.json["val_bpb"], abs=1e-4)
    watched = ralph("train", "--rung", "C1", "--seed", 5, "--config", config, "--documents", 16, "--snapshots", "--json")
    assert watched.json["transcript_root"] == again.json["transcript_root"]
    assert list(watched.json["snapshots"]) == ["0", "20", "40", "60", "80", "100"]
    assert watched.json["snapshots"]["100"] == pytest.approx(again.json["val_bpb"], abs=1e-9)


def test_nothing_of_a_read_only_command_changes_a_network(network: Path) -> None:
    """The fixture is shared: whatever ran before left the chain at its first blocks."""
    with sqlite3.connect(network / "chain.sqlite") as db:
        (head,) = db.execute("SELECT max(number) FROM blocks").fetchone()
    db.close()
    assert head == 0
    assert list((network / "store" / "objects").iterdir()) == []
