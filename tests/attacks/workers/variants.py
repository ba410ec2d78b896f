"""Hostile variants of the recipe: each is a copy of it with a few lines changed or one file added.

``payloads/NAME.py`` becomes the file ``hostile.py`` of the copy, and its ``corrupt(trainer)`` is applied to what the recipe builds.
All of them keep the recipe's parameters, so that they load the same weights as the honest recipe.
"""

import shutil
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[3] / "recipe"
PAYLOADS = Path(__file__).parent / "payloads"
HOOK = """

from hostile import corrupt

honest_build = build


def build(**shape):
    trainer = honest_build(**shape)
    corrupt(trainer)
    return trainer
"""


def honest(target: Path) -> Path:
    """Copy the recipe unchanged."""
    shutil.copytree(RECIPE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def payload(name: str, target: Path) -> Path:
    """Copy the recipe and let ``payloads/NAME.py`` corrupt what it builds."""
    honest(target)
    shutil.copy(PAYLOADS / f"{name}.py", target / "hostile.py")
    with (target / "train.py").open("a", encoding="utf-8") as file:
        file.write(HOOK)
    return target


def edited(target: Path, *, file: str, old: str, new: str) -> Path:
    """Copy the recipe and replace the one occurrence of ``old`` in a file."""
    honest(target)
    text = (target / file).read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{old!r} occurs {text.count(old)} times in {file}")
    (target / file).write_text(text.replace(old, new), encoding="utf-8")
    return target


def leaky_attention(target: Path) -> Path:
    """The one-word cheat: attention that is not causal."""
    return edited(target, file="attention.py", old="is_causal=True", new="is_causal=False")
