"""Prompts and rows: what is asked exactly, and what happens at the edges."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.data.gpt2 import load_gpt2
from ralph.evaluate.core22.items import Item, LanguageModeling, MultipleChoice, Schema
from ralph.evaluate.core22.prompts import ordered, prompt, shots
from ralph.evaluate.core22.questions import Question, ask, common_prefix
from ralph.evaluate.core22.tasks import Chance, Task, TaskType
from tests.evaluate.core22.material import tokenizer

SEQUENCE = 64


def task(kind: TaskType, *, count: int = 0, delimiter: str = " ") -> Task:
    return Task(label="t", file="t.jsonl", type=kind, shots=count, delimiter=delimiter, chance=Chance(core_v1=0, core_v2=0))


def asked(kind: TaskType, *items: Item, count: int = 0, sequence: int = SEQUENCE, index: int = 0) -> Question:
    return ask(task(kind, count=count), items, index, tokenizer=tokenizer(), sequence=sequence)


def choice(*choices: str, query: str = "the river", gold: int = 0) -> MultipleChoice:
    return MultipleChoice(query=query, choices=choices, gold=gold)


def spans(question: Question) -> list[str]:
    return [tokenizer().decode(option.tokens[option.start :]) for option in question.options]


class Letters:
    """A tokenizer of single bytes, but for pairs that are one token: what a text is cut into is plain to see."""

    vocabulary = 400
    token_bytes = np.ones(400, np.uint8)
    pairs = ("n:", "bc")

    def encode(self, text: str) -> np.ndarray:
        tokens, place = [], 0
        while place < len(text):
            known = text[place : place + 2] in self.pairs
            tokens.append(300 + self.pairs.index(text[place : place + 2]) if known else ord(text[place]) + 1)
            place += 1 + known
        return np.array(tokens, np.uint16)


def test_examples_come_before_the_question_with_their_answers_and_a_blank_line_between() -> None:
    items = [choice(f"a{number}", f"b{number}", query=f"q{number}", gold=number % 2) for number in range(4)]
    first, second = (items[place] for place in shots(2, 4, 2))
    before = "".join(f"{one.query}|{one.choices[one.gold]}\n\n" for one in (first, second))
    found = prompt(task(TaskType.MULTIPLE_CHOICE, count=2, delimiter="|"), items, 2)
    assert found.texts == (f"{before}q2|a2", f"{before}q2|b2")
    assert (found.gold, found.question) == (0, None)


def test_a_schema_puts_each_context_before_the_one_continuation() -> None:
    items = [Schema(contexts=("x", "y"), continuation="z", gold=1), Schema(contexts=("u", "v"), continuation="w", gold=0)]
    assert prompt(task(TaskType.SCHEMA, count=1), items, 0).texts == ("u w\n\nx z", "u w\n\ny z")


def test_contexts_to_continue_are_stripped_and_the_question_ends_without_white_space() -> None:
    items = [LanguageModeling(context=" c\n", continuation=" d "), LanguageModeling(context="\te ", continuation="f")]
    found = prompt(task(TaskType.LANGUAGE_MODELING, count=1, delimiter="\nAnswer: "), items, 1)
    assert found.texts == ("c\nAnswer:  d \n\ne\nAnswer: f",)
    assert found.question == "c\nAnswer:  d \n\ne\nAnswer:"


def test_the_public_order_and_examples_are_the_known_ones() -> None:
    """Fixed numbers: another Python that shuffles or samples otherwise would ask other questions."""
    assert ordered(10) == [0, 3, 7, 2, 1, 6, 4, 5, 8, 9]
    assert shots(0, 100, 5) == [57, 15, 1, 12, 75]
    assert shots(17, 100, 5) == [90, 75, 1, 41, 48]


@given(st.integers(2, 300), st.data())
def test_examples_are_those_of_a_sample_from_all_other_items(count: int, data: st.DataObject) -> None:
    index, shown = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, min(count - 1, 12)))
    others = [place for place in range(count) if place != index]
    assert shots(index, count, shown) == random.Random(1234 + index).sample(others, shown)


def test_rows_begin_with_bos_and_choices_are_scored_from_where_they_differ() -> None:
    question = asked(TaskType.MULTIPLE_CHOICE, choice("under the bridge", "under seven geese", gold=1))
    assert [option.tokens[0] for option in question.options] == [0, 0]
    assert [tokenizer().decode(option.tokens[1:]) for option in question.options] == [
        "the river under the bridge",
        "the river under seven geese",
    ]
    assert question.gold == 1
    start = question.options[0].start
    assert question.options[1].start == start
    assert np.array_equal(question.options[0].tokens[:start], question.options[1].tokens[:start])
    assert question.options[0].tokens[start] != question.options[1].tokens[start]


def test_schemas_are_scored_over_their_common_end() -> None:
    found = spans(asked(TaskType.SCHEMA, Schema(contexts=("the geese", "the winter"), continuation="follow it north", gold=0)))
    assert found[0] == found[1]
    assert found[0].endswith("follow it north")


def test_continuations_are_scored_from_the_end_of_the_question() -> None:
    question = asked(TaskType.LANGUAGE_MODELING, LanguageModeling(context="geese follow", continuation="it north"))
    assert spans(question) == [" it north"]


def test_an_option_that_begins_another_is_scored_on_its_last_token() -> None:
    question = asked(TaskType.MULTIPLE_CHOICE, choice("seven", "seven geese"))
    assert [option.scored for option in question.options] == [1, question.options[1].tokens.size - question.options[0].start]
    assert question.options[0].start == question.options[0].tokens.size - 1


def test_equal_options_are_scored_on_their_last_token() -> None:
    assert [option.scored for option in asked(TaskType.MULTIPLE_CHOICE, choice("seven", "seven")).options] == [1, 1]


def test_equal_contexts_are_scored_on_all_but_bos() -> None:
    question = asked(TaskType.SCHEMA, Schema(contexts=("the", "the"), continuation="river", gold=0))
    assert [option.start for option in question.options] == [1, 1]


def test_rows_that_share_no_end_are_scored_on_their_last_token() -> None:
    schema = Schema(contexts=("b", "d"), continuation="c", gold=0)
    question = ask(task(TaskType.SCHEMA, delimiter=""), [schema], 0, tokenizer=Letters(), sequence=SEQUENCE)
    assert [option.tokens.tolist() for option in question.options] == [[0, 301], [0, 101, 100]]
    assert [option.scored for option in question.options] == [1, 1]


def test_a_token_across_the_border_of_the_question_is_scored() -> None:
    item = LanguageModeling(context="ann", continuation=":x")
    question = ask(task(TaskType.LANGUAGE_MODELING, delimiter=""), [item], 0, tokenizer=Letters(), sequence=SEQUENCE)
    assert question.options[0].tokens.tolist() == [0, 98, 111, 300, 121]
    assert question.options[0].start == 3


def test_a_question_that_swallows_its_answer_is_scored_on_the_last_token() -> None:
    item = LanguageModeling(context="a", continuation="b ")
    question = ask(task(TaskType.LANGUAGE_MODELING, delimiter=""), [item], 0, tokenizer=Letters(), sequence=SEQUENCE)
    assert question.options[0].start == 2
    assert question.options[0].scored == 2


def test_a_long_row_loses_its_beginning() -> None:
    items = [choice("under", "north", query=" ".join(["geese"] * 30)), choice("a", "b")]
    whole, cut = (asked(TaskType.MULTIPLE_CHOICE, *items, sequence=sequence) for sequence in (400, 20))
    for long, short in zip(whole.options, cut.options, strict=True):
        assert not long.cropped
        assert short.cropped
        assert short.tokens.tolist() == long.tokens[-21:].tolist()
        assert short.scored == long.scored


def test_of_an_answer_longer_than_a_row_the_end_is_scored() -> None:
    item = LanguageModeling(context="count", continuation=" ".join(["geese"] * 30))
    option = asked(TaskType.LANGUAGE_MODELING, item, sequence=20).options[0]
    assert (option.tokens.size, option.start, option.scored) == (21, 1, 20)


TEXT = st.text(alphabet="the river\n é", min_size=1, max_size=12).filter(lambda text: text.strip() != "")


@given(st.sampled_from(TaskType), st.lists(TEXT, min_size=2, max_size=4), TEXT, st.integers(1, 30))
def test_every_option_has_a_span_inside_its_row(kind: TaskType, texts: list[str], other: str, sequence: int) -> None:
    match kind:
        case TaskType.MULTIPLE_CHOICE:
            item: Item = choice(*texts, query=other)
        case TaskType.SCHEMA:
            item = Schema(contexts=tuple(texts), continuation=other, gold=0)
        case TaskType.LANGUAGE_MODELING:
            item = LanguageModeling(context=texts[0], continuation=other)
    question = asked(kind, item, sequence=sequence)
    for option in question.options:
        assert 1 <= option.start < option.tokens.size <= sequence + 1
        assert option.tokens.dtype == np.int32


MIXED = st.text(alphabet="ab1'. \n\t\u00a0\u2028\x1cé日", max_size=10)


@given(MIXED, st.lists(MIXED.filter(lambda text: text.strip() != ""), min_size=2, max_size=4))
def test_rows_are_the_tokens_of_the_whole_texts(before: str, texts: list[str]) -> None:
    question = asked(TaskType.MULTIPLE_CHOICE, choice(*texts, query=before + "q"), sequence=400)
    for option, text in zip(question.options, texts, strict=True):
        assert option.tokens[1:].tolist() == tokenizer().encode(before + "q " + text).tolist()


GPT2 = Path(os.environ.get("RALPH_TEST_DATA", "nowhere")) / "gpt2_bpe"


def needs_merges(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test as one that downloads GPT-2's merges, unless RALPH_TEST_DATA has them."""
    return test if GPT2.is_dir() else pytest.mark.online(test)


@needs_merges
def test_rows_are_the_tokens_of_the_whole_texts_with_gpt2s_tokenizer_too() -> None:
    gpt2 = load_gpt2(GPT2 if GPT2.is_dir() else None)
    generator = random.Random(0)
    for _ in range(300):
        texts = ["".join(generator.choices("ab1'. \n\t\u00a0\u2028\x1cé日", k=12)) + "x" for _ in range(4)]
        question = ask(task(TaskType.MULTIPLE_CHOICE), [choice(*texts[1:], query=texts[0])], 0, tokenizer=gpt2, sequence=400)
        for option, text in zip(question.options, texts[1:], strict=True):
            assert option.tokens[1:].tolist() == gpt2.encode(f"{texts[0]} {text}").tolist()


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=4))
def test_the_common_prefix_is_the_longest(rows: list[list[int]]) -> None:
    found = common_prefix([np.array(row, np.int32) for row in rows])
    assert all(row[:found] == rows[0][:found] and len(row) >= found for row in rows)
    assert any(len(row) == found for row in rows) or len({row[found] for row in rows}) > 1
