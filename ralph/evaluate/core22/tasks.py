"""The 22 tasks of CORE: what each is called, how it asks, how many examples it shows, and what guessing is worth.

The list is the low-variance set of DCLM (Li et al. 2024, arXiv:2406.11794, section 3.5). It is fixed here rather than read from a
bundle, because a bundle that says "0 shots" or "chance is 90 %" would be another benchmark under the same name.

Two tables of chance levels are in circulation. They differ for three of the tasks, so both are kept and every result gives both.
"""

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_DELIMITER = " "
"""Between a question and its answer where a task names none."""
ANSWER = "\nAnswer: "


class TaskType(StrEnum):
    """How a task asks."""

    MULTIPLE_CHOICE = "multiple_choice"
    """One query, several continuations."""
    SCHEMA = "schema"
    """Several contexts, one continuation."""
    LANGUAGE_MODELING = "language_modeling"
    """One context, one continuation that must be the model's own."""


class Table(StrEnum):
    """A table of chance levels."""

    V1 = "core_v1"
    V2 = "core_v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """The accuracy of a guess, in per cent, in both tables."""

    core_v1: float
    core_v2: float

    def of(self, table: Table) -> float:
        """Return the chance level as a share."""
        return (self.core_v1 if table is Table.V1 else self.core_v2) / 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One of the 22.

    Args:
        label: Its name in the bundle's list.
        file: Its data below the bundle's data folder.
        type: How it asks.
        shots: Solved examples before each question.
        delimiter: Between question and answer.
        chance: What a guess is worth.
    """

    label: str
    file: str
    type: TaskType
    shots: int
    delimiter: str
    chance: Chance


def _task(label: str, file: str, kind: TaskType, shots: int, chance: Chance, *, delimiter: str = DEFAULT_DELIMITER) -> Task:
    return Task(label=label, file=f"{file}.jsonl", type=kind, shots=shots, delimiter=delimiter, chance=chance)


def _same(per_cent: float) -> Chance:
    return Chance(core_v1=per_cent, core_v2=per_cent)


_MC, _SCHEMA, _LM = TaskType.MULTIPLE_CHOICE, TaskType.SCHEMA, TaskType.LANGUAGE_MODELING
_COMMONSENSE, _LANGUAGE, _READING = "commonsense_reasoning", "language_understanding", "reading_comprehension"
_SYMBOLIC, _WORLD = "symbolic_problem_solving", "world_knowledge"

TASKS: tuple[Task, ...] = (
    _task("hellaswag_zeroshot", f"{_LANGUAGE}/hellaswag", _MC, 0, _same(25)),
    _task("jeopardy", f"{_WORLD}/jeopardy_all", _LM, 10, _same(0), delimiter=ANSWER),
    _task("bigbench_qa_wikidata", f"{_WORLD}/bigbench_qa_wikidata", _LM, 10, _same(0)),
    _task("arc_easy", f"{_WORLD}/arc_easy", _MC, 10, _same(25), delimiter=ANSWER),
    _task("arc_challenge", f"{_WORLD}/arc_challenge", _MC, 10, _same(25), delimiter=ANSWER),
    _task("copa", f"{_COMMONSENSE}/copa", _MC, 0, _same(50)),
    _task("commonsense_qa", f"{_COMMONSENSE}/commonsense_qa", _MC, 10, Chance(core_v1=20, core_v2=40.3)),
    _task("piqa", f"{_COMMONSENSE}/piqa", _MC, 10, _same(50), delimiter=ANSWER),
    _task("openbook_qa", f"{_COMMONSENSE}/openbook_qa", _MC, 0, _same(25)),
    _task("lambada_openai", f"{_LANGUAGE}/lambada_openai", _LM, 0, _same(0)),
    _task("hellaswag", f"{_LANGUAGE}/hellaswag", _MC, 10, _same(25)),
    _task("winograd", f"{_LANGUAGE}/winograd_wsc", _SCHEMA, 0, _same(50)),
    _task("winogrande", f"{_LANGUAGE}/winogrande", _SCHEMA, 0, _same(50)),
    _task("bigbench_dyck_languages", f"{_SYMBOLIC}/bigbench_dyck_languages", _LM, 10, _same(0)),
    _task("agi_eval_lsat_ar", f"{_SYMBOLIC}/agi_eval_lsat_ar", _MC, 3, Chance(core_v1=20, core_v2=25)),
    _task("bigbench_cs_algorithms", f"{_SYMBOLIC}/bigbench_cs_algorithms", _LM, 10, _same(0)),
    _task("bigbench_operators", f"{_SYMBOLIC}/bigbench_operators", _LM, 10, _same(0)),
    _task("bigbench_repeat_copy_logic", f"{_SYMBOLIC}/bigbench_repeat_copy_logic", _LM, 10, _same(0)),
    _task("squad", f"{_READING}/squad", _LM, 10, _same(0)),
    _task("coqa", f"{_READING}/coqa", _LM, 0, _same(0)),
    _task("boolq", f"{_READING}/boolq", _MC, 10, _same(62), delimiter=ANSWER),
    _task("bigbench_language_identification", f"{_LANGUAGE}/bigbench_language_identification", _MC, 10, Chance(core_v1=9.1, core_v2=25)),
)
"""In the order of the public list."""

BY_LABEL = {task.label: task for task in TASKS}
