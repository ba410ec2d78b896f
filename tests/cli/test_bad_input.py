"""Whatever a user or a machine gets wrong: one line with a reason code, a next step, the right status, no stack trace."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ralph.cli.main import app
from ralph.config import load_config
from ralph.sandbox.bubblewrap import SEARCH
from tests.cli.network import Done, ralph

UNSHARE = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")


def assert_refused(done: Done, status: int, code: str, *words: str) -> None:
    assert done.status == status, done.err
    assert "Traceback" not in done.err
    said = [line for line in done.err.splitlines() if line.startswith(f"{code}: ")]
    assert len(said) == 1, done.err
    assert all(word in said[0] for word in words), said
    assert done.err.splitlines()[-1].startswith("  ")


def copied(network: Path, tmp_path: Path) -> Path:
    """Return an own copy of the network; the configuration files lead to it."""
    home = tmp_path / "net"
    shutil.copytree(network, home)
    for config in home.glob("*/config.toml"):
        config.write_text(config.read_text().replace(str(network), str(home)))
    return home


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text + "\n[[[", "is not TOML"),
        (lambda text: "shortcut = true\n" + text, "shortcut: Extra inputs are not permitted"),
        (lambda text: text.replace("slots = 2", 'slots = "many"'), "slots: Input should be a valid integer"),
        (lambda text: text.replace("slots = 2", "slots = 0"), "slots: Input should be greater than or equal to 1"),
        (lambda text: text.replace("state =", "#"), "state: Field required"),
        (lambda text: text.replace('"optimiser"', '"oracle"'), "research.program: Input should be"),
    ],
)
def test_a_configuration_that_cannot_be_used(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, said: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(change((network / "alice" / "config.toml").read_text()))  # type: ignore[operator]
    with pytest.raises(SystemExit) as ended:
        app(["status", "--config", str(config)])
    shown = capsys.readouterr()
    assert_refused(Done(status=int(ended.value.code or 0), out=shown.out, err=shown.err), 3, "OPS-CONFIG", str(config), said)


@pytest.mark.parametrize("node", ["miner", "validator", "auditor"])
def test_an_entry_point_refuses_a_bad_configuration_as_the_command_does(node: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("shortcut = true\n")
    script = Path(__file__).parents[2] / "neurons" / f"{node}.py"
    done = subprocess.run([sys.executable, script, "--config", config], capture_output=True, text=True, timeout=60, check=False)
    assert_refused(Done(status=done.returncode, out=done.stdout, err=done.stderr), 3, "OPS-CONFIG", str(config))


def test_a_configuration_that_is_not_there() -> None:
    assert_refused(ralph("miner", "run", "--config", "/nonexistent.toml"), 3, "OPS-CONFIG", "`ralph init` writes one")


def test_a_configuration_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe\x00")
    assert_refused(ralph("status", "--config", tmp_path / "config.toml"), 3, "OPS-CONFIG", "cannot be read")


def test_a_configuration_that_is_a_directory(tmp_path: Path) -> None:
    assert_refused(ralph("config", "show", "--config", tmp_path), 3, "OPS-CONFIG", "cannot be read")


def test_a_miner_started_with_the_configuration_of_a_validator(network: Path) -> None:
    assert_refused(ralph("miner", "run", "--config", network / "validator" / "config.toml"), 3, "OPS-CONFIG", "needs `validator`")


def test_a_validator_started_with_the_configuration_of_a_miner(network: Path) -> None:
    assert_refused(ralph("validator", "run", "--config", network / "alice" / "config.toml"), 3, "OPS-CONFIG", "needs `hidden`")


def test_a_profile_with_a_crown_rule_that_does_not_fit_together(network: Path, tmp_path: Path) -> None:
    home = copied(network, tmp_path)
    profile = home / "devnet.toml"
    profile.write_text(re.sub(r'^sigma = ".*"$', 'sigma = "0.0"', profile.read_text(), flags=re.MULTILINE))
    assert_refused(ralph("status", "--config", home / "alice" / "config.toml"), 3, "OPS-CONFIG", "sigma")


def test_a_profile_of_another_chain(network: Path, tmp_path: Path) -> None:
    home = copied(network, tmp_path)
    profile = home / "devnet.toml"
    lines = [f'chain = "{"0" * 64}"' if line.startswith("chain =") else line for line in profile.read_text().splitlines()]
    profile.write_text("\n".join(lines))
    assert_refused(ralph("status", "--config", home / "alice" / "config.toml"), 3, "OPS-CONFIG", "another chain")


def test_a_chain_that_is_not_there_is_status_4(network: Path, tmp_path: Path) -> None:
    home = copied(network, tmp_path)
    (home / "chain.sqlite").unlink()
    assert_refused(ralph("status", "--config", home / "alice" / "config.toml"), 4, "OPS-INFRA", "chain.sqlite")


def test_a_chain_that_is_no_chain(network: Path, tmp_path: Path) -> None:
    home = copied(network, tmp_path)
    with sqlite3.connect(home / "chain.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert_refused(ralph("audit", "run", "--config", home / "alice" / "config.toml"), 3, "OPS-CONFIG", "schema version 99")


def test_a_truncated_shard(small_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "public"
    shutil.copytree(small_data / "public", data)
    shard = next(path for path in sorted(data.iterdir()) if path.name.startswith("train-"))
    shard.write_bytes(shard.read_bytes()[:-100])
    assert_refused(ralph("train", "--data", data), 3, "OPS-DATA", shard.name)
    done = ralph("data", "verify", data, "--json")
    assert done.status == 1
    assert [one["file"] for one in done.json[str(data)]] == [shard.name]


def test_a_wrong_tokenizer(small_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "public"
    shutil.copytree(small_data / "public", data)
    tokenizer = data / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes().replace(b"{", b"{ ", 1))
    assert_refused(ralph("train", "--data", data), 3, "OPS-DATA", "tokenizer.json")


def test_data_of_another_network(network: Path, tmp_path: Path) -> None:
    home = copied(network, tmp_path)
    config = home / "alice" / "config.toml"
    other = tmp_path / "other"
    shutil.copytree(Path(load_config(config).data), other)
    manifest = other / "manifest.cbor"
    manifest.write_bytes(manifest.read_bytes().replace(b"documents", b"documenty"))
    lines = [f'data = "{other}"' if line.startswith("data =") else line for line in config.read_text().splitlines()]
    config.write_text("\n".join(lines))
    assert_refused(ralph("train", "--config", config), 3, "OPS-DATA")


def test_a_key_that_is_not_there(network: Path, tmp_path: Path) -> None:
    home = copied(network, tmp_path)
    (home / "alice" / "wallets" / "alice" / "hotkeys" / "default").unlink()
    config = home / "alice" / "config.toml"
    assert_refused(ralph("keys", "show", "--config", config), 3, "OPS-CONFIG", "there is no key file")
    assert ralph("config", "check", "--config", config).status == 3


def test_a_record_key_that_others_can_read(network: Path, tmp_path: Path) -> None:
    home = copied(network, tmp_path)
    (home / "validator" / "record.key").chmod(0o644)
    assert_refused(ralph("keys", "show", "--config", home / "validator" / "config.toml"), 3, "OPS-CONFIG", "chmod 600")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    assert ralph("keys", "new", "--wallets", tmp_path).status == 0
    assert_refused(ralph("keys", "new", "--wallets", tmp_path), 3, "OPS-CONFIG", "exists already")


def test_a_network_is_never_overwritten(network: Path) -> None:
    assert_refused(ralph("init", "--home", network), 3, "OPS-CONFIG", "there is a network in")


def test_a_rung_that_does_not_exist() -> None:
    assert_refused(ralph("train", "--rung", "S9"), 3, "OPS-CONFIG", "'S9'", "C1, C2, C3")


def test_data_that_were_never_prepared(tmp_path: Path) -> None:
    assert_refused(ralph("train", environment={"RALPH_HOME": str(tmp_path)}), 3, "OPS-DATA", "ralph data prepare")


def test_a_recipe_over_the_budget_is_status_5(small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "base.toml").write_text(
        "[batch_rows]\nvalue = 1000000\n[mixture_code]\nvalue = 1.0\n[mixture_docs]\nvalue = 1.0\n"
    )
    assert_refused(ralph("train", "--recipe", tmp_path, "--data", small_data / "public"), 5, "RUN-BUDGET")


def test_a_recipe_that_crashes_says_where_and_cannot_steer_the_terminal(small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "base.toml").write_text("[batch_rows]\nvalue = 16\n[mixture_code]\nvalue = 1.0\n[mixture_docs]\nvalue = 1.0\n")
    (tmp_path / "train.py").write_text("raise ValueError('boom \\x1b[2J')\n")
    done = ralph("train", "--recipe", tmp_path, "--data", small_data / "public")
    assert done.status == 1
    assert done.err.splitlines()[-2].startswith(("RUN-IMPORT: ", "RUN-CRASH: "))
    assert "\x1b" not in done.err + done.out


def test_a_recipe_that_is_not_there(small_data: Path) -> None:
    assert_refused(ralph("train", "--recipe", "/nonexistent", "--data", small_data / "public"), 3, "OPS-CONFIG", "/nonexistent")


@pytest.mark.parametrize("command", ["train", "doctor"])
def test_a_machine_without_bubblewrap(small_data: Path, command: str) -> None:
    """In a mount namespace of its own, where something that cannot be executed lies over bubblewrap."""
    bwrap = shutil.which("bwrap", path=SEARCH)
    assert bwrap is not None
    mask = (*UNSHARE, "sh", "-c", 'mount --bind /dev/null "$0" && exec "$@"', bwrap)
    if command == "doctor":
        done = ralph("doctor", "--json", prefix=mask)
        assert done.status == 1
        (sandbox,) = [one for one in done.json["checks"] if one["name"] == "sandbox"]
        assert sandbox["state"] == "failed"
        assert "apt install bubblewrap" in sandbox["fix"]
    else:
        assert_refused(ralph("train", "--data", small_data / "public", prefix=mask), 3, "OPS-SANDBOX", "apt install bubblewrap")


@pytest.mark.parametrize("size_kib", [16, 80])
def test_a_full_disk_is_said_and_is_not_the_users_configuration(small_data: Path, tmp_path: Path, size_kib: int) -> None:
    """On a file system that is too small: for the keys, and for the chain."""
    disk = (*UNSHARE, "sh", "-c", f'mount -t tmpfs -o size={size_kib}k tmpfs "$0" && exec "$@"', str(tmp_path))
    assert_refused(ralph("init", "--home", tmp_path / "net", "--data", small_data, prefix=disk), 2, "OPS-DISK")


def test_a_run_is_only_continued_where_one_is_unfinished(small_data: Path, tmp_path: Path) -> None:
    words = ("train", "--data", small_data / "public", "--out", tmp_path / "run", "--resume")
    assert_refused(ralph(*words), 3, "OPS-CONFIG", "no unfinished run", "leave --resume out")


def test_a_configuration_that_the_recipe_does_not_have(small_data: Path) -> None:
    assert_refused(ralph("train", "--data", small_data / "public", "--variant", "weak"), 3, "OPS-CONFIG", "only base, strong")


def test_ranks_that_cannot_share_a_batch(small_data: Path, tmp_path: Path) -> None:
    words = ("train", "--data", small_data / "public", "--out", tmp_path / "run", "--ranks", 3)
    assert_refused(ralph(*words), 3, "OPS-CONFIG", "16 rows", "3 ranks")


def test_a_rung_of_gpus(small_data: Path, tmp_path: Path) -> None:
    words = ("train", "--data", small_data / "public", "--out", tmp_path / "run", "--rung", "S1")
    assert_refused(ralph(*words), 3, "OPS-CONFIG", "trains on an NVIDIA GPU", "no /dev/nvidia0", "C1 to C3")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--source", "text"), "OPS-CONFIG", "needs files or directories"),
        (("--source", "text", "/nonexistent"), "OPS-DATA", "/nonexistent does not exist"),
        (("some.txt",), "OPS-CONFIG", "takes no paths"),
        (("--tokenizer", "gpt2", "--merges", "/nonexistent"), "OPS-DATA", "cannot be read"),
    ],
)
def test_text_that_is_not_there(tmp_path: Path, words: tuple[str, ...], code: str, said: str) -> None:
    done = ralph("data", "prepare", "--out", tmp_path / "public", "--hidden", tmp_path / "hidden", *words)
    assert_refused(done, 3, code, said)
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_no_document_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"txt": "not"}\n', encoding="utf-8")
    done = ralph("data", "prepare", "--out", tmp_path / "p", "--hidden", tmp_path / "h", "--source", "text", tmp_path / "a.jsonl")
    assert_refused(done, 3, "OPS-DATA", "a.jsonl, line 2")
