"""Computes for ever and answers nothing."""


def corrupt(trainer):
    while True:
        pass
