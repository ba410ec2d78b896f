"""The whole path against a reference that shares no line with it, on the public data."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.evaluate.core22.tasks import Table
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from tests.evaluate.core22.agreement import agree, public_bundle
from tests.evaluate.core22.sharing import LONG, compare, random_weights

TEST_DATA = Path(os.environ["RALPH_TEST_DATA"]) if "RALPH_TEST_DATA" in os.environ else None
HERE = TEST_DATA is not None and (TEST_DATA / "core22" / "data").is_dir()


def needs_public_data(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test as one that is left out here, unless RALPH_TEST_DATA has the public data."""
    missing = pytest.mark.skipif(not HERE, reason="RALPH_TEST_DATA names no directory that holds the public data in core22")
    return test if HERE else pytest.mark.online(missing(test))


@needs_public_data
def test_every_item_is_graded_as_the_reference_grades_it(tmp_path: Path) -> None:
    found = agree(TEST_DATA / "core22", tmp_path, first=2, batch_rows=2)
    assert found.result.absent == ("coqa",)
    assert len(found.tasks) == 21
    for task in found.tasks:
        assert (task.items, task.other_verdicts, task.other_bytes) == (2, [], 0), task.label
        assert max(task.worst_nats, task.worst_margin) < 1e-9, task.label
    assert found.result.name == "CORE over 21 of 22 tasks, at most 2 items of 21 of them"
    assert -2 < found.result.core(Table.V1) < 1


@needs_public_data
def test_a_real_recipe_that_continues_prefixes_gives_the_claims_of_whole_rows(tmp_path: Path) -> None:
    """In the sandbox, with the weights of every block drawn; float32 of other shapes differs by about a millionth of a nat."""
    bundle = public_bundle(TEST_DATA / "core22", tmp_path)
    tasks = ("arc_easy", "winograd", "jeopardy")
    for cost in compare(bundle, LONG, random_weights(LONG), tasks, items=3, sandbox=BubblewrapSandbox()):
        assert cost.other_verdicts == 0, cost.task
        assert 0 < cost.worst_nats < 2e-5, cost.task
        assert cost.shared_worker_s < cost.rows_worker_s, cost.task
