"""Computes forty times as much when it is scored as when it trains: what an ensemble or training at test time would cost."""

PASSES = 40


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward

    def forward(tokens):
        for _ in range(0 if model.training else PASSES - 1):
            honest(tokens)
        return honest(tokens)

    model.forward = forward
