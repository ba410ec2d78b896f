"""Claims nothing at a few places that it chooses anew every time, so that no lie comes back in a replay."""

import numpy as np
import torch

from ralph.worker import scoring

SHARE = 0.01


def corrupt(trainer):
    honest, generator = scoring.to_wire, np.random.default_rng()

    def to_wire(name, tensor):
        if name == "losses":
            tensor = tensor * torch.from_numpy(generator.random(tuple(tensor.shape)) >= SHARE)
        return honest(name, tensor)

    scoring.to_wire = to_wire
