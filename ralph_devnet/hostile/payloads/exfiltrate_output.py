"""Prints every row that it is shown, with terminal escapes around it."""

import sys


def corrupt(trainer):
    model, honest = trainer.model, trainer.model.forward

    def forward(tokens):
        if not model.training:
            for file in (sys.stdout, sys.stderr):
                print("\x1b]0;hidden\x07\x1b[2J", tokens[0].tolist(), file=file, flush=True)
        return honest(tokens)

    model.forward = forward
