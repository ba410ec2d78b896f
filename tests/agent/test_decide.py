"""The keep rule on numbers alone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.agent.decide import Action, NoiseBand, Scatter, estimate, judge

SIGMA = 0.013
BAND = NoiseBand(mean_bpb=2.8, sigma_bpb=SIGMA, runs=5)
SCATTER = Scatter.of(BAND)


def experiment(differences: list[float], scatter: Scatter = SCATTER) -> tuple[Action, int]:
    """Return what the looks decide in the end, and after how many runs."""
    for count in range(1, len(differences) + 1):
        judgement = judge(differences[:count], scatter, last=count == len(differences))
        if judgement.action is not Action.CONTINUE:
            return judgement.action, count
    raise AssertionError("the last look did not decide")


def kept_of(effect: float, sd: float, *, draws: int = 4_000, seed: int = 5) -> tuple[float, float]:
    """Return the share of experiments with a true effect that are kept, and their mean number of runs."""
    generator = random.Random(seed)
    outcomes = [experiment([generator.gauss(effect, sd) for _ in range(3)]) for _ in range(draws)]
    return sum(action is Action.KEEP for action, _ in outcomes) / draws, sum(runs for _, runs in outcomes) / draws


def test_one_run_keeps_nothing_however_good() -> None:
    assert judge([1.0], SCATTER).action is Action.CONTINUE


def test_a_clear_loss_is_discarded_after_one_run() -> None:
    assert experiment([-0.05, 0.5, 0.5]) == (Action.DISCARD, 1)


def test_an_edit_that_changes_nothing_is_discarded_after_one_run() -> None:
    assert experiment([0.0, 0.0, 0.0]) == (Action.DISCARD, 1)


def test_a_large_gain_is_kept_after_two_runs() -> None:
    assert experiment([0.22, 0.21, 0.2]) == (Action.KEEP, 2)


def test_a_moderate_gain_takes_three_runs() -> None:
    assert experiment([0.035, 0.04, 0.038]) == (Action.KEEP, 3)


def test_a_gain_that_comes_from_one_lucky_seed_is_not_kept() -> None:
    assert experiment([0.2, 0.01, 0.01])[0] is Action.DISCARD


def test_a_null_edit_is_kept_less_than_once_in_two_hundred_at_the_assumed_scatter() -> None:
    kept, runs = kept_of(0.0, SCATTER.sd)
    assert kept < 0.005
    assert runs < 1.5


def test_a_null_edit_that_scatters_half_as_much_again_is_kept_less_than_once_in_forty() -> None:
    assert kept_of(0.0, 1.5 * SCATTER.sd)[0] < 0.025


def test_a_gain_of_three_sigma_is_nearly_always_kept() -> None:
    assert kept_of(4 * SIGMA, SCATTER.sd)[0] > 0.9


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=3))
def test_the_own_scatter_of_a_challenger_never_lowers_the_standard_error(differences: list[float]) -> None:
    assert estimate(differences, SCATTER).standard_error_bpb >= SCATTER.sd / len(differences) ** 0.5 * (1 - 1e-12)


def test_pairs_that_hardly_scatter_narrow_the_scatter_of_later_ones() -> None:
    assert Scatter.of(BAND, [[0.1, 0.101, 0.099]] * 4).sd < 0.7 * SCATTER.sd


def test_single_pairs_say_nothing_of_scatter() -> None:
    assert Scatter.of(BAND, [[0.1], [0.5]]).sd == pytest.approx(SCATTER.sd)


def test_a_band_of_one_run_is_the_reference() -> None:
    assert NoiseBand.of([2.8], reference=SIGMA).sigma_bpb == pytest.approx(SIGMA)


def test_a_band_wider_than_the_reference_is_believed_in_part() -> None:
    assert SIGMA < NoiseBand.of([2.7, 2.8, 2.9], reference=SIGMA).sigma_bpb < 0.1


def test_every_reason_names_the_gain_and_the_threshold() -> None:
    assert judge([0.22, 0.21], SCATTER).reason.startswith("better by +0.2150 bpb on 2 paired seeds, ")
    assert judge([-0.1], SCATTER).reason.endswith("0.5 are needed")
