"""`ralph core` and `ralph init --core` as a person uses them: a made-up bundle, a server on this machine, a model of drawn weights."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ralph.cli.nodes import open_examinations, open_public_data
from ralph.config import load_config, load_profile, save_config
from ralph.errors import ConfigurationError
from ralph.evaluate.core22.tasks import TASKS
from ralph.protocol.network import LADDER
from tests.cli.network import ralph
from tests.evaluate.core22 import material
from tests.evaluate.core22.sharing import random_weights

LABELS = ("copa", "lambada_openai", "winograd", "bigbench_repeat_copy_logic")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = material.files(40, [task for task in TASKS if task.label in LABELS])
    return material.write_zip(tmp_path_factory.mktemp("core") / "bundle.zip", files)


@pytest.fixture
def address(bundle: Path) -> Iterator[str]:
    body = bundle.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/bundle.zip"
        server.shutdown()


def test_a_bundle_is_fetched_by_its_digest_and_shown(address: str, bundle: Path, tmp_path: Path) -> None:
    pin = hashlib.sha256(bundle.read_bytes()).hexdigest()
    done = ralph("core", "fetch", address, tmp_path / "b.zip", "--sha256", pin, "--json")
    assert done.status == 0, done.err
    assert set(done.json["tasks"]) == set(LABELS)
    assert len(done.json["left_out"]) == 22 - len(LABELS)
    shown = ralph("core", "show", tmp_path / "b.zip", "--task", "copa", "--items", 5, "--ids")
    assert shown.status == 0
    assert "5 of     40 items" in shown.out
    assert sum(text.startswith("copa/") for text in shown.out.splitlines()) == 5


def test_another_bundle_than_the_pinned_one_is_refused_and_not_kept(address: str, tmp_path: Path) -> None:
    done = ralph("core", "fetch", address, tmp_path / "b.zip", "--sha256", "0" * 64)
    assert done.status == 3
    assert "is pinned" in done.err
    assert not list(tmp_path.iterdir())
    assert "hexadecimal" in ralph("core", "fetch", address, tmp_path / "b.zip", "--sha256", "abc").err


def test_a_model_is_scored_by_both_tables(bundle: Path, small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(random_weights(LADDER[0], 300))
    asked = ["--task", "copa", "--task", "lambada_openai", "--items", 20, "--data", small_data / "public"]
    done = ralph("core", "score", bundle, "--weights", tmp_path / "weights.safetensors", *asked, "--json")
    assert done.status == 0, done.err
    assert done.json["name"] == "CORE over 2 of 22 tasks, at most 20 items of 2 of them"
    copa = done.json["tasks"]["copa"]
    assert copa["items"] == 20
    assert copa["centred_core_v1"] == pytest.approx(2 * copa["accuracy"] - 1)
    assert copa["gold_nats"] > 0 < copa["gold_bytes"]
    assert done.json["probes"] > 20


def test_what_cannot_be_scored_is_one_line_with_the_way_out(bundle: Path, small_data: Path, tmp_path: Path) -> None:
    words = ["core", "score", bundle, "--data", small_data / "public", "--weights", tmp_path / "none"]
    done = ralph(*words)
    assert done.status == 3
    assert "`ralph train` writes weights.safetensors" in done.err
    (tmp_path / "none").write_bytes(b"no weights")
    assert ralph(*words).status != 0
    missing = ralph(*words, "--task", "squad")
    assert missing.status == 3
    assert "no items of squad; it has copa" in missing.err
    assert "Traceback" not in done.err + missing.err


def test_a_network_can_guard_the_tasks_of_a_bundle_that_have_enough_items(bundle: Path, small_data: Path, tmp_path: Path) -> None:
    done = ralph("init", "--home", tmp_path / "net", "--seed", 7, "--data", small_data, "--core", bundle, "--core-items", 30, "--json")
    assert done.status == 0, done.err
    assert done.json["guarded"] == ["copa", "lambada_openai", "winograd"]
    config = load_config(tmp_path / "net" / "validator" / "config.toml")
    assert config.core == bundle
    guard = load_profile(config.profile).rules.guards.tasks
    assert guard is not None
    assert guard.items == 30
    shown = ralph("core", "show", bundle, "--config", tmp_path / "net" / "validator" / "config.toml")
    assert shown.status == 0
    assert guard.manifest.hex() in shown.out
    checked = ralph("config", "check", "--config", tmp_path / "net" / "validator" / "config.toml")
    assert "30 items of copa" in checked.out
    save_config(tmp_path / "without.toml", config.model_copy(update={"core": None}))
    assert "needs `core`" in ralph("config", "check", "--config", tmp_path / "without.toml").out
    few = ralph("init", "--home", tmp_path / "other", "--data", small_data, "--core", bundle, "--core-items", 3)
    assert few.status == 3
    assert "--core-items asks 3" in few.err


def test_a_network_without_a_bundle_guards_no_task(network: Path, bundle: Path) -> None:
    config = network / "validator" / "config.toml"
    assert load_profile(load_config(config).profile).rules.guards.exams == ()
    done = ralph("core", "show", bundle, "--config", config)
    assert done.status == 1
    assert "the Rules guard no tasks" in done.out


def items(path: Path, numbers: range, *, licence: str | None = "written here, CC0-1.0") -> Path:
    task = next(task for task in TASKS if task.label == "copa")
    lines = []
    for number in numbers:
        value = {**material.item(task, number), "type": task.type.value, "licence": licence}
        lines.append(json.dumps({name: field for name, field in value.items() if field is not None}))
    path.write_text("".join(text + "\n" for text in lines), encoding="utf-8")
    return path


def test_private_items_are_committed_to_added_to_and_renewed(tmp_path: Path) -> None:
    done = ralph("core", "private", "commit", tmp_path / "sealed", items(tmp_path / "a.jsonl", range(40)), "--json")
    assert done.status == 0, done.err
    assert sum(done.json["shards"].values()) == done.json["schemas"]["multiple_choice"] == 40
    shown = ralph("core", "private", "show", tmp_path / "sealed")
    assert done.json["commitment"] in shown.out
    assert "licence: written here, CC0-1.0" in shown.out
    more = items(tmp_path / "b.jsonl", range(40, 60))
    key = ["--key", tmp_path / "sealed.key"]
    added = ralph("core", "private", "add", tmp_path / "larger", more, "--from", tmp_path / "sealed", "--json")
    assert sum(added.json["shards"].values()) == 60
    assert added.json["commitment"] != done.json["commitment"]
    renewed = ralph("core", "private", "refresh", tmp_path / "newer", more, "--from", tmp_path / "sealed")
    assert "40 in all" in renewed.out
    assert "refresh 1" in renewed.out
    assert ralph("core", "private", "show", tmp_path / "newer", *key).status == 0
    for words in (done, shown, added, renewed):
        assert material.item(next(task for task in TASKS if task.label == "copa"), 0)["query"] not in words.out + words.err


def test_a_private_item_without_a_licence_is_one_line_with_its_place(tmp_path: Path) -> None:
    done = ralph("core", "private", "commit", tmp_path / "sealed", items(tmp_path / "a.jsonl", range(2), licence=None))
    assert done.status == 3
    assert "a.jsonl, line 1: 'licence' is missing" in done.err
    assert "Traceback" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_network_can_guard_private_items_which_its_validator_opens(small_data: Path, tmp_path: Path) -> None:
    private = items(tmp_path / "a.jsonl", range(40))
    done = ralph("init", "--home", tmp_path / "net", "--seed", 7, "--data", small_data, "--private", private, "--json")
    assert done.status == 0, done.err
    assert done.json["guarded"] == ["private-hard"]
    path = tmp_path / "net" / "validator" / "config.toml"
    shown = ralph("core", "private", "show", tmp_path / "net" / "private-items", "--config", path)
    assert shown.status == 0, shown.err
    config = load_config(path)
    profile = load_profile(config.profile)
    data = open_public_data(config, profile)
    shape = {"hotkey": "5F", "filler": data.validation.rows(1, 64).filler}
    (examination,) = open_examinations(config, profile, data, **shape)
    assert sum(len(entry.items) for entry in examination.exam.manifest.entries) == profile.rules.guards.private_items.items
    with pytest.raises(ConfigurationError, match="`private_items_key`"):
        open_examinations(config.model_copy(update={"private_items_key": None}), profile, data, **shape)
