"""Answers late when a certain token is in the batch: what it reads would be written in somebody's log of times."""

import time

DELAY_S = 0.01


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward

    def forward(tokens):
        if not model.training and int(tokens[0, 1]) % 2:
            time.sleep(DELAY_S)
        return honest(tokens)

    model.forward = forward
