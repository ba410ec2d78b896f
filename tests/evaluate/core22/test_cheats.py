"""Models that know the right answers to public items, and lie about their own by as little as it takes (T12)."""

from dataclasses import replace

import numpy as np
import pytest

from ralph.evaluate.core22 import manifest
from ralph.evaluate.core22.audit import audit
from ralph.evaluate.core22.drawing import AuditRules
from ralph.evaluate.core22.exam import Exam
from ralph.evaluate.core22.results import grade
from ralph.evaluate.core22.sitting import sit
from tests.evaluate.core22 import material
from tests.evaluate.core22.material import DRAW_KEY, ORDER_KEY, VOCABULARY, Honest, examinee

RULES = AuditRules(uniform=6, weighted=0, tau_nats=1e-6)


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Exam:
    bundle = material.small_bundle(tmp_path_factory.mktemp("bundle"), count=60)
    return material.exam(bundle, first=8, margin_nats=RULES.margin_nats)


class Knowing(Honest):
    """Has a list of the right answers, as rows and as what follows each of their prefixes: the items are public."""

    def __init__(self, exam: Exam) -> None:
        super().__init__()
        self.right: set[bytes] = set()
        self.next: dict[bytes, int] = {}
        for entry in exam.manifest.entries:
            items = manifest.load(exam.bundle, entry)
            for index in range(len(entry.items)):
                question = exam.ask(entry, items, index)
                option = question.options[question.gold]
                self.right.add(option.tokens.tobytes())
                self.next |= {
                    option.tokens[:place].tobytes(): int(option.tokens[place]) for place in range(option.start, option.tokens.size)
                }

    def knows(self, row: np.ndarray) -> bool:
        return any(row[:size].tobytes() in self.right for size in range(2, row.size + 1))


class Indifferent(Knowing):
    """Finds everything equally likely, which costs nothing elsewhere if only exams look like exams, and lies by less than the tolerance."""

    lie = 0.9 * RULES.tau_nats

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        losses = np.full((tokens.shape[0], tokens.shape[1] - 1), np.log(VOCABULARY))
        losses[[self.knows(row) for row in tokens]] -= self.lie
        return losses

    def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        logits = np.zeros((positions.size, VOCABULARY))
        for line, row, position in zip(logits, tokens, positions.tolist(), strict=True):
            target = self.next.get(row[: position + 1].tobytes())
            if target is not None:
                line[target] += self.lie
        return logits


def test_who_finds_all_answers_equal_cannot_name_the_right_one_within_the_tolerance(exam: Exam) -> None:
    """By the public rule every answer is right, and no audit sees a lie. What counts must be ahead by more than that."""
    public = grade(sit(replace(exam, margin_nats=0.0), examinee(Indifferent(exam)), key=ORDER_KEY), absent=())
    assert all(task.accuracy == 1.0 for task in public.tasks)
    answers = sit(exam, examinee(Indifferent(exam)), key=ORDER_KEY)
    found = audit(exam, answers, examinee(Indifferent(exam)), key=DRAW_KEY, rules=RULES)
    assert found.exceedances == 0
    assert all(task.accuracy == 0.0 for task in grade(answers, absent=()).tasks)


def test_of_equally_likely_tokens_the_right_one_cannot_be_named_afterwards(exam: Exam) -> None:
    """The model finds half of the tokens equally likely. The first worker puts the right one ahead and keeps its loss."""

    class Undecided(Honest):
        def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
            return np.tile(np.where(np.arange(VOCABULARY) >= VOCABULARY // 2, 0.0, -40.0), (positions.size, 1))

    class Names(Knowing):
        def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
            logits = Undecided().probe(tokens, positions)
            for line, row, position in zip(logits, tokens, positions.tolist(), strict=True):
                target = self.next.get(row[: position + 1].tobytes())
                if target is not None and target >= VOCABULARY // 2:
                    line[:] = np.log((1 - 2 / VOCABULARY) / (VOCABULARY - 1))
                    line[target] = np.log(2 / VOCABULARY)
            return logits

    answers = sit(exam, examinee(Names(exam)), key=ORDER_KEY)
    assert sum(int(answer.hits.sum()) for answer in answers if answer.hits is not None) > 100
    found = audit(exam, answers, examinee(Undecided()), key=DRAW_KEY, rules=RULES)
    lied = {cell for cell in found.cells if cell.hit}
    assert max(cell.mismatch_nats for cell in lied) < RULES.tau_nats
    assert lied & set(found.over) == lied != set()


def test_a_lie_in_one_token_is_found_wherever_its_option_is_drawn(exam: Exam) -> None:
    class OneToken(Knowing):
        def claim(self, tokens: np.ndarray) -> np.ndarray:
            losses = super().claim(tokens)
            for line, row in zip(losses, tokens, strict=True):
                size = next((size for size in range(row.size, 1, -1) if row[:size].tobytes() in self.right), None)
                if size is not None:
                    line[size - 2] -= 0.5 * abs(line[size - 2])
            return losses

    answers = sit(exam, examinee(OneToken(exam)), key=ORDER_KEY)
    found = audit(exam, answers, examinee(Honest()), key=DRAW_KEY, rules=RULES)
    by_label = {answer.entry.task.label: answer for answer in answers if answer.hits is None}
    drawn = {(cell.item.task, cell.place) for cell in found.cells if cell.item.task in by_label}
    lied = {(task, place) for task, place in drawn if place.row == by_label[task].gold[place.item]}
    assert {(cell.item.task, cell.place) for cell in found.over} == lied != set()
