"""The auditor as a service: it audits whenever something new is published, and remembers what it reproduced."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ralph.config import Config, Keys, save_config, save_profile
from ralph.protocol.announcement import anchor_payload
from tests.auditor.world import World

NEURON = Path(__file__).parents[2] / "neurons" / "auditor.py"


@pytest.fixture
def auditor(world: World) -> Iterator[subprocess.Popen[str]]:
    save_profile(world.home / "devnet.toml", world.profile)
    nowhere = world.home / "none"
    config = Config(
        state=world.home / "auditor",
        profile=world.home / "devnet.toml",
        chain=world.home / "chain.sqlite",
        store=world.home / "store",
        data=nowhere,
        validator=world.validator,
        keys=Keys(wallets=nowhere, coldkey="none", hotkey="none"),
    )
    save_config(world.home / "auditor.toml", config)
    command = [sys.executable, NEURON, "--config", world.home / "auditor.toml"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    yield process
    process.kill()
    process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"the auditor ended without saying {words!r}")


def test_the_auditor_follows_what_is_published_remembers_it_and_ends_with_the_last_verdict(
    world: World, auditor: subprocess.Popen[str]
) -> None:
    read_until(auditor, "reproduced: 5 records")
    world.play()
    read_until(auditor, "reproduced: 6 records")
    heads = (world.home / "auditor" / "audit-heads").read_text().split()
    assert [head.partition(":")[0] for head in heads] == ["5", "6"]
    world.set_slot(anchor_payload(world.anchors[3]))
    read_until(auditor, "a log of 6 records was seen before, now there are 4")
    read_until(auditor, "diverged: 4 records")
    auditor.send_signal(signal.SIGTERM)
    assert auditor.wait(timeout=30) == 1


def test_an_auditor_that_is_stopped_after_a_reproduced_history_ends_with_0(auditor: subprocess.Popen[str]) -> None:
    read_until(auditor, "reproduced: 5 records")
    auditor.send_signal(signal.SIGTERM)
    assert auditor.wait(timeout=30) == 0
