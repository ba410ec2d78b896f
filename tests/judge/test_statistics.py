import math
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.judge.statistics import PoolStatistics, estimate
from tests.judge.profiles import devnet_crown_rules

RULES = devnet_crown_rules(sigma=0.1, control_weight=0.75, rho=0.3)
LOSS = st.floats(min_value=0.5, max_value=10.0)
PAIRS = st.lists(st.tuples(LOSS, LOSS), min_size=2, max_size=20)
POOL = st.lists(LOSS, min_size=2, max_size=20)


def test_a_small_case_agrees_with_the_formulas_worked_by_hand() -> None:
    seen = estimate([2.0, 2.2], [2.4, 2.4], [2.3, 2.5], RULES)
    # X = -0.2, -0.4; mean -0.3; Kbar 2.4; s_X^2 = 0.02; s_K^2/M = 0.01; v_ref = 0.011125; v = (4 v_ref + 0.02)/5
    assert seen.est == pytest.approx(0.3, abs=1e-15)
    assert seen.sd_x == pytest.approx(math.sqrt(0.02))
    assert seen.variance == pytest.approx(0.0129)
    assert seen.z == pytest.approx(0.3 / math.sqrt(0.0129 / 2 + 0.0625 * 0.01))
    assert seen.t == pytest.approx(0.3 / math.sqrt(0.02 / 2 + 0.0625 * 0.01))
    assert seen.pool == PoolStatistics(mean=2.4, sd=pytest.approx(math.sqrt(0.02)), count=2)


@given(PAIRS, POOL)
def test_every_case_agrees_with_exact_arithmetic(pairs: list[tuple[float, float]], pool: list[float]) -> None:
    king, challenger = [k for k, _ in pairs], [c for _, c in pairs]
    seen = estimate(challenger, king, pool, RULES)
    n, b = len(pairs), Fraction(3, 4)
    x = [b * Fraction(k) - Fraction(c) for k, c in pairs]
    mean = sum(x) / n
    pool_mean = sum(map(Fraction, pool)) / len(pool)
    variance_x = sum((value - mean) ** 2 for value in x) / (n - 1)
    variance_k = sum((Fraction(value) - pool_mean) ** 2 for value in pool) / (len(pool) - 1)
    reference = Fraction(RULES.variance_reference)
    v = max(reference, (4 * reference + (n - 1) * variance_x) / (n + 3))
    error_z = math.sqrt(v / n + variance_k / 16 / len(pool))
    assert seen.est == pytest.approx(float(mean + pool_mean / 4), abs=1e-14)
    assert seen.standard_error_z == pytest.approx(error_z, rel=1e-9)
    if seen.sd_x and seen.sd_x > 1e-6:
        error_t = math.sqrt(variance_x / n + variance_k / 16 / len(pool))
        assert seen.standard_error_t == pytest.approx(error_t, rel=1e-9)
        assert seen.t == pytest.approx(seen.est / error_t, rel=1e-9, abs=1e-9)


@given(PAIRS, POOL, st.randoms(use_true_random=False))
def test_the_order_of_runs_changes_no_bit(pairs: list[tuple[float, float]], pool: list[float], random: Random) -> None:
    before = estimate([c for _, c in pairs], [k for k, _ in pairs], pool, RULES)
    random.shuffle(pairs)
    random.shuffle(pool)
    assert estimate([c for _, c in pairs], [k for k, _ in pairs], pool, RULES) == before


def test_a_common_offset_of_all_losses_changes_nothing() -> None:
    generator = np.random.default_rng(1)
    king, challenger, pool = (list(generator.normal(0, 0.01, 8)) for _ in range(3))
    near = estimate(challenger, king, pool, RULES)
    far = estimate([c + 1024 for c in challenger], [k + 1024 for k in king], [p + 1024 for p in pool], RULES)
    assert far.est == pytest.approx(near.est, abs=1e-12)
    assert far.t == pytest.approx(near.t, rel=1e-8)


def test_one_run_has_a_z_under_the_reference_variance_and_no_t() -> None:
    seen = estimate([2.0], [2.4], [2.4, 2.4], RULES)
    assert (seen.t, seen.sd_x, seen.standard_error_t) == (None, None, None)
    assert seen.variance == RULES.variance_reference
    assert seen.z == pytest.approx(0.4 / math.sqrt(RULES.variance_reference))


@pytest.mark.parametrize("n", [2, 3, 5, 6, 7, 11, 13, 49])
@pytest.mark.parametrize("value", [2.0, 2.1, 1 / 3, 2.4337])
def test_runs_without_scatter_have_no_t_however_their_sum_rounds(n: int, value: float) -> None:
    seen = estimate([value] * n, [2.4] * n, [2.4, 2.4, 2.4], RULES)
    assert (seen.sd_x, seen.t, seen.standard_error_t) == (0.0, None, None)
    assert seen.pool.sd == 0.0
    assert math.isfinite(seen.z)


def test_runs_that_differ_by_rounding_only_have_no_t() -> None:
    seen = estimate([2.1, math.nextafter(2.1, 3), 2.1], [2.4] * 3, [2.4, 2.4], RULES)
    assert seen.t is None


def test_quiet_runs_cannot_push_z_above_the_reference_variance() -> None:
    quiet = estimate([2.3, 2.3001] * 8, [2.4] * 16, [2.4, 2.4], RULES)
    assert quiet.variance == RULES.variance_reference


def test_noisy_runs_lower_both_statistics() -> None:
    calm = estimate([2.2, 2.4, 2.2, 2.4], [2.4] * 4, [2.3, 2.5], RULES)
    noisy = estimate([1.8, 2.8, 1.8, 2.8], [2.4] * 4, [2.3, 2.5], RULES)
    assert noisy.est == pytest.approx(calm.est)
    assert calm.t is not None
    assert noisy.t is not None
    assert noisy.t < calm.t / 4
    assert noisy.z < calm.z / 2


@pytest.mark.parametrize(
    ("challenger", "king", "pool"),
    [
        ([], [], [2.0, 2.1]),
        ([2.0], [2.0, 2.1], [2.0, 2.1]),
        ([2.0, 2.1], [2.0, 2.1], [2.0]),
        ([2.0, 2.1], [2.0, 2.1], []),
        ([math.nan, 2.1], [2.0, 2.1], [2.0, 2.1]),
        ([2.0, 2.1], [math.inf, 2.1], [2.0, 2.1]),
        ([2.0, 2.1], [2.0, 2.1], [-math.inf, 2.1]),
    ],
)
def test_runs_that_allow_no_estimate_are_refused(challenger: list[float], king: list[float], pool: list[float]) -> None:
    with pytest.raises(ValueError, match=r"runs|holds"):
        estimate(challenger, king, pool, RULES)


def test_a_reference_variance_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="variance_reference"):
        estimate([2.0], [2.0], [2.0, 2.1], RULES.model_copy(update={"variance_reference": 0.0}))
