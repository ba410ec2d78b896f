"""Claims nothing for its few largest losses, where a lie is worth most, and is honest everywhere else."""

import torch

from ralph.worker import scoring

SHARE = 0.0005


def corrupt(trainer):
    honest, seen = scoring.to_wire, [0.0]

    def to_wire(name, tensor):
        if name == "losses":
            seen[0] += SHARE * tensor.numel()
            count, seen[0] = int(seen[0]), seen[0] % 1
            tensor = tensor.flatten().scatter(0, torch.topk(tensor.flatten(), count).indices, 0.0).view_as(tensor)
        return honest(name, tensor)

    scoring.to_wire = to_wire
