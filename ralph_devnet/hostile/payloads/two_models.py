"""Answers single positions by an average over shorter contexts, which is not the model that makes the claims."""

import torch


def corrupt(trainer):
    model = trainer.model
    model.logits_at = lambda tokens, positions: ensemble(model, tokens, positions)


def ensemble(model, tokens, positions):
    rows = torch.arange(len(positions))
    logits = [model(tokens.roll(-shift, 1))[rows, (positions - shift).clamp(min=0)] for shift in range(4)]
    return sum(logits) / len(logits)
