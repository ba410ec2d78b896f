"""When claims are doubted: as honest models differ on a kind of device, and no more."""

import math

import numpy as np
import pytest

from ralph.evaluate.draw import Draw, draw
from ralph.evaluate.redraw import draws_needed
from ralph.evaluate.tolerance import allowed, doubts
from ralph.protocol.network import CPU_TOLERANCE, GPU_TOLERANCE, devnet_rules
from ralph.protocol.scoring_rules import ToleranceRules
from tests.evaluate.material import KEY

CELLS = 20_000
LOSSES = np.random.default_rng(3).gamma(2.0, 1.5, CELLS)
HALF = ToleranceRules(device="cuda", tau_nats=0.05, share=0.002, level=1e-6, worst_nats=1.0, rms_nats=0.02, probe_multiple=128)
"""As the design expects of bfloat16: mismatches of 0.01 nats."""


def found(mismatch: np.ndarray, tolerance: ToleranceRules, *, key: bytes = KEY, king_share: float = 0.0) -> list[str]:
    drawn: Draw = draw(key, LOSSES - mismatch, None, uniform=8000, weighted=1000)
    probed = np.unique(drawn.cells)
    return [
        one.detail for one in doubts(mismatch[probed], drawn=drawn, probed=probed, cells=CELLS, tolerance=tolerance, king_share=king_share)
    ]


def honest(seed: int, scale: float = 0.01) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, CELLS)


def test_honest_models_are_never_doubted_on_their_own_kind_of_device() -> None:
    for seed in range(60):
        key = bytes([seed] * 32)
        assert found(honest(seed), HALF, key=key) == []
        assert found(honest(seed, 1e-14), CPU_TOLERANCE, key=key) == []
        assert found(honest(seed, 1e-15), GPU_TOLERANCE, key=key) == []


def test_one_difference_is_enough_on_a_cpu() -> None:
    mismatch = np.zeros(CELLS)
    mismatch[draw(KEY, LOSSES, None, uniform=8000, weighted=1000).cells[0]] = 2e-5
    drawn = draw(KEY, LOSSES, None, uniform=8000, weighted=1000)
    probed = np.unique(drawn.cells)
    (first, *_) = doubts(mismatch[probed], drawn=drawn, probed=probed, cells=CELLS, tolerance=CPU_TOLERANCE)
    assert first.detail == f"1 of {probed.size} by more than 1e-05 nats"
    assert first.cells.sum() == 1


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (lambda noise: np.where(np.arange(CELLS) % 1000 == 7, LOSSES, noise), "by more than 1 nats"),
        (lambda noise: np.where(np.arange(CELLS) % 100 == 7, 0.08, noise), "is honest"),
        (lambda noise: 3 * noise, "a root mean square of"),
        (lambda noise: noise + 0.004, "a correction of"),
    ],
    ids=["nothing claimed for a thousandth", "a little on a hundredth", "too coarse", "a little everywhere"],
)
def test_lies_among_honest_noise_are_doubted_for_what_they_are(lie: object, told: str) -> None:
    details = found(lie(honest(1)), HALF)  # type: ignore[operator]
    assert any(told in detail for detail in details), details


def test_who_exceeds_tau_no_more_often_than_the_king_is_not_doubted_for_it() -> None:
    often = np.where(np.arange(CELLS) % 100 == 7, 0.06, honest(2, 0.002))
    assert any("at most" in detail and "0.05" in detail for detail in found(often, HALF))
    assert not any("by more than 0.05" in detail for detail in found(often, HALF, king_share=0.01))


@pytest.mark.parametrize("expected", [0.0, 0.3, 4.0, 60.0])
def test_a_count_is_exceeded_with_the_stated_probability(expected: float) -> None:
    level = 1e-3
    most = allowed(expected, level=level)
    counts = np.random.default_rng(5).poisson(expected, 400_000)
    assert np.mean(counts > most) <= level * 1.3
    assert most == 0 or np.mean(counts > most - 1) > level * 0.7


def test_without_a_level_no_exceedance_is_honest() -> None:
    assert allowed(0.0, level=0.0) == 0


def test_the_draws_that_a_gain_calls_for_find_the_cheat_that_wins_it() -> None:
    draws = draws_needed(0.002, worst_nats=12.0, passes=0.05)
    lies = np.zeros(1_200_000, np.bool_)
    lies[:200] = True
    generator = np.random.default_rng(6)
    passed = np.mean([not lies[generator.integers(0, lies.size, draws)].any() for _ in range(400)])
    assert math.isclose(passed, 0.05, abs_tol=0.035)


def test_a_whole_proof_of_the_devnet_lets_a_cheat_worth_the_least_crown_through_less_than_once_in_fifty() -> None:
    """Every proof run is audited by itself; a cheat must pass all of them, and meets the bar of the crown besides."""
    rules = devnet_rules(genesis_tree=bytes(32), manifest=bytes(32), vocabulary=1024, hidden=bytes(32), sources=())
    least_bpb = rules.crown.minimum_gain_sigmas * rules.crown.sigma
    gain_nats = least_bpb * math.log(2) * 3.0  # a token of these vocabularies has about three bytes
    each = 0.02 ** (1 / rules.crown.proof_looks[0])
    assert rules.evaluation.uniform_cells >= draws_needed(gain_nats, worst_nats=12.0, passes=each)
