import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.judge.sequential import Action, alpha, check, critical_t, filter_look, power_hint, proof_look, screen
from ralph.judge.statistics import estimate
from ralph.protocol.network import DEVNET_CROWN
from ralph.protocol.reasons import Reason
from ralph.protocol.rules import CrownRules
from tests.judge.profiles import devnet_crown_rules, mainnet_crown_rules

DEVNET, MAINNET = devnet_crown_rules(sigma=1.0), mainnet_crown_rules(sigma=1.0)
POOL = [9.0, 11.0] * 8


def runs_with(n: int, *, gain: float, scatter: float = 1.0) -> tuple[list[float], list[float], list[float]]:
    """Challenger, king and pool with exactly this estimated gain."""
    noise = [scatter * (1 if i % 2 else -1) for i in range(n)]
    return [10.0 - gain + e for e in noise], [10.0] * n, POOL


def pairs_with(n: int, *, gain: float, scatter: float = 1.0) -> tuple[list[float], list[float]]:
    """Challenger and king with exactly this mean difference, as screen and filter see them."""
    return runs_with(n, gain=gain, scatter=scatter)[:2]


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        (1, (5.35, 3.84, 3.46, 3.49)),
        (2, (6.02, 4.18, 3.72, 3.72)),
        (5, (7.38, 4.81, 4.17, 4.12)),
        (10, (8.82, 5.41, 4.57, 4.47)),
        (30, (11.97, 6.52, 5.28, 5.08)),
    ],
)
def test_mainnet_critical_values_are_those_of_the_design(entry: int, values: tuple[float, ...]) -> None:
    assert tuple(round(critical_t(entry, index, MAINNET), 2) for index in range(4)) == values


@pytest.mark.parametrize(("entry", "values"), [(1, (6.32, 3.05)), (2, (8.05, 3.55)), (5, (12.35, 4.54))])
def test_devnet_critical_values_are_those_of_the_design(entry: int, values: tuple[float, ...]) -> None:
    for rules in (DEVNET, DEVNET_CROWN):
        assert tuple(round(critical_t(entry, index, rules), 2) for index in range(2)) == values


@pytest.mark.parametrize("rules", [DEVNET, MAINNET])
def test_a_reign_never_spends_more_than_half_its_alpha(rules: CrownRules) -> None:
    spent = math.fsum(alpha(entry, rules) for entry in range(1, 20_000))
    assert 0.999 * rules.alpha_reign / 2 < spent < rules.alpha_reign / 2


@pytest.mark.parametrize("rules", [DEVNET, MAINNET])
def test_every_further_entry_meets_a_higher_bar(rules: CrownRules) -> None:
    for index in range(len(rules.proof_looks)):
        bars = [critical_t(entry, index, rules) for entry in range(1, 100)]
        assert bars == sorted(set(bars))


def test_entries_count_from_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        alpha(0, DEVNET)


def test_the_screen_lets_through_what_exceeds_its_threshold() -> None:
    error = estimate([10.0], [10.0], None, DEVNET).standard_error_z
    assert screen(*pairs_with(1, gain=0.51 * error, scatter=0), DEVNET).action is Action.ADVANCE
    dropped = screen(*pairs_with(1, gain=0.49 * error, scatter=0), DEVNET)
    assert (dropped.action, dropped.reason, dropped.threshold) == (Action.DROP, Reason.STA_NOISE, 0.5)
    assert screen(*pairs_with(1, gain=-3.0, scatter=0), DEVNET).reason is Reason.STA_WORSE


@pytest.mark.parametrize(
    ("rules", "n", "z", "action"),
    [
        (DEVNET, 2, 0.29, Action.DROP),
        (DEVNET, 2, 0.31, Action.CONTINUE),
        (DEVNET, 2, 2.99, Action.CONTINUE),
        (DEVNET, 2, 3.01, Action.ADVANCE),
        (DEVNET, 4, 1.49, Action.DROP),
        (DEVNET, 4, 1.51, Action.ADVANCE),
        (MAINNET, 2, -0.01, Action.DROP),
        (MAINNET, 2, 0.01, Action.CONTINUE),
        (MAINNET, 2, 50.0, Action.CONTINUE),
        (MAINNET, 4, 0.59, Action.DROP),
        (MAINNET, 4, 2.49, Action.CONTINUE),
        (MAINNET, 4, 2.51, Action.ADVANCE),
        (MAINNET, 8, 1.19, Action.DROP),
        (MAINNET, 8, 2.19, Action.CONTINUE),
        (MAINNET, 8, 2.21, Action.ADVANCE),
        (MAINNET, 16, 1.99, Action.DROP),
        (MAINNET, 16, 2.01, Action.ADVANCE),
    ],
)
def test_each_filter_look_acts_at_the_thresholds_of_the_design(rules: CrownRules, n: int, z: float, action: Action) -> None:
    error = estimate(*pairs_with(n, gain=0.0), None, rules).standard_error_z
    look = filter_look(*pairs_with(n, gain=z * error), rules)
    assert look.action is action
    assert look.statistic == pytest.approx(z, abs=1e-9)
    assert look.reason is not Reason.STA_CROWN


@pytest.mark.parametrize(
    ("rules", "n", "t", "action"),
    [
        (DEVNET, 4, 0.59, Action.DROP),
        (DEVNET, 4, 0.61, Action.CONTINUE),
        (DEVNET, 4, 8.0, Action.CONTINUE),
        (DEVNET, 4, 8.1, Action.CROWN),
        (DEVNET, 8, 3.54, Action.DROP),
        (DEVNET, 8, 3.56, Action.CROWN),
        (MAINNET, 8, 0.59, Action.DROP),
        (MAINNET, 8, 6.0, Action.CONTINUE),
        (MAINNET, 8, 6.05, Action.CROWN),
        (MAINNET, 16, 1.29, Action.DROP),
        (MAINNET, 16, 4.2, Action.CROWN),
        (MAINNET, 32, 1.99, Action.DROP),
        (MAINNET, 32, 2.01, Action.CONTINUE),
        (MAINNET, 48, 3.71, Action.DROP),
        (MAINNET, 48, 3.73, Action.CROWN),
    ],
)
def test_each_proof_look_of_the_second_entry_acts_at_the_thresholds_of_the_design(
    rules: CrownRules, n: int, t: float, action: Action
) -> None:
    error = estimate(*runs_with(n, gain=0.0), rules).standard_error_t
    assert error is not None
    look = proof_look(*runs_with(n, gain=t * error), rules, entry=2)
    assert look.action is action
    assert look.statistic == pytest.approx(t, abs=1e-9)
    assert look.alpha == pytest.approx(rules.proof_weights[look.index] * rules.alpha_reign / 12)


def test_the_bar_of_a_proof_look_rises_with_the_entries_of_the_reign() -> None:
    runs = runs_with(8, gain=2.0)
    assert proof_look(*runs, DEVNET, entry=1).action is Action.CROWN
    assert proof_look(*runs, DEVNET, entry=100).action is Action.DROP


def test_a_certain_gain_below_the_minimum_is_no_crown() -> None:
    quiet_pool = [10.0 + 1e-4 * (-1) ** i for i in range(16)]
    small = proof_look([9.901, 9.9012] * 4, [10.0] * 8, quiet_pool, DEVNET, entry=1)
    assert small.statistic is not None
    assert small.threshold is not None
    assert small.statistic > small.threshold
    assert (small.action, small.minimum_gain) == (Action.DROP, 0.1)
    enough = proof_look([9.899, 9.8992] * 4, [10.0] * 8, quiet_pool, DEVNET, entry=1)
    assert enough.action is Action.CROWN


def test_proof_runs_without_scatter_are_dropped_not_crowned() -> None:
    look = proof_look([1.0] * 8, [10.0] * 8, [10.0] * 8, DEVNET, entry=1)
    assert (look.action, look.statistic, look.reason) == (Action.DROP, None, Reason.STA_NOISE)


def test_scatter_and_not_the_unit_sigma_decides_the_proof() -> None:
    runs = runs_with(8, gain=5.0, scatter=15.0)
    assert proof_look(*runs, DEVNET, entry=1).action is Action.DROP
    assert proof_look(*runs, DEVNET.model_copy(update={"sigma": 1e-6, "variance_reference": 1e-12}), entry=1).action is Action.DROP


@pytest.mark.parametrize("n", [1, 3, 5, 16])
def test_a_look_at_another_number_of_runs_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="look at"):
        filter_look(*pairs_with(n, gain=1.0), DEVNET)
    with pytest.raises(ValueError, match="look at"):
        proof_look(*runs_with(n, gain=1.0), DEVNET, entry=1)


def test_a_screen_of_another_number_of_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="screen runs"):
        screen(*pairs_with(2, gain=1.0), DEVNET)


@given(
    st.sampled_from([(DEVNET, 4), (DEVNET, 8), (MAINNET, 8), (MAINNET, 16), (MAINNET, 48)]),
    st.floats(min_value=0, max_value=5),
    st.floats(min_value=0, max_value=5),
    st.integers(min_value=1, max_value=500),
)
def test_a_larger_gain_never_gets_a_worse_answer(case: tuple[CrownRules, int], gain: float, more: float, entry: int) -> None:
    order = [Action.DROP, Action.CONTINUE, Action.CROWN]
    rules, n = case
    less = proof_look(*runs_with(n, gain=gain), rules, entry=entry)
    bigger = proof_look(*runs_with(n, gain=gain + more), rules, entry=entry)
    assert order.index(bigger.action) >= order.index(less.action)


def test_the_power_hint_of_a_clear_effect_is_zero_and_grows_as_the_effect_shrinks() -> None:
    hints = [power_hint(estimate(*runs_with(4, gain=gain), DEVNET), DEVNET, entry=1) for gain in (8.0, 2.0, 1.5)]
    assert hints[0] == 0
    assert hints[1] is not None
    assert hints[2] is not None
    assert 0 < hints[1] < hints[2]


@pytest.mark.parametrize("gain", [-1.0, 0.0, 0.05])
def test_there_is_no_power_hint_for_an_effect_that_cannot_be_crowned(gain: float) -> None:
    assert power_hint(estimate(*runs_with(4, gain=gain), DEVNET), DEVNET, entry=1) is None


def test_as_many_runs_as_the_power_hint_says_give_the_promised_power() -> None:
    rules = DEVNET.model_copy(update={"variance_reference": 1.5625})
    pool = [9.0, 11.0] * 200
    seen = estimate([8.8, 10.2] * 2, [10.0] * 4, pool, rules)
    more = power_hint(seen, rules, entry=1)
    assert more is not None
    n = 4 + more
    generator = np.random.default_rng(7)
    rule_n = rules.model_copy(update={"proof_looks": (2, n)})
    sd = math.sqrt(seen.variance)
    draws = 10.0 - seen.est + sd * generator.standard_normal((2000, n))
    wins = sum(proof_look(list(row), [10.0] * n, pool, rule_n, entry=1).action is Action.CROWN for row in draws)
    assert 0.76 < wins / 2000 < 0.9


@pytest.mark.parametrize("rules", [DEVNET, MAINNET, DEVNET_CROWN])
def test_the_profiles_of_the_design_pass_the_check(rules: CrownRules) -> None:
    check(rules)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"filter_looks": (4, 2)}, "filter_looks"),
        ({"proof_looks": (1, 8)}, "proof_looks"),
        ({"filter_drop": ()}, "filter_drop"),
        ({"filter_advance": ()}, "filter_advance"),
        ({"proof_drop": ()}, "proof_drop"),
        ({"proof_weights": (1.0,)}, "proof_weights"),
        ({"proof_weights": (0.7, 0.7)}, "proof_weights"),
        ({"alpha_reign": 1.0}, "alpha_reign"),
        ({"sigma": 0.0}, "sigma"),
        ({"control_weight": 1.5}, "control_weight"),
        ({"pool_runs": 1}, "pool_runs"),
    ],
)
def test_rules_that_do_not_fit_together_are_named(change: dict[str, object], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        check(DEVNET.model_copy(update=change))
