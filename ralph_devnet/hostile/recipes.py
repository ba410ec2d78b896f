"""Hostile variants of the recipe: each is a copy of it with a few lines changed or one file added.

``payloads/NAME.py`` becomes the file ``hostile.py`` of the copy, and its ``corrupt(trainer)`` is applied to what the recipe builds.
All of them keep the recipe's parameters, so that they load the same weights as the honest recipe. Where a model can answer single
positions it need not run its ``forward`` for a probe, so that is taken away first: what corrupts ``forward`` is in both phases.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from ralph.protocol.patch import RecipeTree
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import materialise

PAYLOADS = Path(__file__).with_name("payloads")
HOOK = """

import hostile
{settings}
honest_build = build


def build(**shape):
    trainer = honest_build(**shape)
    del type(trainer.model).logits_at
    hostile.corrupt(trainer)
    return trainer
"""


def honest(target: Path) -> Path:
    """Write the recipe unchanged."""
    materialise(genesis_recipe(), target)
    return target


def payload(name: str, target: Path, settings: Mapping[str, float] | None = None) -> Path:
    """Write the recipe and let ``payloads/NAME.py`` corrupt what it builds, with some of its constants changed."""
    honest(target)
    shutil.copy(PAYLOADS / f"{name}.py", target / "hostile.py")
    lines = "".join(f"hostile.{constant} = {value!r}\n" for constant, value in (settings or {}).items())
    with (target / "train.py").open("a", encoding="utf-8") as file:
        file.write(HOOK.format(settings=lines))
    return target


def leaky_attention(target: Path) -> Path:
    """Write the one-word cheat: attention that is not causal."""
    tree = genesis_recipe()
    code = tree.files["attention.py"]
    edited = RecipeTree(files={**tree.files, "attention.py": code.replace(b"is_causal=True", b"is_causal=False")})
    if code.count(b"is_causal=True") != 1:
        raise ValueError("the recipe's attention is not causal in exactly one place")
    materialise(edited, target)
    return target
