"""The recipe's own modules, loaded from its folder as the worker loads them."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

RECIPE = Path(__file__).resolve().parents[2] / "recipe"
NAMES = ("attention", "loss", "model", "optim", "train")


@pytest.fixture(scope="session")
def recipe() -> Iterator[SimpleNamespace]:
    """Return the recipe's modules, without leaving names as common as these behind."""
    torch.set_num_threads(1)
    kept: dict[str, ModuleType | None] = {name: sys.modules.pop(name, None) for name in NAMES}
    sys.path.insert(0, str(RECIPE))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(RECIPE))
        for name, module in kept.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
