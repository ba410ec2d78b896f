"""Writes bytes without end to the channel."""

import os


def corrupt(trainer):
    while True:
        os.write(3, b"\xff" * 65536)
