from hypothesis import given
from hypothesis import strategies as st

from ralph.chain.consensus import MAX_WEIGHT, shares, upscale

NAMES = st.sampled_from(["m0", "m1", "m2", "m3", "v0", "v1", "v2"])
ROWS = st.dictionaries(NAMES, st.integers(0, MAX_WEIGHT), max_size=6)
VALIDATORS = st.sampled_from(["v0", "v1", "v2"])


@given(ROWS)
def test_upscaled_weights_keep_their_order_and_the_largest_is_the_maximum(weights: dict[str, int]) -> None:
    stored = upscale(weights)
    assert all(0 < weight <= MAX_WEIGHT for weight in stored.values())
    assert (max(stored.values()) == MAX_WEIGHT) if any(weights.values()) else stored == {}
    assert upscale(stored) == stored
    for one in stored:
        for other in stored:
            assert (weights[one] >= weights[other]) <= (stored[one] >= stored[other])


@given(st.dictionaries(VALIDATORS, st.integers(0, 10**15)), st.dictionaries(VALIDATORS, ROWS), st.integers(0, 10**12))
def test_never_more_is_paid_than_there_is(stakes: dict[str, int], weights: dict[str, dict[str, int]], amount: int) -> None:
    paid = shares(stakes, weights, amount=amount)
    assert all(value >= 0 for value in paid.values())
    assert sum(paid.values()) <= amount


@given(st.dictionaries(VALIDATORS, st.integers(0, 10**6)), st.dictionaries(VALIDATORS, ROWS))
def test_the_order_in_which_validators_are_listed_does_not_matter(stakes: dict[str, int], weights: dict[str, dict[str, int]]) -> None:
    assert shares(stakes, weights, amount=10**9) == shares(dict(reversed(stakes.items())), dict(reversed(weights.items())), amount=10**9)


def test_one_validator_alone_pays_as_he_says() -> None:
    assert shares({"v": 5}, {"v": {"a": 300, "b": 100}}, amount=4_000) == {"a": 3_000, "b": 1_000}


def test_a_minority_of_stake_cannot_pay_its_friend() -> None:
    honest = {"a": 100}
    paid = shares({"v0": 40, "v1": 40, "v2": 20}, {"v0": honest, "v1": honest, "v2": {"friend": 100}}, amount=1_000)
    assert paid == {"a": 1_000}


def test_a_validator_cannot_pay_himself() -> None:
    assert shares({"v": 5}, {"v": {"v": 65535, "a": 1}}, amount=1_000) == {"a": 1_000}


def test_validators_without_weights_do_not_count_as_a_majority_for_nothing() -> None:
    assert shares({"v0": 1, "v1": 99}, {"v0": {"a": 1}}, amount=1_000) == {"a": 1_000}
