"""Answers with claims for more tokens than it was asked about."""

import torch

from ralph.worker import scoring


def corrupt(trainer):
    honest = scoring.to_wire
    scoring.to_wire = lambda name, tensor: honest(name, torch.cat([tensor, tensor]) if name == "losses" else tensor)
