"""A challenger's training time beside the king's, over a real event table."""

from dataclasses import replace
from pathlib import Path

import pytest

from ralph.judge.plan import Need
from ralph.protocol.measurement import Measurement
from ralph.protocol.network import LADDER
from ralph.protocol.pool import Subset
from ralph.protocol.rules import Rung
from ralph.records.events import EventTable
from ralph.validator.times import KIND, Costs, Times
from tests import made

KING, CHALLENGER = bytes([1]) * 32, bytes([2]) * 32
TIMED = LADDER[0].model_copy(update={"max_time_ratio": 1.1})
CHALLENGERS = Need(role="challenger", stage="proof", tree=CHALLENGER, seed=7, executed=True, subset=Subset(shard="confirm", rotation=0))
KINGS = replace(CHALLENGERS, role="king", tree=KING)


def measurement(need: Need) -> Measurement:
    return made.measurement(role=need.role, stage=need.stage, tree=need.tree, seed=need.seed, executed=need.executed, subset=need.subset)


@pytest.fixture
def events(tmp_path: Path) -> EventTable:
    return EventTable.open(tmp_path / "events")


def times(events: EventTable, rung: Rung = TIMED, *, round_index: int = 3) -> Times:
    return Times(events, rung=rung, king=KING, round_index=round_index)


def judged(one: Times, need: Need, training_s: float | None) -> Measurement:
    return one.judged(need, measurement(need), training_s)


def test_a_challenger_slower_than_the_ratio_fails_with_a_reason_and_no_figure_of_a_clock(events: EventTable) -> None:
    assert judged(times(events), KINGS, 10.0) == measurement(KINGS)
    late = [judged(times(events), CHALLENGERS, seconds) for seconds in (11.5, 99.0)]
    assert late[0] == late[1]
    assert late[0].failure is not None
    assert late[0].failure.reason == "RUN-BUDGET"


def test_a_challenger_within_the_ratio_is_measured_as_it_is(events: EventTable) -> None:
    judged(times(events), KINGS, 10.0)
    assert judged(times(events), CHALLENGERS, 10.9) == measurement(CHALLENGERS)


def test_the_kings_first_time_is_kept_over_a_restart(events: EventTable) -> None:
    judged(times(events), KINGS, 10.0)
    judged(times(events), KINGS, 1000.0)
    assert judged(times(events), CHALLENGERS, 99.0).failure is not None


def test_only_the_king_on_the_same_seed_stage_and_round_is_compared_with(events: EventTable) -> None:
    judged(times(events), KINGS, 10.0)
    for other, round_index in ((replace(CHALLENGERS, seed=8), 3), (replace(CHALLENGERS, stage="screen"), 3), (CHALLENGERS, 4)):
        assert judged(times(events, round_index=round_index), other, 99.0) == measurement(other)


def test_a_training_by_the_miner_has_no_time(events: EventTable) -> None:
    judged(times(events), KINGS, 10.0)
    assert judged(times(events), CHALLENGERS, None) == measurement(CHALLENGERS)


def test_the_absolute_cap_holds_for_challengers_and_without_a_king(events: EventTable) -> None:
    capped = LADDER[0].model_copy(update={"reference_s": 60})
    assert judged(times(events, capped), KINGS, 61.0) == measurement(KINGS)
    late = judged(times(events, capped), replace(CHALLENGERS, seed=9), 61.0)
    assert late.failure is not None
    assert late.failure.reason == "RUN-BUDGET"


def test_on_a_rung_without_limits_of_time_nothing_is_kept_and_nothing_fails(events: EventTable) -> None:
    untimed = times(events, LADDER[0])
    judged(untimed, KINGS, 1.0)
    assert judged(untimed, CHALLENGERS, 1e9) == measurement(CHALLENGERS)
    assert events.all(KIND) == ()


@pytest.mark.parametrize("role", ["former", "reference"])
def test_whoever_runs_beside_the_king_to_judge_him_is_not_judged_by_his_time(events: EventTable, role: str) -> None:
    judged(times(events), KINGS, 10.0)
    beside = replace(CHALLENGERS, role=role)
    assert judged(times(events), beside, 99.0) == measurement(beside)


def scored(need: Need, cells: int = 2560) -> Measurement:
    return measurement(need).model_copy(update={"score": made.score(2.5, cells=cells)})


def test_computing_at_test_time_is_bounded_by_a_multiple_of_the_kings_and_by_nothing_smaller(events: EventTable) -> None:
    """T35. The king's first evaluation on the documents counts; a busy machine or a deeper model is no reason."""
    costs = Costs(events, king=KING, ratio=4.0)
    assert costs.judged(CHALLENGERS, scored(CHALLENGERS), 99.0) == scored(CHALLENGERS), "nothing is known of the king yet"
    assert costs.judged(KINGS, scored(KINGS), 3.0) == scored(KINGS)
    assert costs.judged(KINGS, scored(KINGS), 30.0) == scored(KINGS)
    again = Costs(events, king=KING, ratio=4.0)
    for seconds in (1.0, 6.0, 12.9):
        assert again.judged(CHALLENGERS, scored(CHALLENGERS), seconds) == scored(CHALLENGERS)
    late = [again.judged(CHALLENGERS, scored(CHALLENGERS), seconds) for seconds in (13.1, 90.0)]
    assert late[0] == late[1], "no figure of a clock is published"
    assert late[0].score is None
    assert late[0].failure is not None
    assert late[0].failure.reason == "RUN-BUDGET"


def test_evaluations_are_compared_on_the_same_documents_in_the_same_lane_only(events: EventTable) -> None:
    costs = Costs(events, king=KING, ratio=4.0)
    costs.judged(KINGS, scored(KINGS), 3.0)
    elsewhere = replace(CHALLENGERS, subset=Subset(shard="screen", rotation=0))
    assert costs.judged(elsewhere, scored(elsewhere), 99.0).failure is None
    assert costs.judged(CHALLENGERS, scored(CHALLENGERS, cells=0), 99.0).failure is None
    assert Costs(events, king=KING, ratio=0.0).judged(CHALLENGERS, scored(CHALLENGERS), 99.0).failure is None
