"""The draw: right probabilities, repeatable, unpredictable without key and claims."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ralph.errors import ConfigurationError
from ralph.evaluate.draw import CLAIMS_TAG, Gains, claims_digest, draw, permutation, probabilities
from ralph.protocol.canonical import digest
from tests.evaluate import plain

KEY = bytes(range(32))


def losses(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).exponential(2.0, count)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 50), st.integers(0, 50), st.integers(0, 2**32 - 1))
def test_probabilities_of_all_cells_sum_to_one_whatever_is_claimed(count: int, uniform: int, weighted: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    gains = Gains.of(generator.exponential(2.0, count), generator.exponential(2.0, count))
    pi = probabilities(np.arange(count), gains, count=count, uniform=uniform, weighted=weighted)
    assert pi.sum() == pytest.approx(1.0, abs=1e-12)
    assert pi.min() > 0


def test_weights_are_proportional_to_what_is_claimed_to_be_gained() -> None:
    gains = Gains.of(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 5.0, 3.0, 1.0]))
    assert gains is not None
    assert gains.weight(np.arange(4)).tolist() == [0.25, 0.75, 0.0, 0.0]


def test_without_a_claimed_gain_or_a_king_all_cells_are_equally_likely() -> None:
    claims = losses(50)
    assert Gains.of(claims, None) is None
    assert Gains.of(claims, claims) is None
    drawn = draw(KEY, claims, None, uniform=30, weighted=10)
    assert drawn.cells.size == 40
    assert np.all(drawn.probability == 1 / 50)


def test_each_cell_is_drawn_as_often_as_its_probability_says() -> None:
    claims, king = losses(40, 1), losses(40, 2)
    uniform, weighted = 60_000, 30_000
    drawn = draw(KEY, claims, king, uniform=uniform, weighted=weighted)
    weight = plain.weights(claims, king)
    assert weight is not None
    pi = plain.probabilities(40, weight, uniform=uniform, weighted=weighted)
    assert drawn.probability == pytest.approx(pi[drawn.cells], rel=1e-14)
    first = stats.chisquare(np.bincount(drawn.cells[:uniform], minlength=40))
    better = weight > 0
    observed = np.bincount(drawn.cells[uniform:], minlength=40)
    second = stats.chisquare(observed[better], weight[better] * weighted)
    assert observed[~better].sum() == 0
    assert min(first.pvalue, second.pvalue) > 1e-3


def test_the_draw_repeats_with_the_key_and_changes_with_key_or_claims() -> None:
    claims, king = losses(5000), losses(5000, 1)
    one = draw(KEY, claims, king, uniform=64, weighted=64).cells
    assert np.array_equal(one, draw(KEY, claims.copy(), king, uniform=64, weighted=64).cells)
    assert not np.array_equal(one, draw(bytes(32), claims, king, uniform=64, weighted=64).cells)
    changed = claims.copy()
    changed[4999] = np.nextafter(changed[4999], 9.0)
    assert not np.array_equal(one[:64], draw(KEY, changed, king, uniform=64, weighted=64).cells[:64])


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 700), st.integers(0, 60), st.integers(1, 800), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 0.99]))
def test_the_draw_is_that_of_its_definition_whatever_the_pieces(count: int, weighted: int, piece: int, seed: int, equal: float) -> None:
    """Also where most cells gain nothing, and for pieces that do not divide the count."""
    generator = np.random.default_rng(seed)
    claims, king = generator.exponential(2.0, (2, count))
    king = np.where(generator.random(count) < equal, claims, king)
    numbers = {"uniform": 20, "weighted": weighted + (weighted == 1)}
    expected, found = plain.draw(KEY, claims, king, **numbers), draw(KEY, claims, king, piece=piece, **numbers)
    assert found.seed == expected.seed
    assert found.uniform == expected.uniform
    assert np.array_equal(found.cells, expected.cells)
    assert found.probability == pytest.approx(expected.probability, rel=1e-13)
    whole = draw(KEY, claims, king, piece=count, **numbers)
    assert np.array_equal(found.cells, whole.cells)
    assert np.array_equal(found.probability, whole.probability)


@pytest.mark.parametrize("piece", [1 << 16, 100_003, 7919])
def test_a_large_draw_does_not_depend_on_the_pieces_to_the_last_bit(piece: int) -> None:
    claims, king = losses(300_001, 1), losses(300_001, 2)
    expected = plain.draw(KEY, claims, king, uniform=2048, weighted=2048)
    whole, found = (draw(KEY, claims, king, uniform=2048, weighted=2048, piece=size) for size in (claims.size, piece))
    assert np.array_equal(found.cells, expected.cells)
    assert found.probability == pytest.approx(expected.probability, rel=1e-12)
    assert np.array_equal(found.cells, whole.cells)
    assert np.array_equal(found.probability, whole.probability)


def test_the_largest_and_the_smallest_number_find_cells_that_gain() -> None:
    """The first and the last cells gain nothing; a number next to 1 may round to the whole sum."""
    king = np.array([0.0, 0.0, 0.1, 0.2, 0.0, 1e-300, 0.0])
    for piece in range(1, 9):
        gains = Gains.of(np.zeros(7), king, piece=piece)
        assert gains is not None
        assert gains.find(np.array([1 - 2.0**-53, 0.0, 0.5, 0.25])).tolist() == [3, 2, 3, 2]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40).map(lambda data: np.frombuffer(data[: len(data) // 8 * 8], "<f8")))
def test_the_digest_of_claims_is_that_of_their_bytes(claims: np.ndarray) -> None:
    assert claims_digest(claims) == digest(CLAIMS_TAG, claims.tobytes())


def test_a_known_key_draws_known_cells() -> None:
    """Golden values: the draw must not change with numpy or the machine."""
    drawn = draw(KEY, np.arange(1000) / 256, None, uniform=6, weighted=0)
    assert drawn.cells.tolist() == GOLDEN
    assert permutation(KEY, "example", 6).tolist() == GOLDEN_ORDER


def test_a_draw_that_could_miss_a_cell_for_ever_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        draw(KEY, losses(10), losses(10, 1), uniform=0, weighted=10)
    with pytest.raises(ConfigurationError):
        draw(b"short", losses(10), None, uniform=10, weighted=0)
    with pytest.raises(ConfigurationError):
        draw(KEY, np.zeros(0), None, uniform=10, weighted=0)


GOLDEN = [45, 940, 621, 32, 793, 716]
GOLDEN_ORDER = [2, 3, 1, 0, 5, 4]
