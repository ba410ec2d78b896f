"""Prints without end and never answers."""

import os


def corrupt(trainer):
    while True:
        os.write(1, b"flood \x1b[31m" * 8192)
