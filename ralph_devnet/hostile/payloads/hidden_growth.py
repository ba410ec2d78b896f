"""Grows a little with every row that it scores, for ever."""


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward
    held = []

    def forward(tokens):
        if not model.training:
            held.append(bytearray(b"x" * (1 << 28)))
        return honest(tokens)

    model.forward = forward
