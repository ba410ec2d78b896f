"""Score rows with the recipe's model: a claimed loss for every token, or the logits after a prefix."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ralph.train import wire
from ralph.worker.channel import Channel, ShapeError, to_wire, tokens_from_wire


def claim(channel: Channel, model: Any, vocabulary: int, frame: wire.Frame) -> None:
    """Answer float64 losses in nats for all T tokens of every row.

    The logits are turned into float64 before the softmax: float32 cross entropy is off by more than an honest
    claim may be. That is done row by row, in half the time of doing it at once and with room for one row only.
    """
    tokens = tokens_from_wire(frame.tensors[0])
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    with _evaluating(model):
        rows = zip(_logits(model, inputs, vocabulary), targets, strict=True)
        losses = torch.stack([_losses(logits.double(), wanted) for logits, wanted in rows])
    channel.send(wire.Kind.CLAIMS, {}, [to_wire("losses", losses)])


def probe(channel: Channel, model: Any, vocabulary: int, frame: wire.Frame) -> None:
    """Answer the float64 logits of the token after ``positions[r]`` of every row r.

    A model that has a ``logits_at`` is asked for those alone, which spares it the head at all other positions.
    """
    tokens = tokens_from_wire(frame.tensors[0])
    positions = tokens_from_wire(frame.tensors[1])
    with _evaluating(model):
        if hasattr(model, "logits_at"):
            logits = _shaped(model.logits_at(tokens, positions), (len(positions), vocabulary))
        else:
            logits = _logits(model, tokens, vocabulary)[torch.arange(len(positions)), positions]
    channel.send(wire.Kind.LOGITS, {}, [to_wire("logits", logits.double())])


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -log softmax(logits)[target]: [T] of [T, V]."""
    return logits.logsumexp(1) - logits.gather(1, targets[:, None]).squeeze(1)


def _logits(model: Any, tokens: torch.Tensor, vocabulary: int) -> torch.Tensor:
    return _shaped(model(tokens), (*tokens.shape, vocabulary))


def _shaped(logits: Any, shape: tuple[int, ...]) -> torch.Tensor:
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != shape:
        described = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ShapeError(f"model returned {described}, expected {list(shape)}")
    return logits


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Switch to evaluation and back, so that a training can score in between and go on."""
    before = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(before)
