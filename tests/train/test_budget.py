"""Limits of a training that are checked once its figures are known."""

import pytest

from ralph.errors import UntrustedInputError
from ralph.protocol.network import LADDER, MAX_TIME_RATIO
from ralph.train import budget
from tests.train.material import RUNG

TIMED = RUNG.model_copy(update={"max_time_ratio": 1.1})
CAPPED = RUNG.model_copy(update={"reference_s": 60})


def test_the_first_step_is_not_part_of_a_training_time() -> None:
    assert budget.training_seconds([9_000_000, 250_000, 750_000]) == 1.0
    assert budget.training_seconds([9_000_000]) == budget.training_seconds([]) == 0.0


def test_a_challenger_as_fast_as_the_ratio_allows_passes() -> None:
    budget.check_time(11.0, 10.0, TIMED)


def test_a_slower_challenger_is_over_budget_with_the_ratio_and_the_limit() -> None:
    with pytest.raises(UntrustedInputError, match=r"1\.250 times as long as the king's, rung tiny allows 1\.1 times") as refusal:
        budget.check_time(12.5, 10.0, TIMED)
    assert refusal.value.code == "RUN-BUDGET"


def test_a_king_that_was_not_timed_is_compared_with_nothing() -> None:
    budget.check_time(1e9, None, TIMED)


def test_a_king_that_took_no_time_is_no_division_by_zero() -> None:
    with pytest.raises(UntrustedInputError, match="RUN-BUDGET: training took inf times"):
        budget.check_time(1.0, 0.0, TIMED)


def test_a_training_over_the_absolute_cap_is_over_budget_whatever_the_king_took() -> None:
    for king in (None, 1000.0):
        with pytest.raises(UntrustedInputError, match=r"60\.5 s of training, rung tiny allows 60 s") as refusal:
            budget.check_time(60.5, king, CAPPED)
        assert refusal.value.code == "RUN-BUDGET"
    budget.check_time(60.0, 1.0, CAPPED)


def test_no_clock_decides_on_the_rungs_of_cpus_and_on_those_of_gpus_it_does() -> None:
    for rung in LADDER:
        assert rung.max_time_ratio == (0.0 if rung.device == "cpu" else MAX_TIME_RATIO)
        assert (rung.reference_s > 0) == (rung.device == "cuda")
    budget.check_time(1e9, 1e-9, RUNG)


def test_parameters_and_memory_at_the_cap_pass_and_one_more_does_not() -> None:
    budget.check_parameters(RUNG.max_parameters, RUNG)
    budget.check_memory(RUNG.max_memory_bytes, RUNG)
    with pytest.raises(UntrustedInputError, match="60001 parameters, rung tiny allows 60000") as parameters:
        budget.check_parameters(RUNG.max_parameters + 1, RUNG)
    with pytest.raises(UntrustedInputError, match="bytes of memory at the peak") as memory:
        budget.check_memory(RUNG.max_memory_bytes + 1, RUNG)
    assert (parameters.value.code, memory.value.code) == ("RUN-PARAMS", "RUN-OOM")
