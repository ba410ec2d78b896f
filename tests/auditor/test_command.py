"""The audit from the command line, in an installation that has none of the extras."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ralph.config import save_profile
from ralph.protocol.announcement import anchor_payload
from tests.auditor.world import Forgery, World

WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from ralph.cli.main import app
app(sys.argv[2:])
"""
EXTRAS = "torch,safetensors,optuna,matplotlib"


@pytest.fixture
def published(world: World) -> World:
    save_profile(world.home / "devnet.toml", world.profile)
    return world


def audit(world: World, *options: str, without: str = EXTRAS) -> subprocess.CompletedProcess[str]:
    home = world.home
    places = ["--profile", home / "devnet.toml", "--chain", home / "chain.sqlite", "--store", home / "store"]
    command = [sys.executable, "-c", WITHOUT, without, "audit", "run", *map(str, places), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_an_audit_needs_no_torch_and_no_other_extra(published: World) -> None:
    done = audit(published, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "reproduced"
    assert report["records"] == 5
    assert all(report["checks"].values())
    assert {one["level"] for one in report["not_checked"]} >= {"L2", "L3", "L4"}


def test_without_the_tokenizer_the_audit_says_what_it_could_not_check(published: World) -> None:
    done = audit(published, "--json", without=f"{EXTRAS},tokenizers")
    assert done.returncode == 2, done.stderr
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["check"], finding["kind"]) == ("opening", "unknown")
    assert "whether opened texts belong there was not checked" in finding["detail"]


def test_a_divergence_is_exit_status_1_and_named(published: World) -> None:
    published.play(Forgery(commits=False))
    done = audit(published)
    assert done.returncode == 1
    assert "DIVERGED L1 commitment: round 5: the digest of its measurements was not on chain before the record" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("DIVERGED")


def test_an_incomplete_audit_is_exit_status_2(published: World) -> None:
    published.produce(4 * published.profile.rules.rounds.length)
    done = audit(published)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].startswith("incomplete")


def test_a_head_seen_before_is_checked(published: World) -> None:
    head = json.loads(audit(published, "--json").stdout)["head"]
    assert audit(published, "--head", head).returncode == 0
    published.set_slot(anchor_payload(published.anchors[2]))
    done = audit(published, "--head", head)
    assert done.returncode == 1
    assert "a log of 5 records was seen before, now there are 3" in done.stdout


@pytest.mark.parametrize("head", ["5", "x:00", "5:00", "-1:" + 64 * "0"])
def test_a_head_that_is_none_is_exit_status_3(published: World, head: str) -> None:
    done = audit(published, f"--head={head}")
    assert done.returncode == 3
    assert done.stderr.startswith("OPS-CONFIG: ")


def test_the_terminal_is_safe_from_what_records_say(published: World) -> None:
    published.play(Forgery(record=lambda record: record.model_copy(update={"track": "\x1b]0;owned\x07\u202e"})))
    done = audit(published)
    assert done.returncode == 1
    assert "\\x1b]0;owned\\x07\\u202e" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_published_history_may_be_read_only(published: World, tmp_path: Path) -> None:
    for path in (published.home / "store").rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    assert audit(published).returncode == 0
