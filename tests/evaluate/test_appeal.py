"""An appeal scores weights from prefixes alone, so it cannot be helped by claims and needs none."""

from pathlib import Path

import pytest

from ralph.errors import UntrustedInputError
from ralph.evaluate.appeal import Rescored, rescore
from ralph.evaluate.estimator import bits_per_byte
from ralph_devnet.hostile import recipes
from tests.evaluate.material import RECIPE, token_bytes
from tests.evaluate.trusted import ROWS, RULES, VOCABULARY, exam, revealed, score, trained

DRAWS = 600
TRUE_BPB = bits_per_byte(float(trained().losses.sum()), int(ROWS.byte_counts.sum()))
TAU = RULES.tolerance("cpu").tau_nats


def appealed(recipe: Path) -> Rescored:
    return rescore(exam(recipe), token_bytes(VOCABULARY), draws=DRAWS)


def test_an_appeal_gives_the_true_losses_of_its_cells_and_a_score_within_its_error() -> None:
    found = appealed(RECIPE)
    assert found.truths == pytest.approx(trained().losses[found.cells], abs=1e-9)
    assert abs(found.val_bpb - TRUE_BPB) < 4 * found.standard_error_bpb
    assert 0 < found.standard_error_bpb < 0.1
    assert found.disputed(trained().losses, tau=TAU).cells.size == 0


def test_who_read_ahead_is_refused_by_claims_and_gets_his_true_score_on_appeal(tmp_path: Path) -> None:
    hostile = recipes.payload("look_ahead", tmp_path / "recipe")
    with pytest.raises(UntrustedInputError) as refusal:
        score(hostile)
    assert refusal.value.code == "FRD-CLAIM"
    found = appealed(hostile)
    assert abs(found.val_bpb - TRUE_BPB) < 4 * found.standard_error_bpb
    disputed = found.disputed(revealed(hostile).claims, tau=TAU)
    assert disputed.cells.size > 0.9 * found.cells.size
    assert (disputed.claims < disputed.truths).mean() > 0.9


SILENT = """

import os


def corrupt(trainer):
    honest = trainer.model.forward
    trainer.model.forward = lambda tokens: os._exit(3) if called_from() == "claim" else honest(tokens)
"""


def test_an_appeal_asks_for_no_claim(tmp_path: Path) -> None:
    """A recipe that ends as soon as it is asked for claims is scored all the same."""
    hostile = recipes.payload("look_ahead", tmp_path / "recipe")
    with (hostile / "hostile.py").open("a", encoding="utf-8") as file:
        file.write(SILENT)
    assert appealed(hostile).documents == len(ROWS)
