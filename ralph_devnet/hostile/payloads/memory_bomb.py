"""Allocates and touches memory without end."""


def corrupt(trainer):
    held = []
    while True:
        held.append(bytearray(b"x" * (1 << 22)))
