"""Replaces the scoring functions of the worker by its own: a loss of zero for everything."""

import torch

from ralph.train import wire
from ralph.worker import scoring


def corrupt(trainer):
    def claim(channel, model, vocabulary, frame):
        rows, columns = frame.tensors[0].shape
        channel.send(wire.Kind.CLAIMS, {}, [scoring.to_wire("losses", torch.zeros(rows, columns - 1, dtype=torch.float64))])

    scoring.claim = claim
