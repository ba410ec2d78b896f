"""Writes answers to the channel that nobody asked for yet, before the worker has built anything."""

import os

import numpy as np

from ralph.train import wire


def corrupt(trainer):
    losses = wire.Tensor("losses", "f64", (16, 64), np.zeros((16, 64)).tobytes())
    for part in wire.pack(wire.Kind.CLAIMS, {}, [losses]):
        os.write(3, part)
