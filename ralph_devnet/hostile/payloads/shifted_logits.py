"""Honest, but adds a number of its own to all logits of a row: harmless, because the host makes the softmax."""

import torch


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward

    def forward(tokens):
        logits = honest(tokens).double()
        return logits + 50.0 * torch.arange(tokens.size(0))[:, None, None] if not model.training else logits

    model.forward = forward
