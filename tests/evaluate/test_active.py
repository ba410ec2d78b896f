"""The documents of a rotation and of a crown: public draws that nobody can steer, and the check that exactly these were opened."""

from collections import Counter

import pytest

from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.evaluate.active import Committed, Drawn, Draws, active_count, active_subset, verify_opened
from ralph.protocol.merkle import tree_hash
from ralph.protocol.pool import SHARDS, OpenedSubset, Subset
from ralph.protocol.scoring_rules import HiddenRules
from tests.protocol.test_pool import POOL, TEXTS, leaves_of, opening

BEACON = bytes(range(32))
SCREEN = Subset(shard="screen", rotation=0)
WHOLE = Committed(commitment=POOL, leaves=leaves_of(TEXTS))


def drawn(*, documents=20, count=8, **changes):
    return active_subset(**({"beacon": BEACON, "hotkey": "5V", "subset": SCREEN, "places": range(documents), "count": count} | changes))


def test_the_draw_repeats_and_depends_on_beacon_hotkey_shard_rotation_and_crown():
    same = drawn(documents=1000, count=100)
    assert same == drawn(documents=1000, count=100)
    subsets = [SCREEN.model_copy(update=one) for one in ({"shard": "audit"}, {"rotation": 1}, {"crown": 0})]
    others = [{"beacon": bytes(32)}, {"hotkey": "5W"}, *({"subset": one} for one in subsets)]
    assert len({same, *(drawn(documents=1000, count=100, **other) for other in others)}) == 6


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
def test_more_documents_than_there_are_holds_the_round_and_is_no_shorter_draw(documents, count):
    with pytest.raises(InfrastructureError, match="`ralph data refresh`") as caught:
        drawn(documents=documents, count=count)
    assert caught.value.code == "OPS-DATA"


def test_a_beacon_of_another_length_is_a_bug():
    with pytest.raises(ValueError, match="32 bytes"):
        drawn(beacon=b"short")


RULES = HiddenRules(rotation_rounds=2, screen=6, confirm=2, audit=1, crown=2, agreement_level=0.999, watched_runs=2)


def beacon_of(index):
    return index.to_bytes(32, "big")


def played(rounds, *, crowns=(), rules=RULES, pool=WHOLE):
    draws = Draws(hotkey="5V", rules=rules)
    for index in range(rounds):
        draws.begin(index, beacon_of(index), pool)
        if index in crowns:
            draws.crowned()
    return draws


def test_no_rotation_and_no_crown_draws_what_was_used_before():
    with pytest.raises(InfrastructureError, match="shard audit"):
        played(3)
    one = Committed(commitment=POOL, leaves=leaves_of({**TEXTS, "audit": list(range(200, 210))}))
    draws = played(4, crowns=(1,), pool=one)
    subsets = [Subset(shard=name, rotation=rotation) for name in SHARDS for rotation in range(2)]
    for name in SHARDS:
        parts = [draws.find(subset).leaves for subset in subsets if subset.shard == name]
        if name == "confirm":
            parts.append(draws.find(Subset(shard="confirm", rotation=0, crown=1)).leaves)
        assert len({leaf for part in parts for leaf in part}) == sum(map(len, parts))


def test_the_documents_of_a_rotation_follow_from_the_beacon_of_its_first_round_alone():
    first = played(2).find(SCREEN)
    other = Draws(hotkey="5V", rules=RULES)
    other.begin(0, beacon_of(0), WHOLE)
    other.begin(1, bytes([7]) * 32, WHOLE)
    assert other.find(SCREEN) == first
    third = Draws(hotkey="5V", rules=RULES)
    third.begin(0, bytes([7]) * 32, WHOLE)
    assert third.find(SCREEN).places != first.places


def test_what_a_crown_would_seal_is_known_before_it_and_used_only_by_it():
    draws = played(2)
    candidate = draws.sealed()
    assert draws.sealed() == candidate
    assert draws.crowned() == candidate
    assert candidate.root == tree_hash(candidate.leaves)
    with pytest.raises(KeyError):
        played(2).find(candidate.subset)


def test_a_crown_seals_what_is_left_and_a_rotation_never_makes_do_with_less():
    draws = played(2, rules=RULES.model_copy(update={"confirm": 6}))
    assert len(draws.sealed().places) == 1
    assert set(draws.lacking(WHOLE.leaves)) == {"confirm", "audit"}
    with pytest.raises(InfrastructureError, match=r"shard confirm .* has 1 documents that no rotation and no crown has used, 6 are needed"):
        draws.begin(2, beacon_of(2), WHOLE)


def test_documents_keep_their_history_when_a_refresh_moves_them():
    """Sixteen documents stay at other places, four are new: only those four and what was never drawn may come next."""
    draws = played(2)
    used = set(draws.find(SCREEN).leaves)
    moved = leaves_of({"screen": [*range(100, 104), *range(4, 20)], "confirm": TEXTS["confirm"], "audit": [201]})
    draws.begin(2, beacon_of(2), Committed(commitment=POOL, leaves=moved))
    assert not used & set(draws.find(Subset(shard="screen", rotation=1)).leaves)


DRAWN = Drawn(
    subset=SCREEN, commitment=POOL.digest(), places=drawn(), leaves=tuple(leaves_of(TEXTS).shard("screen")[place] for place in drawn())
)


def opened(places=None, **changes):
    openings = tuple(opening(index=place) for place in (drawn() if places is None else places))
    return OpenedSubset(**({"hotkey": "5V", "subset": SCREEN, "openings": openings} | changes))


def refusal(subset, of=DRAWN):
    with pytest.raises(UntrustedInputError) as caught:
        verify_opened(subset, of, WHOLE, hotkey="5V")
    return caught.value


def test_exactly_the_drawn_documents_pass():
    verify_opened(opened(), DRAWN, WHOLE, hotkey="5V")


def test_a_drawn_document_that_is_missing_is_named():
    found = refusal(opened(drawn()[1:]))
    assert found.code == "OPN-ABSENT"
    assert "1 of 8 drawn documents are not opened" in found.detail


def test_a_document_that_was_not_drawn_is_refused():
    extra = next(place for place in range(20) if place not in drawn())
    found = refusal(opened(sorted([*drawn(), extra])))
    assert found.code == "OPN-EXTRA"
    assert f"the first is {extra}" in found.detail


@pytest.mark.parametrize("places", [drawn()[::-1], (*drawn(), drawn()[-1])], ids=["order", "twice"])
def test_documents_twice_or_out_of_order_are_refused(places):
    assert refusal(opened(places)).code == "OPN-EXTRA"


@pytest.mark.parametrize(
    "change",
    [{"hotkey": "5W"}, *({"subset": SCREEN.model_copy(update=one)} for one in ({"rotation": 1}, {"shard": "audit"}, {"crown": 2}))],
)
def test_a_validator_cannot_choose_the_draw_by_what_he_says_of_it(change):
    assert refusal(opened(**change)).code == "OPN-SUBSET"


def test_the_subset_of_another_beacon_is_refused():
    places = drawn(beacon=bytes(32))
    leaves = tuple(leaves_of(TEXTS).shard("screen")[place] for place in places)
    assert refusal(opened(), Drawn(subset=SCREEN, commitment=POOL.digest(), places=places, leaves=leaves)).code == "OPN-ABSENT"


def other_place():
    return next(place for place in range(20) if place not in drawn())


SPOILS = {
    "swapped for another committed document": (
        {"salt": opening(index=other_place()).salt, "tokens": opening(index=other_place()).tokens},
        "OPN-SWAP",
    ),
    "a wrong salt": ({"salt": bytes([9]) * 32}, "OPN-LEAF"),
    "other tokens": ({"tokens": b"\x01\x00"}, "OPN-LEAF"),
    "another source": ({"source": "docs"}, "OPN-LEAF"),
    "of another shard": ({"shard": "audit"}, "OPN-POOL"),
    "of another pool": ({"commitment": bytes(32)}, "OPN-POOL"),
    "without its proof": ({"path": ()}, "INT-HASH"),
}


@pytest.mark.parametrize(("change", "code"), SPOILS.values(), ids=SPOILS)
def test_one_false_opening_spoils_the_subset_and_says_how(change, code):
    first, *rest = opened().openings
    assert refusal(opened(openings=(first.model_copy(update=change), *rest))).code == code
