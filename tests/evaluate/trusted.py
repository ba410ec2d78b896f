"""The real recipe trained for a few steps by torch in this process, its trusted losses, and measurements of its variants."""

import functools
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from ralph.evaluate import measure
from ralph.evaluate.cells import Cells
from ralph.evaluate.loading import Model
from ralph.evaluate.measure import Exam, Revealed, reveal
from ralph.evaluate.score import Score
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import safetensors, wire
from tests.evaluate.material import KEY, RECIPE, every, markov, rows, rules, rung, token_bytes

SEQUENCE = 32
VOCABULARY = 128
STEPS = 40
ROWS = rows(count=48, sequence=SEQUENCE, vocabulary=VOCABULARY)
CELLS = Cells.of(ROWS.lengths)
RUNG = rung(sequence=SEQUENCE)
RULES = rules(uniform=192, weighted=64, batch_rows=16)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Weights, and what torch in this process says about the rows."""

    weights: bytes
    losses: np.ndarray
    """float64[C]: in batches of the same shape, because float32 sums depend on it."""


@functools.cache
def trained() -> Trained:
    """Train the honest recipe for a few steps."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    generator = np.random.default_rng(77)
    with _recipe() as train:
        trainer = train.build(width=RUNG.width, sequence=SEQUENCE, vocabulary=VOCABULARY, steps=STEPS, batch_rows=16)
        for _ in range(STEPS):
            trainer.step(torch.from_numpy(markov(generator, 16, SEQUENCE + 1, VOCABULARY).astype(np.int64)))
    state = trainer.model.state_dict()
    tensors = [wire.Tensor(name, "f32", tuple(tensor.shape), tensor.numpy().tobytes()) for name, tensor in state.items()]
    return Trained(weights=safetensors.dump(tensors), losses=_losses(trainer.model.eval()))


@functools.cache
def king_losses() -> np.ndarray:
    """Return float64[C], a king who is sometimes better and sometimes worse."""
    noise = np.random.default_rng(6).normal(0.05, 0.4, CELLS.count)
    return np.maximum(trained().losses + noise, 0.0)


@functools.cache
def sandbox() -> BubblewrapSandbox:
    return BubblewrapSandbox()


def score(recipe: Path) -> Score:
    """Measure a variant of the recipe with the trained weights."""
    return measure.score(exam(recipe), token_bytes(VOCABULARY))


def exam(recipe: Path) -> Exam:
    return Exam(
        model=Model(
            sandbox=sandbox(),
            recipe=recipe,
            weights=trained().weights,
            rung=RUNG,
            vocabulary=VOCABULARY,
        ),
        rules=RULES,
        rows=ROWS,
        key=KEY,
        king=king_losses(),
    )


def revealed(recipe: Path) -> Revealed:
    """Return a variant's claims and true losses of all cells."""
    return reveal(exam(recipe))


@contextmanager
def _recipe() -> Iterator[ModuleType]:
    """Import the honest recipe; its top-level module names are forgotten afterwards."""
    names = ("train", "model", "optim")
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(RECIPE))
    try:
        yield importlib.import_module("train")
    finally:
        sys.path.remove(str(RECIPE))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)


@torch.no_grad()
def _losses(model: torch.nn.Module) -> np.ndarray:
    losses = np.zeros((len(ROWS), SEQUENCE))
    for start in range(0, len(ROWS), RULES.batch_rows):
        batch = torch.from_numpy(every(ROWS)[start : start + RULES.batch_rows].astype(np.int64))
        logits = model(batch[:, :-1]).double()
        losses[start : start + len(batch)] = torch.nn.functional.cross_entropy(logits.mT, batch[:, 1:], reduction="none").numpy()
    return CELLS.flatten(losses)
