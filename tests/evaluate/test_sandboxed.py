"""The measurement with real sandboxes and the real recipe: the honest score is the true one, reading ahead is fraud."""

import math
from pathlib import Path

import pytest

from ralph.errors import UntrustedInputError
from ralph.evaluate.score import Score
from ralph_devnet.hostile import recipes
from tests.evaluate.material import RECIPE
from tests.evaluate.trusted import CELLS, ROWS, VOCABULARY, score, trained


@pytest.fixture(scope="module")
def honest() -> Score:
    return score(RECIPE)


def test_an_honest_score_is_what_trusted_torch_computes(honest: Score) -> None:
    true_nats_per_byte = trained().losses.sum() / int(ROWS.byte_counts.sum())
    assert honest.val_bpb * math.log(2) == pytest.approx(true_nats_per_byte, abs=1e-9)


def test_honest_claims_and_probes_agree_to_rounding(honest: Score) -> None:
    assert honest.worst_mismatch_nats < 1e-11
    assert abs(honest.correction_nats) < 1e-12
    assert honest.exceedances == 0
    assert honest.worker_cpu_s > 0


def test_the_tested_model_has_learned_something() -> None:
    """Otherwise nothing here would distinguish a model from a uniform guess."""
    assert trained().losses.sum() / CELLS.count < math.log(VOCABULARY) - 0.5


@pytest.mark.parametrize(("name", "share"), [("look_ahead", 1.0), ("look_ahead", 0.01), ("evaluation_only", 1.0)])
def test_reading_ahead_is_fraud(name: str, share: float, tmp_path: Path) -> None:
    with pytest.raises(UntrustedInputError, match="again in a replay") as refusal:
        score(recipes.payload(name, tmp_path / "recipe", {"SHARE": share}))
    assert refusal.value.code == "FRD-CLAIM"
