"""T42: what a sandbox has read or looked up in vain must tell a later one nothing. The attack reads every bit over programs on a disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.resident import PLACE
from ralph_devnet.hostile.whispers import BY_CHANCE, wrong_bits


@pytest.fixture(scope="module")
def in_memory() -> Iterator[BubblewrapSandbox]:
    sandbox = BubblewrapSandbox(in_memory=True)
    yield sandbox
    sandbox.close()


def test_look_ups_in_vain_tell_a_later_sandbox_nothing(in_memory: BubblewrapSandbox, tmp_path: Path) -> None:
    assert wrong_bits(in_memory, tmp_path, "memory") > BY_CHANCE


def test_every_program_that_a_sandbox_can_read_is_in_memory(in_memory: BubblewrapSandbox) -> None:
    assert in_memory.shared
    for path in in_memory.shared:
        assert PLACE in path.parents
