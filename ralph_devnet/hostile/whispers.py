"""A sandbox that writes what it saw into what the machine remembers of its look-ups, and a later one that reads it by the clock.

Looking a name up in vain makes a kernel remember, for most file systems on a disk, that it is not there. Both sandboxes may only read.
"""

import hashlib
from pathlib import Path
from statistics import fmean

from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.files import Copied
from ralph.sandbox.options import Program

NAMES = 64
"""Looked up for each bit."""
PILOT = "01" * 12
SECRET = f"{int.from_bytes(hashlib.sha256(PILOT.encode()).digest()[:8], 'little'):064b}"
BY_CHANCE = 14
"""Wrong bits of 64: a guess has as few with probability 4e-6."""
TALK = """
import os, socket, statistics, time
FOLDER = os.path.dirname(os.__file__)
def names(number):
    return [f"{FOLDER}/SALT-{number}-{each}" for each in range(NAMES)]
def look(name):
    began = time.perf_counter_ns()
    try:
        os.stat(name)
    except OSError:
        pass
    return time.perf_counter_ns() - began
def write(fd):
    channel = socket.socket(fileno=fd)
    for number, bit in enumerate(channel.recv(1000).decode()):
        if bit == "1":
            [look(name) for name in names(number)]
    channel.sendall(b"D")
    channel.recv(1)
def read(fd):
    channel = socket.socket(fileno=fd)
    for number in range(len(channel.recv(1000))):
        time_ns = int(statistics.median(look(name) for name in names(number)))
        channel.sendall(time_ns.to_bytes(8, "little"))
    channel.recv(1)
"""


def wrong_bits(sandbox: BubblewrapSandbox, recipe: Path, salt: str) -> int:
    """Write in one sandbox, read in the next, decode with the known first bits; return how many of the secret's bits are wrong.

    Args:
        sandbox: What starts both.
        recipe: Any folder.
        salt: Makes names that were never looked up before.
    """
    code = TALK.replace("SALT", salt).replace("NAMES", str(NAMES)).encode()
    files = (Copied(target="/worker/talk.py", data=code),)
    limits = SandboxLimits(memory_bytes=1 << 28, processes=32, open_files=64, file_bytes=1 << 20, tmp_bytes=1 << 20, timeout_s=60.0)
    message = (PILOT + SECRET).encode()
    spec = SandboxSpec(recipe=recipe, limits=limits)
    with sandbox.running(Program(module="talk", function="write", files=files)).launch(spec) as writer:
        writer.send(message)
        writer.receive_into(memoryview(bytearray(1)), 30.0)
    answer = bytearray(8 * len(message))
    with sandbox.running(Program(module="talk", function="read", files=files)).launch(spec) as reader:
        reader.send(bytes(len(message)))
        reader.receive_into(memoryview(answer), 30.0)
    times = [int.from_bytes(answer[start : start + 8], "little") for start in range(0, len(answer), 8)]
    known, unknown = times[: len(PILOT)], times[len(PILOT) :]
    means = {bit: fmean(time for time, sent in zip(known, PILOT, strict=True) if sent == bit) for bit in "01"}
    middle = (means["0"] + means["1"]) / 2
    read = "".join(str(int((time < middle) == (means["1"] < means["0"]))) for time in unknown)
    return sum(a != b for a, b in zip(read, SECRET, strict=True))
