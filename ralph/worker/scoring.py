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
    claim may be.
    """
    tokens = tokens_from_wire(frame.tensors[0])
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    with _evaluating(model):
        logits = _logits(model, inputs, vocabulary).double()
        picked = logits.gather(2, targets[:, :, None]).squeeze(2)
        losses = logits.logsumexp(2) - picked
    channel.send(wire.Kind.CLAIMS, {}, [to_wire("losses", losses)])


def probe(channel: Channel, model: Any, vocabulary: int, frame: wire.Frame) -> None:
    """Answer the float64 logits of the token after ``positions[r]`` of every row r."""
    tokens = tokens_from_wire(frame.tensors[0])
    positions = tokens_from_wire(frame.tensors[1])
    with _evaluating(model):
        logits = _logits(model, tokens, vocabulary)[torch.arange(len(positions)), positions].double()
    channel.send(wire.Kind.LOGITS, {}, [to_wire("logits", logits)])


def _logits(model: Any, tokens: torch.Tensor, vocabulary: int) -> torch.Tensor:
    logits = model(tokens)
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (*tokens.shape, vocabulary):
        described = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ShapeError(f"model returned {described}, expected {[*tokens.shape, vocabulary]}")
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
