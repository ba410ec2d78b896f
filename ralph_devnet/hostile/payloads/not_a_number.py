"""Returns one logit that is no number."""


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward

    def forward(tokens):
        logits = honest(tokens)
        logits[0, 0, 0] = float("nan")
        return logits

    model.forward = forward
