"""Results: what counts as right, and what the mean may be called."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from ralph.errors import ConfigurationError
from ralph.evaluate.cells import Cells
from ralph.evaluate.core22.exam import Answers
from ralph.evaluate.core22.manifest import TaskEntry
from ralph.evaluate.core22.results import grade
from ralph.evaluate.core22.tasks import BY_LABEL, TASKS, Table

LABELS = [task.label for task in TASKS]


def answers(label: str, items: Sequence[Sequence[Sequence[float]]], gold: Sequence[int], *, hits: Sequence[bool] | None = None) -> Answers:
    """Return answers from losses per item, option and token; every gold answer has 10 bytes."""
    options = np.cumsum([0, *(len(item) for item in items)])
    return Answers(
        entry=TaskEntry(task=BY_LABEL[label], pool=len(items), pool_digest=bytes(32), items=(bytes(32),) * len(items)),
        options=options,
        gold=options[:-1] + np.array(gold),
        gold_bytes=np.full(len(items), 10),
        cells=Cells.of(np.array([len(option) for item in items for option in item])),
        losses=np.array([loss for item in items for option in item for loss in option]),
        hits=None if hits is None else np.array(hits),
    )


def others(*present: str) -> tuple[str, ...]:
    return tuple(label for label in LABELS if label not in present)


def test_the_lowest_mean_wins_whatever_the_length() -> None:
    found = grade([answers("copa", [[[3.0], [1.0, 1.0, 2.5]], [[0.5, 0.9], [0.6]]], [1, 1])], absent=others("copa")).tasks[0]
    assert found.correct.tolist() == [True, True]
    assert found.margins == pytest.approx([1.5, 0.1])
    assert found.gold_nats == pytest.approx([4.5, 0.6])


def test_of_equal_options_the_first_counts() -> None:
    items = [[[1.0], [1.0]], [[1.0], [1.0]], [[2.0], [1.0, 1.0], [1.0], [1.0]]]
    found = grade([answers("copa", items, [0, 1, 1])], absent=others("copa")).tasks[0]
    assert found.correct.tolist() == [True, False, True]
    assert found.margins == pytest.approx([0.0, 0.0, 0.0])


def test_a_continuation_is_right_when_every_token_is() -> None:
    items = [[[0.1, 0.2]], [[0.1, 5.0]], [[0.3]]]
    found = grade([answers("coqa", items, [0, 0, 0], hits=[True, True, True, False, True])], absent=others("coqa")).tasks[0]
    assert found.correct.tolist() == [True, False, True]
    assert found.margins is None
    assert found.accuracy == pytest.approx(2 / 3)


def test_bits_per_byte_are_those_of_the_right_answers() -> None:
    found = grade([answers("copa", [[[3.0], [1.0, 1.0]], [[7.0], [0.6]]], [1, 0])], absent=others("copa"))
    assert found.gold_bpb == pytest.approx((2.0 + 7.0) / (20 * math.log(2)))


@pytest.mark.parametrize(
    ("label", "table", "chance"),
    [
        ("commonsense_qa", Table.V1, 0.20),
        ("commonsense_qa", Table.V2, 0.403),
        ("agi_eval_lsat_ar", Table.V1, 0.20),
        ("agi_eval_lsat_ar", Table.V2, 0.25),
        ("bigbench_language_identification", Table.V1, 0.091),
        ("bigbench_language_identification", Table.V2, 0.25),
        ("boolq", Table.V1, 0.62),
        ("boolq", Table.V2, 0.62),
    ],
)
def test_accuracy_is_centred_by_the_table(label: str, table: Table, chance: float) -> None:
    right_and_wrong = [[[1.0], [2.0]]] * 4
    found = grade([answers(label, right_and_wrong, [0, 0, 0, 1])], absent=others(label))
    assert found.core(table) == pytest.approx((0.75 - chance) / (1 - chance))


def test_core_is_the_mean_over_tasks() -> None:
    found = grade([answers("copa", [[[1.0], [2.0]]], [0]), answers("coqa", [[[1.0]]], [0], hits=[False])], absent=others("copa", "coqa"))
    assert found.core(Table.V1) == pytest.approx(0.5)


def test_only_all_items_of_all_tasks_are_called_core_22() -> None:
    whole = [answers(label, [[[1.0], [2.0]]] * 2, [0, 0]) for label in LABELS]
    assert grade(whole, absent=()).name == "CORE-22"
    assert grade(whole[1:], absent=(LABELS[0],)).name == "CORE over 21 of 22 tasks"
    part = [answers(label, [[[1.0], [2.0]]], [0]) for label in LABELS[:2]]
    for one in part:
        object.__setattr__(one.entry, "pool", 9)
    assert grade([*part, *whole[2:]], absent=()).name == "CORE over 22 of 22 tasks, at most 1 items of 2 of them"


def test_a_task_that_is_neither_there_nor_named_as_absent_is_noticed() -> None:
    with pytest.raises(ConfigurationError, match="1 tasks, 20 absent"):
        grade([answers("copa", [[[1.0], [2.0]]], [0])], absent=others("copa")[1:])
    with pytest.raises(ConfigurationError):
        grade([], absent=tuple(LABELS))
