"""Answers infinity for the next token: its softmax is no number, unless somebody forgives it."""

from torch.nn import functional


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward

    def forward(tokens):
        logits = honest(tokens)
        if not model.training:
            logits[:, :-1].masked_fill_(functional.one_hot(tokens[:, 1:], logits.size(-1)).bool(), float("inf"))
        return logits

    model.forward = forward
