"""Claims nothing at a few places that it chooses anew every time, so that no lie comes back in a replay."""

import os

import torch

from ralph.worker import scoring

SHARE = 0.01


def corrupt(trainer):
    honest, generator = scoring.to_wire, torch.Generator().manual_seed(int.from_bytes(os.urandom(7), "little"))

    def to_wire(name, tensor):
        if name == "losses":
            tensor = tensor * (torch.rand(tensor.shape, generator=generator) >= SHARE)
        return honest(name, tensor)

    scoring.to_wire = to_wire
