"""Predicts with what the other rows of the same batch contain: its loss depends on what it is asked beside."""

import torch


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward

    def forward(tokens):
        logits = honest(tokens)
        if not model.training:
            size = logits.size(-1)
            counts = torch.zeros(size, size)
            counts.index_put_((tokens[:, :-1].flatten(), tokens[:, 1:].flatten()), torch.ones(tokens[:, 1:].numel()), accumulate=True)
            logits = logits + torch.log1p(counts[tokens])
        return logits

    model.forward = forward
