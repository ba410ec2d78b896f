"""Equal logits so large that log-sum-exp minus a logit rounds to a loss of 0."""

import torch


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward
    model.forward = lambda tokens: torch.full_like(honest(tokens), 1e17)
