"""Work that never comes to an end on our side: whose fault it is depends on whether the king had the same trouble (T25, T33)."""

from dataclasses import replace
from pathlib import Path

import pytest

from ralph.errors import InfrastructureError
from ralph.judge.plan import Need
from ralph.protocol.measurement import Role
from ralph.protocol.pool import Subset
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import read_tree
from ralph.train import host
from ralph.validator.attempts import king_run, retried
from ralph.validator.measure import Bench, Work
from ralph_devnet.hostile import recipes
from tests.train.material import RUNG, job
from tests.validator.material import small_bench

TRIES = 2
SUBSET = Subset(shard="screen", rotation=0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return small_bench(tmp_path_factory.mktemp("bench"), SUBSET)


def work(bench: Bench, recipe: Path, role: Role) -> Work:
    tree = read_tree(recipe)
    weights = host.train(job(), sandbox=bench.sandbox, data=bench.data).weights
    return Work(need=Need(role=role, stage="filter", tree=tree.digest(), seed=1, executed=False, subset=SUBSET), tree=tree, weights=weights)


def test_lies_that_never_repeat_end_with_the_challenger_and_not_with_the_round(bench: Bench, tmp_path: Path) -> None:
    lying = work(bench, recipes.payload("random_lies", tmp_path / "recipe"), "challenger")
    measurement = retried(bench, lying, TRIES, king_ran=True).measurement
    assert measurement.failure is not None
    assert measurement.failure.reason == "RUN-NUMERIC"
    assert measurement.score is None


@pytest.mark.parametrize(("role", "king_ran"), [("king", True), ("challenger", False)])
def test_without_a_king_that_repeats_on_this_machine_nobody_is_blamed(bench: Bench, tmp_path: Path, role: Role, king_ran: bool) -> None:
    lying = work(bench, recipes.payload("random_lies", tmp_path / "recipe"), role)
    with pytest.raises(InfrastructureError) as held:
        retried(bench, lying, TRIES, king_ran=king_ran)
    assert held.value.code == "OPS-NUMERIC"


def test_a_challenger_that_is_never_in_time_has_stalled(bench: Bench, tmp_path: Path) -> None:
    """The rung's own deadline is the limit: it is so short here that the evaluation cannot end before it."""
    slow = bench.rules.model_copy(update={"ladder": (RUNG.model_copy(update={"timeout_s": 4}),)})
    late = work(bench, recipes.payload("never_answers", tmp_path / "recipe"), "challenger")
    measurement = retried(replace(bench, rules=slow), late, TRIES, king_ran=True).measurement
    assert measurement.failure is not None
    assert measurement.failure.reason == "RUN-STALL"


def test_a_king_whose_numbers_never_repeat_has_failed_where_the_references_do(bench: Bench, tmp_path: Path) -> None:
    """T40: he no longer holds every round."""
    lying = work(bench, recipes.payload("random_lies", tmp_path / "recipe"), "king")
    measurement = king_run(bench, lying, TRIES, reference=genesis_recipe()).measurement
    assert measurement.failure is not None
    assert (measurement.failure.reason, measurement.role) == ("RUN-NUMERIC", "king")


def test_a_king_that_is_never_in_time_where_the_reference_is_not_either_is_nobodys_fault_but_ours(bench: Bench, tmp_path: Path) -> None:
    slow = replace(bench, rules=bench.rules.model_copy(update={"ladder": (RUNG.model_copy(update={"timeout_s": 0}),)}))
    late = work(bench, recipes.payload("never_answers", tmp_path / "recipe"), "king")
    with pytest.raises(InfrastructureError) as held:
        king_run(slow, late, 1, reference=genesis_recipe())
    assert held.value.code == "OPS-LATE"


def test_a_recipe_that_computes_forty_times_as_much_when_scored_costs_more_than_any_honest_one(bench: Bench, tmp_path: Path) -> None:
    """T35: the figure that ``Costs`` compares, from real evaluations."""
    honest = bench.measure(work(bench, recipes.honest(tmp_path / "honest"), "king"))
    greedy = bench.measure(work(bench, recipes.payload("test_time_compute", tmp_path / "greedy"), "challenger"))
    assert greedy.measurement.score is not None
    assert greedy.scoring_cpu_s > 10 * honest.scoring_cpu_s
