"""Claims less than the truth at some places, places and sizes chosen anew every time, so that no lie comes back in a replay."""

import numpy as np
import torch

from ralph.worker import scoring

SHARE = 0.1


def corrupt(trainer):
    honest, generator = scoring.to_wire, np.random.default_rng()

    def to_wire(name, tensor):
        if name == "losses":
            shape = tuple(tensor.shape)
            tensor = tensor * torch.from_numpy(np.where(generator.random(shape) < SHARE, generator.random(shape), 1.0))
        return honest(name, tensor)

    scoring.to_wire = to_wire
