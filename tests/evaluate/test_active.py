"""The documents of a rotation: a public draw that nobody can steer, and the check that exactly these were opened."""

from collections import Counter

import pytest

from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.evaluate.active import active_count, active_subset, verify_opened
from ralph.protocol.pool import OpenedSubset
from tests.protocol.test_pool import POOL, opening

BEACON = bytes(range(32))


def drawn(**changes):
    return active_subset(**({"beacon": BEACON, "hotkey": "5V", "shard": "screen", "rotation": 0, "documents": 20, "count": 8} | changes))


def test_the_draw_repeats_and_depends_on_beacon_hotkey_shard_and_rotation():
    same = drawn(documents=1000, count=100)
    assert same == drawn(documents=1000, count=100)
    others = [{"beacon": bytes(32)}, {"hotkey": "5W"}, {"shard": "audit"}, {"rotation": 1}]
    assert len({same, *(drawn(documents=1000, count=100, **other) for other in others)}) == 5


def test_a_tenth_is_drawn_without_replacement_in_ascending_order():
    places = drawn(documents=1600, count=active_count(1600))
    assert len(places) == len(set(places)) == 160
    assert list(places) == sorted(places)
    assert 0 <= places[0] < places[-1] < 1600


def test_every_document_is_drawn_equally_often():
    """Chi-squared over 50 documents and 2000 beacons: 49 degrees of freedom; 99.9 % of fair draws stay below 85.4."""
    counts = Counter[int]()
    for number in range(2000):
        counts.update(drawn(beacon=number.to_bytes(32, "big"), documents=50, count=5))
    expected = 2000 * 5 / 50
    # Draws without replacement vary less than independent ones, by (N - n) / (N - 1).
    statistic = sum((counts[place] - expected) ** 2 for place in range(50)) / expected / ((50 - 5) / 49)
    assert statistic < 85.4
    assert set(counts) == set(range(50))


def test_pairs_of_documents_are_drawn_together_equally_often():
    """Neighbours, a tenth of a shard: 2000 draws of 10 of 50 give each pair 73 times on average, with an sd of 8.4."""
    together = Counter[int]()
    for number in range(2000):
        places = set(drawn(beacon=number.to_bytes(32, "big"), documents=50, count=10))
        together.update(place for place in range(49) if {place, place + 1} <= places)
    expected = 2000 * 10 * 9 / (50 * 49)
    assert all(abs(together[place] - expected) < 5 * expected**0.5 for place in range(49))


@pytest.mark.parametrize(("documents", "count"), [(7, 8), (8, 0), (0, 1)])
def test_more_documents_than_there_are_is_our_data_and_no_shorter_draw(documents, count):
    with pytest.raises(ConfigurationError, match="more text") as caught:
        drawn(documents=documents, count=count)
    assert caught.value.code == "OPS-DATA"


def test_a_beacon_of_another_length_is_a_bug():
    with pytest.raises(ValueError, match="32 bytes"):
        drawn(beacon=b"short")


def opened(places=None, **changes):
    openings = tuple(opening(index=place) for place in (drawn() if places is None else places))
    return OpenedSubset(**({"hotkey": "5V", "shard": "screen", "rotation": 0, "openings": openings} | changes))


def check(subset, *, beacon=BEACON, count=8):
    verify_opened(subset, POOL, beacon=beacon, hotkey="5V", shard="screen", rotation=0, count=count)


def test_exactly_the_drawn_documents_pass():
    check(opened())


def test_a_drawn_document_that_is_missing_is_named():
    with pytest.raises(UntrustedInputError, match="1 of 8 drawn documents are not opened") as caught:
        check(opened(drawn()[1:]))
    assert caught.value.code == "INT-ABSENT"


def test_a_document_that_was_not_drawn_is_refused():
    extra = next(place for place in range(20) if place not in drawn())
    with pytest.raises(UntrustedInputError, match=f"the first is {extra}") as caught:
        check(opened(sorted([*drawn(), extra])))
    assert caught.value.code == "INT-SCHEMA"


@pytest.mark.parametrize("places", [drawn()[::-1], (*drawn(), drawn()[-1])], ids=["order", "twice"])
def test_documents_twice_or_out_of_order_are_refused(places):
    with pytest.raises(UntrustedInputError, match="twice or out of order"):
        check(opened(places))


@pytest.mark.parametrize("change", [{"hotkey": "5W"}, {"rotation": 1}, {"shard": "audit"}])
def test_a_validator_cannot_choose_the_draw_by_what_he_says_of_it(change):
    places = drawn(**{name: value for name, value in change.items() if name != "shard"})
    with pytest.raises(UntrustedInputError, match="not rotation 0 of screen of 5V") as caught:
        check(opened(places, **change))
    assert caught.value.code == "INT-SCHEMA"


def test_the_subset_of_another_beacon_is_refused():
    with pytest.raises(UntrustedInputError, match="not opened"):
        check(opened(), beacon=bytes(32))


def test_one_false_opening_spoils_the_subset():
    first, *rest = opened().openings
    with pytest.raises(UntrustedInputError, match="not the one that was committed to"):
        check(opened(openings=(first.model_copy(update={"tokens": b"\x01\x00"}), *rest)))
    with pytest.raises(UntrustedInputError, match="is of shard audit"):
        check(opened(openings=(first.model_copy(update={"shard": "audit"}), *rest)))
