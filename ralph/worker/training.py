"""Train through the recipe's Trainer: one step at a time, states out and in."""

import gc
import struct
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch

from ralph.train import wire
from ralph.worker import randomness
from ralph.worker.channel import Channel, ShapeError, tokens_from_wire


class Steps:
    """Makes steps and reports their losses and gradient norms.

    A GPU works behind the program that feeds it. While another batch is at hand, the newest step is therefore reported only once
    the next one has been handed to the device: nothing waits for a number but the report itself.
    """

    def __init__(self, channel: Channel, trainer: Any) -> None:
        self._channel, self._trainer = channel, trainer
        self._owed: deque[tuple[int, Any, Any]] = deque()
        self._warm = False

    def make(self, frame: wire.Frame) -> None:
        """Train on the batch in ``frame``; report every step whose numbers are due."""
        loss, norm = self._trainer.step(tokens_from_wire(frame.tensors[0]))
        if not self._warm:
            gc.freeze()  # what the first step made, compiled code for example, stays: collections need not look at it again
            self._warm = True
        self._owed.append((frame.header["step"], _on_its_way(loss), _on_its_way(norm)))
        late = 1 if torch.get_default_device().type != "cpu" and self._channel.waiting() else 0
        while len(self._owed) > late:
            step, (loss, _), (norm, arrived) = self._owed.popleft()
            if arrived is not None:
                arrived.synchronize()  # the norm is copied after the loss
            self._channel.send(wire.Kind.STEPPED, {"step": step, "loss": _number(loss), "gradient_norm": _number(norm)})


def _on_its_way(value: Any) -> tuple[Any, Any]:
    """Start to copy a number from the device, if it is there; return it and what to wait for."""
    if not isinstance(value, torch.Tensor) or not value.is_cuda:
        return value, None
    number = torch.empty((), dtype=torch.float64, device="cpu", pin_memory=True)
    number.copy_(value.detach().double(), non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call] # torch has no annotation here
    arrived.record()
    return number, arrived


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
