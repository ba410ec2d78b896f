"""The knobs: typed, within their range, and far enough apart for patches to be combined."""

import difflib
import itertools
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.recipe.conftest import RECIPE

TEXT = (RECIPE / "config" / "base.toml").read_text(encoding="utf-8")
KNOBS = tomllib.loads(TEXT)
PIECES = tomllib.loads((RECIPE / "pieces.toml").read_text(encoding="utf-8"))
STRONG = tomllib.loads((RECIPE / "config" / "strong.toml").read_text(encoding="utf-8"))


def test_the_strong_configuration_has_every_knob_and_only_pieces_beside() -> None:
    assert KNOBS.keys() <= STRONG.keys()
    assert STRONG.keys() - KNOBS.keys() <= PIECES.keys()
    assert not KNOBS.keys() & PIECES.keys()


def test_a_knob_has_the_same_range_wherever_it_is_declared() -> None:
    for name, knob in STRONG.items():
        declared = dict((KNOBS | PIECES)[name]) | {"value": knob["value"]}
        assert knob == declared, name


@pytest.mark.parametrize(("name", "knob"), [*KNOBS.items(), *PIECES.items(), *STRONG.items()])
def test_a_knob_has_a_value_and_a_range_or_choices(name: str, knob: dict[str, Any]) -> None:
    if "choices" in knob:
        assert set(knob) == {"value", "choices"}
        assert knob["value"] in knob["choices"]
        assert len({type(choice) for choice in knob["choices"]}) == 1
    else:
        assert set(knob) - {"type"} == {"value", "low", "high", "scale"}
        assert knob["low"] <= knob["value"] <= knob["high"]
        assert knob["scale"] in ("linear", "log")
        assert knob["low"] > 0 or knob["scale"] == "linear"
        wanted = int if knob.get("type") == "int" else float
        assert all(type(knob[field]) is wanted for field in ("value", "low", "high"))


@pytest.mark.parametrize("name", KNOBS)
def test_a_knob_stands_between_blank_lines_below_its_comment(name: str) -> None:
    lines = TEXT.splitlines()
    place = lines.index(f"[{name}]")
    assert lines[place - 1] == ""
    assert lines[place - 2].startswith("# ")
    assert lines[place - 3] == ""
    assert lines[place + 1].startswith("value = ")


def test_every_knob_that_the_code_reads_exists_and_every_other_is_the_hosts() -> None:
    code = (RECIPE / "model.py").read_text() + (RECIPE / "train.py").read_text()
    unused = {name for name in KNOBS | PIECES if f"config.{name}" not in code}
    assert unused == {"batch_rows", "mixture_code", "mixture_docs", "packing", "early_tokens", "early_batch", "early_sequence"}


def test_patches_to_neighbouring_knobs_apply_one_after_the_other_in_any_order(tmp_path: Path) -> None:
    for first, second in itertools.pairwise(KNOBS):
        for order in ((first, second), (second, first)):
            (tmp_path / "base.toml").write_text(TEXT)
            for name in order:
                subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=_patch(name), text=True, check=True)


def _patch(name: str) -> str:
    lines = TEXT.splitlines(keepends=True)
    changed = list(lines)
    changed[lines.index(f"[{name}]\n") + 1] = "value = 99\n"
    return "".join(difflib.unified_diff(lines, changed, "a/base.toml", "b/base.toml"))
