"""A small recipe of our own and the rules for patching it."""

from pathlib import Path

import pytest

from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import PatchRules

MODEL = """import torch


class Model(torch.nn.Module):
    \"\"\"A model.\"\"\"

    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(width, width)

    def forward(self, tokens):
        return self.layer(tokens)
"""


@pytest.fixture
def parent() -> RecipeTree:
    return RecipeTree(
        files={
            "README.md": b"# A recipe\n",
            "config/base.toml": b"# learning rate\n\n[learning_rate]\nvalue = 0.0025\n\n# batch\n\n[batch_rows]\nvalue = 16\n",
            "layers/norm.py": b"def norm(x):\n    return x / x.abs().max()\n",
            "model.py": MODEL.encode(),
            "train.py": "".join(f"step_{number} = {number}\n" for number in range(40)).encode(),
        }
    )


@pytest.fixture
def rules() -> PatchRules:
    return PatchRules(
        patchable=("model.py", "config/base.toml", "layers/"),
        suffixes=(".py", ".toml"),
        max_patch_bytes=65536,
        max_file_bytes=16384,
        max_changed_files=4,
        max_added_lines=60,
        max_literal_bytes=1024,
    )


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"
