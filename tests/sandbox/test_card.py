"""Sandboxes with an NVIDIA card: a real one, so these run where there is one."""

from pathlib import Path

import pytest

from ralph.errors import ConfigurationError
from ralph.interfaces import SandboxSpec
from ralph.protocol.network import LADDER
from ralph.sandbox import gpu
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.files import Copied
from ralph.sandbox.limits import limits_for
from ralph.sandbox.options import WORKER, Program

pytestmark = pytest.mark.gpu
RUNG = next(rung for rung in LADDER if rung.device == "cuda")
SOURCE = b"""
import os, socket
import torch
from ralph.worker import erase

def take(pattern):
    blocks, found, size = [], 0, 1 << 30
    while size >= 1 << 24:
        try:
            block = torch.empty(size, dtype=torch.uint8)
        except torch.OutOfMemoryError:
            size //= 2
            continue
        found += int((block == 0xA5).sum())
        blocks.append(block if pattern is None else block.fill_(pattern))
    torch.cuda.synchronize()
    return found, sum(block.numel() for block in blocks)

def main(fd):
    channel = socket.socket(fileno=fd)
    torch.set_default_device("cuda")
    if channel.recv(1) == b"L":
        erase.card()
        answer = take(None)
    else:
        answer = take(0xA5)
    channel.sendall(b"%20d%20d" % answer)
    channel.recv(1)
    os._exit(0)
"""


@pytest.fixture(autouse=True)
def card() -> None:
    try:
        gpu.require(1)
    except ConfigurationError as error:
        pytest.skip(error.detail)


def ask(order: bytes, recipe: Path) -> tuple[int, int]:
    program = Program(module="card", files=(Copied(target=f"{WORKER}/card.py", data=SOURCE),))
    spec = SandboxSpec(recipe=recipe, limits=limits_for(RUNG))
    with BubblewrapSandbox(program=program).launch(spec) as worker:
        worker.send(order)
        answer = bytearray(40)
        worker.receive_into(memoryview(answer), 120.0)
    return int(answer[:20]), int(answer[20:])


def test_what_one_sandbox_leaves_in_the_memory_of_a_card_the_next_one_does_not_find(tmp_path: Path) -> None:
    _, written = ask(b"F", tmp_path)
    found, looked_at = ask(b"L", tmp_path)
    assert written > 1 << 32
    assert looked_at > written // 2
    assert found == 0
