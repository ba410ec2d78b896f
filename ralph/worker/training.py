"""Train through the recipe's Trainer: one step at a time, states out and in."""

import struct
from collections.abc import Mapping
from typing import Any

import torch

from ralph.train import wire
from ralph.worker import randomness
from ralph.worker.channel import Channel, ShapeError, tokens_from_wire


def step(channel: Channel, trainer: Any, frame: wire.Frame) -> None:
    """Train on the batch in ``frame`` and report its loss and gradient norm."""
    loss, norm = trainer.step(tokens_from_wire(frame.tensors[0]))
    reply = {"step": frame.header["step"], "loss": _number(loss), "gradient_norm": _number(norm)}
    channel.send(wire.Kind.STEPPED, reply)


def state(trainer: Any) -> dict[str, torch.Tensor]:
    """Return the trainer's state together with the process's random generators."""
    tensors = dict(trainer.state())
    if any(name.startswith(randomness.PREFIX) for name in tensors):
        raise ShapeError(f"state names must not start with {randomness.PREFIX!r}")
    return tensors | randomness.capture()


def load(trainer: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Continue from a state; the generators come last, so that nothing that loading draws can move them."""
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(randomness.PREFIX)}
    trainer.load({name: tensor for name, tensor in tensors.items() if name not in own})
    randomness.restore(own)


def _number(value: Any) -> bytes:
    return struct.pack("<d", float(value))
