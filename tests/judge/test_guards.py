"""Non-inferiority on one part of the test: how often it lets a real regression pass, and how often it stops a harmless change."""

import numpy as np
import pytest

from ralph.errors import ConfigurationError
from ralph.judge.guards import Part, guard
from ralph.protocol.scoring_rules import GuardRules

RULES = GuardRules(sources=(), source_margin_sigmas=1.0, min_documents=1, level=0.95, resamples=400)
MARGIN, RUN_SD, ITEM_SD = 0.03, 0.01, 0.1
TRIALS = 400


def key(number: int) -> bytes:
    return number.to_bytes(32, "little")


def part(mean: float, *, seed: int, runs: int = 8, items: int = 200) -> Part:
    """Return paired differences with a part of every run, a part of every item, and the rest."""
    generator = np.random.default_rng(seed)
    weight = generator.uniform(50, 500, items)
    per_unit = (
        mean + generator.normal(0, RUN_SD, (runs, 1)) + generator.normal(0, ITEM_SD, (1, items)) + generator.normal(0, 0.05, (runs, items))
    )
    return Part(kind="source", name="docs", difference=per_unit * weight, weight=weight)


def passes(mean: float, **shape: int) -> float:
    """Return how often a part with this true difference is called safe."""
    return float(np.mean([guard(part(mean, seed=number, **shape), RULES, key=key(number)).upper <= MARGIN for number in range(TRIALS)]))


@pytest.mark.parametrize("shape", [{"runs": 4}, {"runs": 8}, {"runs": 8, "items": 64}])
def test_a_regression_of_the_margin_passes_about_as_rarely_as_the_level_says(shape: dict[str, int]) -> None:
    """With four runs the bootstrap is too narrow, as it is known to be; it must not be worse than twice the level."""
    assert passes(MARGIN, **shape) <= 0.10 + 2 * (0.05 * 0.95 / TRIALS) ** 0.5


def test_a_regression_of_twice_the_margin_never_passes() -> None:
    assert passes(2 * MARGIN) == 0


def test_a_change_that_moves_nothing_is_safe() -> None:
    assert passes(0.0) > 0.95


def test_the_difference_is_that_of_the_pooled_parts_and_the_bound_is_above_it() -> None:
    one = part(0.01, seed=1)
    row = guard(one, RULES, key=key(1))
    assert row.difference == pytest.approx(one.difference.mean(axis=0).sum() / one.weight.sum())
    assert row.upper > row.difference
    assert (row.runs, row.items) == one.difference.shape


def test_the_bound_repeats_under_its_key() -> None:
    one = part(0.0, seed=2)
    assert guard(one, RULES, key=key(3)) == guard(one, RULES, key=key(3))
    assert guard(one, RULES, key=key(3)).upper != guard(one, RULES, key=key(4)).upper


def test_its_spread_is_that_of_means_over_runs_and_items_together() -> None:
    """The interval of one sample is compared with how the difference itself varies from sample to sample."""
    samples = [guard(part(0.0, seed=number), RULES, key=key(number)) for number in range(TRIALS)]
    true_sd = np.std([row.difference for row in samples], ddof=1)
    stated = np.mean([row.upper - row.difference for row in samples]) / 1.645
    assert stated == pytest.approx(true_sd, rel=0.12)


@pytest.mark.parametrize("shape", [(1, 10), (0, 10), (4, 0)])
def test_too_little_to_say_anything_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ConfigurationError):
        guard(Part(kind="source", name="docs", difference=np.zeros(shape), weight=np.ones(shape[1])), RULES, key=key(0))
