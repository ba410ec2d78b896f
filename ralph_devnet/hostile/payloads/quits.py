"""Ends its process in the middle of the claims, without a word."""

import os


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward
    calls = []

    def forward(tokens):
        calls.append(0)
        if len(calls) == 3:
            os._exit(0)
        return honest(tokens)

    model.forward = forward
