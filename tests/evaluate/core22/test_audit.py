"""The second phase: what is drawn, what the auditing worker gets to see, and how each cheat ends."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ralph.errors import ConfigurationError, InfrastructureError, UntrustedInputError
from ralph.evaluate.core22 import manifest
from ralph.evaluate.core22.audit import Audit, accuse, audit, repeat
from ralph.evaluate.core22.bundle import Bundle
from ralph.evaluate.core22.drawing import AuditRules, Barred, advantage, draw
from ralph.evaluate.core22.exam import Answers, Exam
from ralph.evaluate.core22.items import item_digest
from ralph.evaluate.core22.prompts import shots
from ralph.evaluate.core22.results import grade
from ralph.evaluate.core22.sitting import sit
from ralph.evaluate.core22.tasks import TASKS
from tests.evaluate.core22 import material
from tests.evaluate.core22.material import DRAW_KEY, ORDER_KEY, SEQUENCE, VOCABULARY, Honest, LookAhead, Memory, Spoiler, examinee, starter

RULES = AuditRules(uniform=6, weighted=0, tau_nats=1e-6)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return material.small_bundle(tmp_path_factory.mktemp("bundle"), count=60)


@pytest.fixture(scope="module")
def exam(bundle: Bundle) -> Exam:
    return material.exam(bundle, first=8, margin_nats=RULES.margin_nats)


@pytest.fixture(scope="module")
def honest(exam: Exam) -> tuple[Answers, ...]:
    return sit(exam, examinee(Honest()), key=ORDER_KEY)


def audited(exam: Exam, model: Callable[[], Honest], *, rules: AuditRules = RULES, shared: bool = False) -> Audit:
    answers = sit(exam, examinee(model(), shared=shared), key=ORDER_KEY)
    return audit(exam, answers, examinee(model()), key=DRAW_KEY, rules=rules)


def verdict(exam: Exam, first: Audit, model: Callable[[], Honest]) -> str:
    repeated = repeat(exam, first, start=starter(model), order_key=ORDER_KEY, key=DRAW_KEY)
    with pytest.raises((UntrustedInputError, InfrastructureError)) as refused:
        accuse(first, repeated)
    return refused.value.code


def test_an_honest_model_differs_nowhere(exam: Exam) -> None:
    for shared in (False, True):
        found = audited(exam, Honest, shared=shared)
        assert len(found.cells) > 44
        assert {cell.item.task for cell in found.cells} == {entry.task.label for entry in exam.manifest.entries}
        assert (found.exceedances, found.unprobed) == (0, ())
        assert max(cell.mismatch_nats for cell in found.cells) < 1e-9
        accuse(found, ())


def test_what_is_probed_is_nowhere_solved_or_begun_in_what_the_worker_gets(exam: Exam, bundle: Bundle, honest: tuple[Answers, ...]) -> None:
    model = Honest()
    found = audit(exam, honest, examinee(model), key=DRAW_KEY, rules=replace(RULES, uniform=12))
    asked, shown = [], set()
    for cell in found.cells:
        entry = next(entry for entry in exam.manifest.entries if entry.task.label == cell.item.task)
        items = manifest.load(bundle, entry)
        asked.append((cell.item.sha256, cell.place.option))
        shown |= {item_digest(items[other]) for other in shots(cell.item.index, len(items), entry.task.shots)}
    assert len({item for item, _ in set(asked)}) == len(set(asked))
    assert not shown & {item for item, _ in asked}
    for tokens, positions in model.asked:
        assert tokens.shape in {(8, part * SEQUENCE // 4) for part in range(1, 5)}
        for row, position in zip(tokens, positions.tolist(), strict=True):
            assert np.array_equal(row[position + 1 :], exam.filler[position + 1 : row.size])


def test_two_tasks_with_the_same_items_do_not_give_each_other_away(exam: Exam, honest: tuple[Answers, ...]) -> None:
    found = audit(exam, honest, examinee(Honest()), key=DRAW_KEY, rules=replace(RULES, uniform=60))
    both = {(cell.item.task, cell.item.sha256) for cell in found.cells if cell.item.task in ("hellaswag", "hellaswag_zeroshot")}
    assert len(both) == len({item for _, item in both}) > 0
    assert exam.manifest.entries[0].items == next(e for e in exam.manifest.entries if e.task.label == "hellaswag").items


def test_a_task_of_which_nothing_could_be_probed_is_named(tmp_path: Path) -> None:
    """Both tasks ask one item each, the same; it is an example in no prompt and can be probed once only."""
    bundle = material.small_bundle(tmp_path, labels=["hellaswag", "hellaswag_zeroshot"])
    exam = material.exam(bundle, first=1, margin_nats=RULES.margin_nats)
    found = audit(exam, sit(exam, examinee(Honest()), key=ORDER_KEY), examinee(Honest()), key=DRAW_KEY, rules=RULES)
    assert {cell.item.task for cell in found.cells} == {"hellaswag"}
    assert found.unprobed == ("hellaswag_zeroshot",)


def test_an_item_is_taken_up_once_and_never_beside_its_own_answer() -> None:
    barred = Barred()
    assert barred.admit(b"a", frozenset({b"x", b"y"}))
    assert not barred.admit(b"a", frozenset())
    assert not barred.admit(b"x", frozenset())
    assert not barred.admit(b"b", frozenset({b"a"}))
    assert barred.admit(b"b", frozenset({b"x"}))


def test_the_draw_follows_from_the_key_and_the_answers(exam: Exam, bundle: Bundle, honest: tuple[Answers, ...]) -> None:
    items = manifest.load(bundle, honest[5].entry)

    def drawn(answers: Answers, key: bytes) -> list[int]:
        return [place.row for place in draw(answers, items, key=key, rules=RULES, reference=None, barred=Barred())]

    first = drawn(honest[5], DRAW_KEY)
    assert first == drawn(honest[5], DRAW_KEY)
    assert len(first) == 6
    assert first != drawn(honest[5], bytes(32))
    assert first != drawn(replace(honest[5], losses=honest[5].losses + 1e-12), DRAW_KEY)


def test_every_item_is_drawn_equally_often(bundle: Bundle, honest: tuple[Answers, ...]) -> None:
    answers = honest[5]
    items = manifest.load(bundle, answers.entry)
    rules = replace(RULES, uniform=1)
    places = [
        draw(answers, items, key=number.to_bytes(32, "little"), rules=rules, reference=None, barred=Barred())[0] for number in range(1200)
    ]
    counts = np.bincount([place.item for place in places], minlength=8)
    assert counts.min() > 105
    assert counts.max() < 200
    for place in places[:100]:
        assert answers.options[place.item] + place.option == place.row < answers.options[place.item + 1]


def test_weighted_draws_go_where_the_answers_beat_the_king(bundle: Bundle, honest: tuple[Answers, ...]) -> None:
    answers = honest[5]
    items = manifest.load(bundle, answers.entry)
    lied = answers.losses.copy()
    right = int(answers.cells.offsets[answers.gold[3]])
    wrong_option = next(option for option in range(*answers.options[7:9].tolist()) if option != answers.gold[7])
    wrong = int(answers.cells.offsets[wrong_option])
    lied[right] -= 1.0
    lied[wrong] += 1.0
    claimed = replace(answers, losses=lied)
    assert set(np.flatnonzero(advantage(claimed, answers))) == {int(answers.gold[3]), wrong_option}
    rules = replace(RULES, uniform=1, weighted=2)
    for number in range(5):
        places = draw(claimed, items, key=bytes([number] * 32), rules=rules, reference=answers, barred=Barred())
        assert {place.item for place in places} >= {3, 7}


def test_a_token_that_became_the_largest_counts_as_an_advantage(honest: tuple[Answers, ...]) -> None:
    king = next(answer for answer in honest if answer.hits is not None)
    hits = king.hits.copy()
    missed = int(np.flatnonzero(np.add.reduceat(~hits, king.cells.offsets[:-1]) > 1)[0])
    hits[int(king.cells.offsets[missed]) + int(np.flatnonzero(~hits[king.cells.offsets[missed] :])[0])] = True
    gained = advantage(replace(king, hits=hits), king)
    assert np.flatnonzero(gained).tolist() == [missed]
    assert gained[missed] == 1.0


@pytest.mark.parametrize("model", [LookAhead, Spoiler])
def test_claims_that_no_prefix_gives_are_fraud(exam: Exam, model: Callable[[], Honest]) -> None:
    found = audited(exam, model)
    assert 5 < found.exceedances <= len(found.cells)
    assert all(cell.mismatch_nats > RULES.tau_nats for cell in found.over)
    assert verdict(exam, found, model) == "FRD-CLAIM"


def test_looking_ahead_with_shared_prefixes_is_found_as_well(exam: Exam) -> None:
    assert audited(exam, LookAhead, shared=True).exceedances > 5


def test_remembering_solved_examples_is_found_and_comes_back(exam: Exam, honest: tuple[Answers, ...]) -> None:
    """The worker answers probes of language modelling from rows it saw before: it is right more often, and caught."""
    answers = sit(exam, examinee(Memory()), key=ORDER_KEY)
    hits = [sum(int(answer.hits.sum()) for answer in some if answer.hits is not None) for some in (honest, answers)]
    assert hits[1] > 5 * hits[0] + 50
    found = audit(exam, answers, examinee(Memory()), key=DRAW_KEY, rules=RULES)
    assert found.exceedances > 5
    assert verdict(exam, found, Memory) == "FRD-CLAIM"


def test_a_hit_with_the_loss_of_a_miss_is_an_exceedance(exam: Exam) -> None:
    """The first worker flattens all other logits, which keeps the loss of the token that it knows will be asked for."""

    class Flattened(Honest):
        def __init__(self, known: dict[bytes, int]) -> None:
            super().__init__()
            self.known = known

        def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
            logits = super().probe(tokens, positions)
            for line, row, position in zip(logits, tokens, positions.tolist(), strict=True):
                target = self.known.get(row[: position + 1].tobytes())
                if target is not None:
                    others = np.delete(np.arange(VOCABULARY), target)
                    line[others] = np.log(np.exp(line[others]).mean())
            return logits

    known = {}
    for entry in exam.manifest.entries:
        items = manifest.load(exam.bundle, entry)
        for index in range(len(entry.items)):
            for option in exam.ask(entry, items, index).options:
                known |= {option.tokens[:place].tobytes(): int(option.tokens[place]) for place in range(option.start, option.tokens.size)}
    answers = sit(exam, examinee(Flattened(known)), key=ORDER_KEY)
    found = audit(exam, answers, examinee(Honest()), key=DRAW_KEY, rules=replace(RULES, uniform=12))
    assert max(abs(cell.claim - cell.truth) for cell in found.cells) < 1e-9
    assert found.exceedances > 1
    assert all(cell.is_false_hit and cell.lead_nats < 0 for cell in found.over)


def test_an_exam_without_a_margin_is_not_audited(exam: Exam, honest: tuple[Answers, ...]) -> None:
    with pytest.raises(ConfigurationError, match="margin"):
        audit(replace(exam, margin_nats=0.0), honest, examinee(Honest()), key=DRAW_KEY, rules=RULES)


def test_the_smallest_lie_that_turns_an_item_is_where_the_weighted_draw_looks(bundle: Bundle, honest: tuple[Answers, ...]) -> None:
    """Beside honest differences that are larger, all over the task."""
    king = honest[5]
    result = grade([king], absent=tuple(task.label for task in TASKS if task is not king.entry.task)).tasks[0]
    item = int(np.flatnonzero(~result.correct)[0])
    lied = king.losses + np.random.default_rng(1).normal(0, 0.02, king.losses.size)
    first = int(king.cells.offsets[king.gold[item]])
    lied[first] += (result.margins[item] - 0.05) * king.cells.lengths[king.gold[item]]
    claimed = replace(king, losses=lied)
    rules = replace(RULES, uniform=1, weighted=1)
    items = manifest.load(bundle, king.entry)
    hit = 0
    for number in range(200):
        places = draw(claimed, items, key=number.to_bytes(32, "big"), rules=rules, reference=king, barred=Barred())
        hit += item in {place.item for place in places[1:]}
    assert hit > 150


def test_losses_below_zero_are_always_probed(exam: Exam, honest: tuple[Answers, ...]) -> None:
    lied = honest[5].losses.copy()
    lied[-1] = -1e6
    answers = (*honest[:5], replace(honest[5], losses=lied), *honest[6:])
    for number in range(5):
        found = audit(exam, answers, examinee(Honest()), key=bytes([number] * 32), rules=replace(RULES, uniform=1))
        assert [cell.claim for cell in found.over] == [-1e6]


def test_a_difference_that_does_not_come_back_is_ours(exam: Exam) -> None:
    workers = iter([LookAhead(), Honest(), Honest()])
    first = audit(exam, sit(exam, examinee(next(workers)), key=ORDER_KEY), examinee(Honest()), key=DRAW_KEY, rules=RULES)
    assert first.exceedances > 5
    assert verdict(exam, first, lambda: next(workers)) == "OPS-NUMERIC"


def test_the_replay_asks_bit_for_bit_the_same(exam: Exam) -> None:
    made: list[Honest] = []

    def make() -> Honest:
        made.append(LookAhead())
        return made[-1]

    first = audited(exam, make)
    assert repeat(exam, first, start=starter(make), order_key=ORDER_KEY, key=DRAW_KEY)
    assert len(made) == 4
    for before, after in ((made[0], made[2]), (made[1], made[3])):
        assert all(np.array_equal(a, b) for one, two in zip(before.asked, after.asked, strict=True) for a, b in zip(one, two, strict=True))


def test_the_refusal_says_how_many_and_which(exam: Exam) -> None:
    found = audited(exam, LookAhead)
    with pytest.raises(UntrustedInputError, match=rf"{found.exceedances} of {len(found.cells)} probed tokens .* again in a replay"):
        accuse(found, found.over)


@pytest.mark.parametrize("key", [b"", bytes(31)])
def test_a_short_key_is_refused(exam: Exam, honest: tuple[Answers, ...], key: bytes) -> None:
    with pytest.raises(ConfigurationError, match="key of"):
        audit(exam, honest, examinee(Honest()), key=key, rules=RULES)


def test_a_reference_to_another_exam_is_refused(exam: Exam, bundle: Bundle, honest: tuple[Answers, ...]) -> None:
    shorter = sit(material.exam(bundle, first=2, margin_nats=RULES.margin_nats), examinee(Honest()), key=ORDER_KEY)
    for king in (shorter, honest[:-1]):
        with pytest.raises(ConfigurationError, match="another exam"):
            audit(exam, honest, examinee(Honest()), key=DRAW_KEY, rules=RULES, reference=king)
    found = audit(exam, honest, examinee(Honest()), key=DRAW_KEY, rules=replace(RULES, weighted=3), reference=honest)
    assert found.exceedances == 0


@pytest.mark.parametrize("rules", [{"uniform": 0}, {"weighted": -1}, {"tau_nats": 0.0}, {"tau_nats": float("nan")}])
def test_rules_that_check_nothing_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        replace(RULES, **rules)
