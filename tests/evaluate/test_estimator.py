"""The estimate: unbiased for arbitrary claims, additive over slices, detection as computed, bytes as counted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.evaluate.cells import Cells
from ralph.evaluate.draw import Draw, draw
from ralph.evaluate.estimator import bits_per_byte
from ralph.evaluate.redraw import detection, gain, redraw
from ralph.protocol.scoring_rules import EvaluationRules
from tests.evaluate import material
from tests.evaluate.plain import grouped, probabilities, weights

KEY = b"k" * 32


def rules(uniform: int = 96, weighted: int = 32) -> EvaluationRules:
    return material.rules(uniform=uniform, weighted=weighted, batch_rows=4)


def truth_and_king(count: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.gamma(2.0, 1.0, count)
    return truth, np.maximum(truth + generator.normal(0.02, 0.5, count), 0.0)


def cheats(truth: np.ndarray, king: np.ndarray) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)
    largest = np.argsort(truth)[-8:]
    zeroed = truth.copy()
    zeroed[largest] = 0.0
    noisy = np.where(generator.random(truth.size) < 0.3, truth * generator.random(truth.size), truth)
    return {
        "zero everywhere": np.zeros_like(truth),
        "the king's loss where it is lower": np.minimum(truth, king),
        "the largest losses zeroed": zeroed,
        "random fractions on 30 %": noisy,
        "absurdly high": truth + 1e4 * generator.random(truth.size),
        "another model's losses": generator.permutation(truth),
    }


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 60), st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_the_expected_score_is_the_mean_true_loss_for_any_claims(count: int, uniform: int, weighted: int, seed: int) -> None:
    """Exactly: the expectation over one draw is enumerated, cell by cell."""
    generator = np.random.default_rng(seed)
    truth, king, claims = generator.exponential(2.0, (3, count))
    pi = probabilities(count, weights(claims, king), uniform=uniform, weighted=weighted)
    groups = np.zeros(count, np.int64)
    expected = 0.0
    for cell in range(count):
        once = Draw(cells=np.array([cell, cell]), probability=pi[[cell, cell]], uniform=2, seed=bytes(32))
        expected += pi[cell] * grouped(claims, once, truth[[cell, cell]], groups=groups, count=1).nats[0]
    assert expected / count == pytest.approx(truth.mean(), rel=1e-11)


@pytest.mark.parametrize("name", list(cheats(*truth_and_king(600))))
def test_no_claim_moves_the_average_score_over_redraws(name: str) -> None:
    truth, king = truth_and_king(600)
    seen = redraw(cheats(truth, king)[name], truth, king, rules=rules(), key=KEY, times=1500)
    honest = redraw(truth, truth, king, rules=rules(), key=KEY, times=2)
    assert abs(gain(seen, honest).standard_errors) < 0.1
    assert abs(seen.bias) < 4 * seen.spread / math.sqrt(1500)


def test_the_stated_standard_error_is_the_spread_over_redraws() -> None:
    truth, king = truth_and_king(600)
    seen = redraw(cheats(truth, king)["random fractions on 30 %"], truth, king, rules=rules(), key=KEY, times=1500)
    assert math.sqrt(float(np.mean(seen.standard_errors**2))) == pytest.approx(seen.spread, rel=0.04)


def test_honest_claims_need_no_correction() -> None:
    truth, king = truth_and_king(600)
    seen = redraw(truth, truth, king, rules=rules(), key=KEY, times=20)
    assert abs(seen.bias) < 1e-14
    assert seen.spread < 1e-14
    assert not seen.caught.any()


@pytest.mark.parametrize("wrong", [3, 12, 40])
def test_a_cheat_on_a_fraction_of_the_cells_is_caught_as_often_as_computed(wrong: int) -> None:
    truth, _ = truth_and_king(2000)
    claims = truth.copy()
    claims[:: 2000 // wrong][:wrong] *= 0.5
    fraction = float(np.mean(claims != truth))
    seen = redraw(claims, truth, None, rules=rules(96, 32), key=KEY, times=1500)
    expected = detection(fraction, cells=128)
    deviation = math.sqrt(expected * (1 - expected) / 1500)
    assert abs(seen.caught.mean() - expected) < 4 * deviation + 1e-9


def test_weighted_draws_catch_a_few_large_lies_far_more_often() -> None:
    truth, king = truth_and_king(5000)
    claims = truth.copy()
    claims[np.argsort(truth)[-6:]] = 0.0
    uniform = redraw(claims, truth, None, rules=rules(96, 32), key=KEY, times=800)
    weighted = redraw(claims, truth, king, rules=rules(96, 32), key=KEY, times=800)
    assert weighted.caught.mean() > 2 * uniform.caught.mean()


def test_slices_and_documents_add_up_to_the_whole() -> None:
    generator = np.random.default_rng(1)
    lengths = np.array([7, 0, 12, 1, 9, 12])
    cells = Cells.of(lengths)
    truth, king, claims = generator.exponential(2.0, (3, cells.count))
    drawn = draw(KEY, claims, king, uniform=20, weighted=10)
    found = truth[drawn.cells]
    rows = cells.row(np.arange(cells.count))
    whole = grouped(claims, drawn, found, groups=np.zeros(cells.count, np.int64), count=1)
    documents = grouped(claims, drawn, found, groups=rows, count=6)
    slices = grouped(claims, drawn, found, groups=np.array([0, 1, 0, 1, 1, 0])[rows], count=2)
    for parts in (documents, slices):
        assert parts.nats.sum() == pytest.approx(whole.nats[0], rel=1e-12)
        assert parts.correction.sum() == pytest.approx(whole.correction[0], rel=1e-10)
    assert documents.nats[1] == 0
    assert documents.standard_error[1] == 0
    terms = (found - claims[drawn.cells]) / drawn.probability
    inside = np.where(np.array([0, 1, 0, 1, 1, 0])[rows][drawn.cells] == 1, terms, 0.0)
    for stated, values in ((whole.standard_error[0], terms), (slices.standard_error[1], inside)):
        variance = 20 * values[:20].var(ddof=1) + 10 * values[20:].var(ddof=1)
        assert stated == pytest.approx(math.sqrt(variance) / 30, rel=1e-12)


def test_every_slice_is_unbiased_on_its_own() -> None:
    generator = np.random.default_rng(2)
    truth, king, claims = generator.exponential(2.0, (3, 300))
    groups = generator.integers(0, 3, 300)
    seen = []
    for number in range(1500):
        drawn = draw(number.to_bytes(32, "big"), claims, king, uniform=40, weighted=20)
        seen.append(grouped(claims, drawn, truth[drawn.cells], groups=groups, count=3).nats)
    values = np.array(seen)
    deviation = values.std(axis=0, ddof=1) / math.sqrt(1500)
    assert np.all(np.abs(values.mean(axis=0) - np.bincount(groups, weights=truth)) < 4 * deviation)


def test_bits_per_byte_divides_by_bytes_not_by_tokens() -> None:
    assert bits_per_byte(math.log(2) * 1000, 500) == 2.0
    assert bits_per_byte(math.log(2) * 1000, 250) == 4.0


def test_cells_are_numbered_row_by_row_without_padding() -> None:
    cells = Cells.of(np.array([2, 0, 3], np.int32))
    every = np.arange(cells.count)
    assert cells.row(every).tolist() == [0, 0, 2, 2, 2]
    assert cells.position(every).tolist() == [0, 1, 0, 1, 2]
    for piece in range(1, 7):
        assert cells.sums(np.arange(5.0), piece=piece).tolist() == [1, 0, 9]
    assert cells.flatten(np.arange(12.0).reshape(3, 4)).tolist() == [0, 1, 8, 9, 10]
