"""Items: what a line must hold, and that no line whatever does anything but parse or be refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.errors import ConfigurationError
from ralph.evaluate.core22 import items
from ralph.evaluate.core22.items import LanguageModeling, MultipleChoice, Schema, item_digest, parse_item, parse_items
from ralph.evaluate.core22.tasks import TaskType

MC, SCHEMA, LM = TaskType.MULTIPLE_CHOICE, TaskType.SCHEMA, TaskType.LANGUAGE_MODELING
GOOD: dict[TaskType, dict[str, Any]] = {
    MC: {"query": "q", "choices": ["a", "b"], "gold": 1},
    SCHEMA: {"context_options": ["a", "b"], "continuation": "c", "gold": 0},
    LM: {"context": "c", "continuation": "d"},
}


def encoded(fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_the_three_kinds_parse() -> None:
    assert parse_item(encoded(GOOD[MC]), MC) == MultipleChoice(query="q", choices=("a", "b"), gold=1)
    assert parse_item(encoded(GOOD[SCHEMA]), SCHEMA) == Schema(contexts=("a", "b"), continuation="c", gold=0)
    assert parse_item(encoded(GOOD[LM]), LM) == LanguageModeling(context="c", continuation="d")


@pytest.mark.parametrize(
    ("kind", "change", "complaint"),
    [
        (MC, {"gold": 2}, "gold"),
        (MC, {"gold": -1}, "gold"),
        (MC, {"gold": True}, "gold"),
        (MC, {"gold": "1"}, "gold"),
        (MC, {"gold": None}, "gold"),
        (MC, {"choices": ["a"]}, "choices"),
        (MC, {"choices": ["a"] * 27}, "choices"),
        (MC, {"choices": "ab"}, "choices"),
        (MC, {"choices": ["a", " "]}, "choices"),
        (MC, {"choices": ["a", 3]}, "choices"),
        (MC, {"query": None}, "query"),
        (MC, {f"extra{number}": 0 for number in range(20)}, "fields"),
        (SCHEMA, {"context_options": ["a", None]}, "context_options"),
        (SCHEMA, {"continuation": ""}, "continuation"),
        (LM, {"continuation": "\n "}, "continuation"),
        (LM, {"context": ["c"]}, "context"),
        (LM, {"context": "\ud800"}, "surrogates"),
    ],
)
def test_what_a_task_cannot_use_is_refused(kind: TaskType, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_item(encoded(GOOD[kind] | change), kind)


@pytest.mark.parametrize(
    "line", [b"", b"[1]", b"{", b'{"context": "a", "context": "b", "continuation": "c"}', b"\xff{}", b"[" * 100_000, b"9" * 5000]
)
def test_what_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_item(line, LM)


def test_errors_name_the_file_and_the_line_and_are_nobodys_loss() -> None:
    good = encoded(GOOD[LM]) + b"\n"
    with pytest.raises(ConfigurationError, match=r"some/file, line 3: 'context'") as refusal:
        parse_items(good + good + b'{"continuation": "c"}\n', LM, name="some/file")
    assert refusal.value.code == "OPS-DATA"


def test_sizes_come_before_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    good = encoded(GOOD[LM]) + b"\n"
    assert len(parse_items(good * 5, LM, name="f")) == 5
    for name, limit, complaint in (("MAX_FILE_BYTES", 99, "bytes, limit"), ("MAX_ITEMS", 4, "5 items"), ("MAX_LINE_BYTES", 10, "line 1")):
        with monkeypatch.context() as patch:
            patch.setattr(items, name, limit)
            with pytest.raises(ConfigurationError, match=complaint):
                parse_items(good * 5, LM, name="f")
    with pytest.raises(ConfigurationError, match="0 items"):
        parse_items(b"", LM, name="f")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["query", "choices", "gold", "context", "context_options", "continuation"]) | st.text(max_size=3),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(JSON.map(encoded) | st.binary(max_size=60), st.sampled_from(TaskType))
def test_any_line_parses_or_is_refused(line: bytes, kind: TaskType) -> None:
    try:
        item = parse_item(line, kind)
    except ValueError:
        return
    assert len(item_digest(item)) == 32


@given(st.text(), st.lists(st.text(), min_size=2, max_size=5), st.data())
def test_a_well_formed_item_comes_back_as_it_was(query: str, choices: list[str], data: st.DataObject) -> None:
    gold = data.draw(st.integers(0, len(choices) - 1))
    line = encoded({"query": query, "choices": choices, "gold": gold, "note": None})
    if all(text.strip() for text in [query, *choices]):
        assert parse_item(line, MC) == MultipleChoice(query=query, choices=tuple(choices), gold=gold)
    else:
        with pytest.raises(ValueError, match="blank"):
            parse_item(line, MC)


def test_items_that_differ_anywhere_have_different_digests() -> None:
    found = {
        item_digest(item)
        for item in (
            MultipleChoice(query="q", choices=("a", "b"), gold=0),
            MultipleChoice(query="q", choices=("a", "b"), gold=1),
            MultipleChoice(query="q", choices=("ab", "c"), gold=0),
            MultipleChoice(query="q", choices=("a", "bc"), gold=0),
            Schema(contexts=("a", "b"), continuation="q", gold=0),
            LanguageModeling(context="q", continuation="a"),
            LanguageModeling(context="qa", continuation="a"),
        )
    }
    assert len(found) == 7
