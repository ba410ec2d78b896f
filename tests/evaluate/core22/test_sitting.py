"""The first phase: who gets to see what, shared prefixes, and answers that are none."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.evaluate.core22 import sitting
from ralph.evaluate.core22.bundle import Bundle
from ralph.evaluate.core22.exam import Answers, Exam
from ralph.evaluate.core22.examinee import Examinee
from ralph.evaluate.core22.manifest import build
from ralph.evaluate.core22.results import grade
from ralph.evaluate.core22.sitting import sit
from ralph.evaluate.core22.tasks import TaskType
from tests.evaluate.core22 import material
from tests.evaluate.core22.material import BATCH_ROWS, ORDER_KEY, SEQUENCE, VOCABULARY, Honest, Taught, examinee
from tests.evaluate.core22.reference import Definition, Reference


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return material.small_bundle(tmp_path_factory.mktemp("bundle"))


def flat(answers: tuple[Answers, ...]) -> np.ndarray:
    return np.concatenate([answer.losses for answer in answers])


@pytest.mark.parametrize("sequence", [SEQUENCE, 400])
def test_all_22_tasks_are_graded_as_the_reference_grades_them(bundle: Bundle, sequence: int) -> None:
    """With a model that knows half of the answers; at the shorter length most prompts are cropped."""
    known = [
        material.item(task, number) for task in bundle.present if task.type is TaskType.LANGUAGE_MODELING for number in range(0, 14, 2)
    ]
    model = Taught([f"{item['context']}{item['continuation']}" for item in known])
    exam = material.exam(bundle, first=8, sequence=sequence)
    result = grade(sit(exam, examinee(model), key=ORDER_KEY), absent=())
    kinds = {TaskType.LANGUAGE_MODELING: 0, TaskType.SCHEMA: 0, TaskType.MULTIPLE_CHOICE: 0}
    for task in result.tasks:
        own = task.entry.task
        definition = Definition(kind=own.type.value, shots=own.shots, delimiter=own.delimiter, file=own.file)
        data = bundle.source.path / "eval_data" / own.file
        reference = Reference(definition, data, material.tokenizer().to_bytes(), sequence + 1)
        for number in range(8):
            expected = reference.outcome(number, lambda row: torch.from_numpy(model.logits(np.array([row]))[0]))
            assert bool(task.correct[number]) == expected.correct
            assert task.gold_nats[number] == pytest.approx(expected.gold_nats, abs=1e-9)
            assert int(task.gold_bytes[number]) == expected.gold_bytes
            if expected.margin is not None:
                assert task.margins[number] == pytest.approx(expected.margin, abs=1e-9)
            kinds[own.type] += expected.correct
    assert all(0 < right < 8 * 11 for right in kinds.values())


def test_claims_are_asked_in_batches_of_one_shape_and_prefixes_in_few(bundle: Bundle) -> None:
    model, exam = Honest(), material.exam(bundle)
    sit(exam, examinee(model), key=ORDER_KEY)
    shapes = {tuple(part.shape for part in asked) for asked in model.asked}
    prefixes = {((BATCH_ROWS, part * SEQUENCE // 4), (BATCH_ROWS,)) for part in range(1, 5)}
    assert shapes - prefixes == {((BATCH_ROWS, SEQUENCE + 1),)}
    assert len(shapes & prefixes) > 1


def test_no_prefix_holds_what_it_is_asked_for_or_anything_behind_it(bundle: Bundle) -> None:
    model, exam = Honest(), material.exam(bundle)
    answers = sit(exam, examinee(model), key=ORDER_KEY)
    behind = 0
    for asked in model.asked:
        if len(asked) == 2:
            tokens, positions = asked
            for row, position in zip(tokens, positions.tolist(), strict=True):
                assert np.array_equal(row[position + 1 :], exam.filler[position + 1 : row.size])
                behind += 1
    assert behind >= sum(answer.losses.size for answer in answers if answer.hits is not None)


def test_a_longer_prefix_of_an_item_follows_the_answers_to_the_shorter_ones(bundle: Bundle) -> None:
    model, exam = Honest(), material.exam(bundle, first=4, sequence=400)
    sit(exam, examinee(model), key=ORDER_KEY)
    probed = [asked for asked in model.asked if len(asked) == 2]
    prefixes = [
        (number, row[: position + 1].tobytes())
        for number, (tokens, positions) in enumerate(probed)
        for row, position in zip(tokens, positions.tolist(), strict=True)
        if not np.array_equal(row, exam.filler[: row.size])
    ]
    longer = [(early, late) for early, short in prefixes for late, long in prefixes if short != long and long.startswith(short)]
    assert len(longer) > 50
    assert all(early < late for early, late in longer)


def test_the_key_orders_what_is_asked_and_changes_no_answer(bundle: Bundle) -> None:
    one, again, other = Honest(), Honest(), Honest()
    exam = material.exam(bundle, first=6)
    first, second, third = (
        sit(exam, examinee(model), key=key) for model, key in ((one, ORDER_KEY), (again, ORDER_KEY), (other, bytes(32)))
    )
    same = [np.array_equal(left[0], right[0]) for left, right in zip(one.asked, again.asked, strict=True)]
    assert all(same)
    assert not all(np.array_equal(left[0], right[0]) for left, right in zip(one.asked, other.asked, strict=False))
    assert np.array_equal(flat(first), flat(second))
    assert flat(first) == pytest.approx(flat(third), abs=1e-9)
    assert [answer.digest() for answer in first] == [answer.digest() for answer in second]


@pytest.mark.parametrize("sequence", [SEQUENCE, 400])
def test_shared_prefixes_give_the_numbers_of_whole_rows(bundle: Bundle, sequence: int) -> None:
    exam = material.exam(bundle, first=4, sequence=sequence)
    plain, shared = Honest(), Honest()
    assert flat(sit(exam, examinee(shared, shared=True), key=ORDER_KEY)) == pytest.approx(
        flat(sit(exam, examinee(plain), key=ORDER_KEY)), abs=1e-9
    )
    rows = [sum(len(asked) == 1 for asked in model.asked) for model in (plain, shared)]
    assert rows[1] == 0 if sequence == 400 else 0 < rows[1] < rows[0]


def test_few_rows_exist_at_a_time(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window changes the order of what is asked and no answer."""
    exam = material.exam(bundle)
    whole = sit(exam, examinee(Honest()), key=ORDER_KEY)
    made: list[int] = []
    rows = Exam.rows
    monkeypatch.setattr(Exam, "rows", lambda self, options: made.append(len(options)) or rows(self, options))
    monkeypatch.setattr(sitting, "WINDOW", 2)
    assert flat(sit(exam, examinee(Honest()), key=ORDER_KEY)) == pytest.approx(flat(whole), abs=1e-9)
    assert max(made) <= 2 * 4


def test_answers_are_frozen(bundle: Bundle) -> None:
    answers = sit(material.exam(bundle, first=1), examinee(Honest()), key=ORDER_KEY)
    with pytest.raises(ValueError, match="read-only"):
        answers[0].losses[0] = 0.0


BROKEN: list[tuple[str, Callable[[np.ndarray], object], str]] = [
    ("not a number", lambda values: np.full_like(values, math.nan), "RUN-NAN"),
    ("infinite", lambda values: np.full_like(values, math.inf), "RUN-NAN"),
    ("beyond all bounds", lambda values: np.full_like(values, 1e300), "RUN-NAN"),
    ("a column too few", lambda values: values[:, :-1], "RUN-SHAPE"),
    ("a row too few", lambda values: values[:-1], "RUN-SHAPE"),
    ("a row that would spread", lambda values: values[:1], "RUN-SHAPE"),
    ("float32", lambda values: values.astype(np.float32), "RUN-SHAPE"),
    ("a list", lambda values: values.tolist(), "RUN-SHAPE"),
    ("nothing", lambda _: None, "RUN-SHAPE"),
]


@pytest.mark.parametrize(("change", "code"), [(change, code) for _, change, code in BROKEN], ids=[name for name, _, _ in BROKEN])
def test_answers_that_are_none_are_the_workers_fault(bundle: Bundle, change: Callable[[np.ndarray], object], code: str) -> None:
    class Broken(Honest):
        def claim(self, tokens: np.ndarray) -> np.ndarray:
            return change(super().claim(tokens))

        def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
            return change(np.where(np.arange(VOCABULARY) % 2 == 0, -1.0, 1.0) * np.abs(super().probe(tokens, positions)))

    for label in ("copa", "lambada_openai"):
        manifest = build(bundle)
        entries = tuple(entry for entry in manifest.entries if entry.task.label == label)
        exam = material.exam(bundle)
        only = Exam(
            bundle=bundle,
            manifest=type(manifest)(entries=entries, absent=()),
            tokenizer=exam.tokenizer,
            sequence=SEQUENCE,
            batch_rows=BATCH_ROWS,
            filler=exam.filler,
        )
        if label == "lambada_openai" and change(np.zeros((2, 2))) is not None and code == "RUN-NAN":
            continue  # logits of one giant value are a uniform guess; see the next test
        with pytest.raises(UntrustedInputError) as refused:
            sit(only, examinee(Broken()), key=ORDER_KEY)
        assert refused.value.code == code


def test_logits_that_are_not_finite_are_refused(bundle: Bundle) -> None:
    class Broken(Honest):
        def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
            return np.where(np.arange(VOCABULARY) == 7, math.nan, super().probe(tokens, positions))

    with pytest.raises(UntrustedInputError, match="RUN-NAN"):
        sit(material.exam(bundle), examinee(Broken()), key=ORDER_KEY)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda found: found[:-1], "RUN-SHAPE"),
        (tuple, "RUN-SHAPE"),
        (lambda found: [values[:, :-1] for values in found], "RUN-SHAPE"),
        (lambda found: [values * math.nan for values in found], "RUN-NAN"),
    ],
)
def test_shared_answers_that_are_none_are_the_workers_fault(bundle: Bundle, change: Callable[[list], object], code: str) -> None:
    model = Honest()
    broken = Examinee(claim=model.claim, probe=model.probe, vocabulary=VOCABULARY, shared=lambda *asked: change(model.shared(*asked)))
    with pytest.raises(UntrustedInputError) as refused:
        sit(material.exam(bundle, sequence=400), broken, key=ORDER_KEY)
    assert refused.value.code == code


def test_a_worker_for_another_tokenizer_is_our_mistake(bundle: Bundle) -> None:
    model = Honest()
    with pytest.raises(ConfigurationError, match="token ids"):
        sit(material.exam(bundle), Examinee(claim=model.claim, probe=model.probe, vocabulary=VOCABULARY + 1), key=ORDER_KEY)


def test_an_exam_needs_filler_of_its_width(bundle: Bundle) -> None:
    with pytest.raises(ConfigurationError, match="filler"):
        Exam(
            bundle=bundle,
            manifest=build(bundle),
            tokenizer=material.tokenizer(),
            sequence=SEQUENCE,
            batch_rows=BATCH_ROWS,
            filler=material.filler(SEQUENCE - 1),
        )
