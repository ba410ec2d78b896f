"""Recipes that cheat while they are scored, in real sandboxes: what each of them can and cannot get (threats T12, T13, T26)."""

from pathlib import Path

import numpy as np
import pytest

from ralph.errors import UntrustedInputError
from ralph.evaluate import claims as claiming
from ralph.evaluate.draw import draw
from ralph.evaluate.estimator import exceedances
from ralph.evaluate.measure import Revealed
from ralph.evaluate.redraw import gain, redraw
from ralph_devnet.hostile import recipes
from tests.evaluate.material import KEY
from tests.evaluate.trusted import CELLS, ROWS, RULES, exam, king_losses, revealed, score, trained

TIMES = 2000


def caught(seen: Revealed) -> int:
    """Return how many of the drawn cells are over the tolerance: any of them leads to a replay and FRD-CLAIM."""
    king = king_losses()
    drawn = draw(KEY, seen.claims, king, uniform=RULES.uniform_cells, weighted=RULES.weighted_cells)
    cells = np.unique(drawn.cells)
    return exceedances(seen.claims[cells], seen.truths[cells], RULES.tolerance("cpu").tau_nats)


def test_reading_ahead_gains_nothing_on_average_and_never_passes(tmp_path: Path) -> None:
    """The smartest reader: claims about 0, and answers probes with its honest twin's logits."""
    seen = revealed(recipes.payload("look_ahead", tmp_path / "recipe"))
    truth, king = trained().losses, king_losses()
    assert seen.claims.mean() < 0.2 * truth.mean()
    assert np.abs(seen.truths - truth).max() < 1e-4
    cheat = redraw(seen.claims, seen.truths, king, rules=RULES, key=KEY, times=TIMES)
    twin = redraw(truth, truth, king, rules=RULES, key=KEY, times=2)
    assert abs(gain(cheat, twin).standard_errors) < 0.1
    assert cheat.passed == 0


@pytest.mark.parametrize("name", ["prefix_length", "memory", "deflated", "giant_logits"])
def test_claims_that_a_fresh_worker_cannot_support_are_caught(name: str, tmp_path: Path) -> None:
    seen = revealed(recipes.payload(name, tmp_path / "recipe"))
    assert caught(seen) > 0


def test_attention_to_the_future_does_not_lower_the_true_loss(tmp_path: Path) -> None:
    seen = revealed(recipes.leaky_attention(tmp_path / "recipe"))
    assert caught(seen) > 0
    assert seen.truths.mean() > trained().losses.sum() / CELLS.count


def test_constants_added_to_logits_change_nothing(tmp_path: Path) -> None:
    shifted = score(recipes.payload("shifted_logits", tmp_path / "recipe"))
    truth = trained().losses.sum() / CELLS.count
    assert float(np.sum(shifted.document_nats)) / CELLS.count == pytest.approx(truth, abs=1e-6)
    assert shifted.exceedances == 0


def test_logits_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        score(recipes.payload("not_a_number", tmp_path / "recipe"))
    assert refusal.value.code == "RUN-NAN"


def test_answers_stashed_in_one_sandbox_are_not_found_in_the_next(tmp_path: Path) -> None:
    """In its own sandbox the stash works: asked twice for the same rows, the worker knows the tokens that it stored."""
    hostile = exam(recipes.payload("stash", tmp_path / "recipe"))
    truth = trained().losses
    position = CELLS.position(np.arange(CELLS.count))
    stored = (position >= 8) & (position < 16)
    with hostile.model.start() as first, hostile.model.start() as second:
        channel = hostile.model.open(first)
        once, twice = (claiming.collect(channel.claim, ROWS, batch_rows=RULES.batch_rows, key=KEY) for _ in range(2))
        first.kill()
        answers = hostile.truths(second, np.arange(CELLS.count))
    assert once == pytest.approx(truth, abs=1e-4)
    assert twice[stored].mean() < 0.1
    assert (answers - truth).min() > -1e-4
