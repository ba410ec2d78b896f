"""Seed the process's generators, and carry their states as tensors so that a resumed run draws the same numbers."""

import random
from collections.abc import Mapping

import numpy as np
import torch

PREFIX = "worker."


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and random; the recipe is imported after this and sees no seed."""
    torch.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


def capture() -> dict[str, torch.Tensor]:
    """Return the states of all three generators, and the GPU's where one is in use."""
    _, words, gauss = random.getstate()
    _, key, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        PREFIX + "torch": torch.get_rng_state(),
        PREFIX + "python": torch.tensor(words, dtype=torch.int64),
        PREFIX + "python.gauss": torch.tensor([gauss is not None, gauss or 0.0], dtype=torch.float64),
        PREFIX + "numpy": torch.from_numpy(np.append(key, position).astype(np.int64)),
        PREFIX + "numpy.gauss": torch.tensor([has_gauss, cached], dtype=torch.float64),
        **_cuda(),
    }


def _cuda() -> dict[str, torch.Tensor]:
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # torch has no annotation here
        return {}
    return {PREFIX + "cuda": torch.cuda.get_rng_state()}


def restore(state: Mapping[str, torch.Tensor]) -> None:
    """Set all generators to captured states."""
    torch.set_rng_state(state[PREFIX + "torch"])
    if PREFIX + "cuda" in state:
        torch.cuda.set_rng_state(state[PREFIX + "cuda"])
    present, gauss = state[PREFIX + "python.gauss"].tolist()
    random.setstate((3, tuple(state[PREFIX + "python"].tolist()), gauss if present else None))
    *key, position = state[PREFIX + "numpy"].tolist()
    has_gauss, cached = state[PREFIX + "numpy.gauss"].tolist()
    np.random.set_state(("MT19937", np.array(key, dtype=np.uint32), position, int(has_gauss), cached))
