"""Whose fault a failed king is, found out before anything is written down."""

from collections.abc import Sequence

import pytest

from ralph.errors import InfrastructureError
from ralph.judge.plan import Need
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import Measurement
from ralph.validator.doubt import settle
from tests.judge.test_decide import KING, POOL, RULES, run, tree
from tests.judge.test_succession import on_probation

FAILED = run("king", "screen", tree(8), 70, None)


class Answers:
    """Runs needs of trees that fail or do not, and counts."""

    def __init__(self, *, king: float | None, reference: float | None) -> None:
        self.value = {"king": king, "reference": reference}
        self.asked: list[Need] = []

    def __call__(self, needed: Sequence[Need]) -> list[Measurement]:
        self.asked += needed
        return [run(need.role, need.stage, need.tree, need.seed, self.value[need.role]) for need in needed]


def test_a_king_in_no_doubt_costs_no_further_run():
    answers = Answers(king=None, reference=None)
    assert settle(on_probation(), [run("king", "screen", tree(8), 70, 2.5)], RULES, measure=answers) == ()
    assert answers.asked == []


@pytest.mark.parametrize("king", [None, 2.4])
def test_where_the_reference_holds_the_answers_are_part_of_the_round(king: float | None):
    answers = Answers(king=king, reference=2.9)
    asked = settle(on_probation(), [FAILED], RULES, measure=answers)
    assert [(need.role, need.stage) for need in asked] == [("king", "repeat"), ("reference", "canary"), ("reference", "repeat")]
    assert tuple(answers.asked) == asked


def test_where_the_reference_fails_as_well_the_round_is_held():
    with pytest.raises(InfrastructureError) as held:
        settle(on_probation(), [FAILED], RULES, measure=Answers(king=None, reference=None))
    assert held.value.code == "OPS-HOLD"


def test_a_genesis_recipe_that_fails_holds_the_round_and_is_asked_nothing():
    answers = Answers(king=None, reference=2.9)
    throne = Throne(round_index=0, lineage=Throne.genesis(KING).lineage, pool=POOL)
    with pytest.raises(InfrastructureError) as held:
        settle(throne, [run("king", "screen", KING, 70, None)], RULES, measure=answers)
    assert held.value.code == "OPS-HOLD"
    assert answers.asked == []


def test_once_a_fault_is_established_no_other_doubt_is_pursued():
    answers = Answers(king=None, reference=2.9)
    many = [run("king", "pool", tree(8), seed, None) for seed in range(70, 78)]
    settle(on_probation(), many, RULES, measure=answers)
    assert {need.seed for need in answers.asked} == {70}


def test_doubts_that_come_to_nothing_are_settled_one_after_the_other():
    answers = Answers(king=2.4, reference=2.9)
    settle(on_probation(), [run("king", "pool", tree(8), seed, None) for seed in (70, 71)], RULES, measure=answers)
    assert [need.seed for need in answers.asked] == [70, 70, 70, 71, 71, 71]
