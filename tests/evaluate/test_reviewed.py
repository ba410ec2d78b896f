"""The fast lane: what may be scored without probes, and that no line of a miner's code runs there (T39)."""

import math
from pathlib import Path

import pytest

from ralph.errors import UntrustedInputError
from ralph.evaluate.measure import exact
from ralph.evaluate.reviewed import OPTIMISERS, code_digest, trusted
from ralph.evaluate.score import Score
from ralph.protocol.patch import RecipeTree
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import materialise
from tests.evaluate.material import rules, token_bytes
from tests.evaluate.trusted import ROWS, VOCABULARY, exam, score, trained

GENESIS = genesis_recipe()
RULES = rules(uniform=64, weighted=16).model_copy(update={"reviewed": (code_digest(GENESIS),)})
CONFIG = "config/base.toml"
SLEEPER = b"""

import builtins
import sys

model = sys.modules.get("model")
if model is not None:
    honest = model.GPT.forward
    model.GPT.forward = lambda self, tokens: honest(self, tokens) + 30.0 * builtins.__import__("torch").nn.functional.one_hot(
        tokens.roll(-1, 1), self.head.weight.size(0)
    )
"""
"""Wakes up when the optimisers are imported, and reads one token ahead."""


def changed(path: str, data: bytes) -> RecipeTree:
    return RecipeTree(files={**GENESIS.files, path: data})


def fast(tree: RecipeTree, folder: Path) -> Score:
    known = trusted(tree, GENESIS, RULES)
    assert known is not None
    materialise(known, folder)
    return exact(exam(folder), token_bytes(VOCABULARY))


def test_a_tree_that_differs_in_configuration_and_optimisers_only_is_evaluated_by_reviewed_code() -> None:
    config = GENESIS.files[CONFIG].replace(b"value = 0.0025", b"value = 0.005")
    tree = RecipeTree(files={**GENESIS.files, CONFIG: config, OPTIMISERS: b"import os\n"})
    known = trusted(tree, GENESIS, RULES)
    assert known is not None
    assert known.files == {**GENESIS.files, CONFIG: config}


@pytest.mark.parametrize("path", ["model.py", "attention.py", "loss.py", "train.py", "pieces/new.py"])
def test_a_changed_or_further_line_of_code_is_not_reviewed(path: str) -> None:
    tree = changed(path, GENESIS.files.get(path, b"") + b"\nX = 1\n")
    assert trusted(tree, GENESIS, RULES) is None


def test_a_king_is_not_reviewed_by_being_king() -> None:
    """Rules name what is reviewed; another release's genesis is none either."""
    king = changed("model.py", GENESIS.files["model.py"] + b"\nX = 1\n")
    assert trusted(king, king, RULES) is None
    assert trusted(GENESIS, king, RULES) is None
    assert trusted(GENESIS, GENESIS, RULES.model_copy(update={"reviewed": ()})) is None


def test_an_exact_score_is_the_true_one_and_drew_nothing(tmp_path: Path) -> None:
    found = fast(GENESIS, tmp_path / "recipe")
    true_nats_per_byte = trained().losses.sum() / int(ROWS.byte_counts.sum())
    assert found.val_bpb * math.log(2) == pytest.approx(true_nats_per_byte, abs=1e-12)
    assert (found.cells, found.probes, found.exceedances, found.correction_nats, found.standard_error_nats) == (0, 0, 0, 0.0, 0.0)
    assert found.document_nats.sum() == pytest.approx(trained().losses.sum(), abs=1e-9)


def test_a_leak_that_sleeps_in_the_optimisers_is_not_woken_on_the_fast_lane_and_is_fraud_on_the_other(tmp_path: Path) -> None:
    tree = changed(OPTIMISERS, GENESIS.files[OPTIMISERS] + SLEEPER)
    honest = fast(GENESIS, tmp_path / "honest")
    assert fast(tree, tmp_path / "reviewed").val_bpb == honest.val_bpb
    materialise(tree, tmp_path / "whole")
    with pytest.raises(UntrustedInputError) as refusal:
        score(tmp_path / "whole")
    assert refusal.value.code == "FRD-CLAIM"
