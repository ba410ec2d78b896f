"""The items of a task, parsed from a JSON-lines file of the bundle.

Every byte is foreign even when its digest is pinned: sizes first, then structure, and after that the type is the proof. A file that
does not parse is our data and nobody's fault but ours: ``ConfigurationError`` with ``OPS-DATA``, never a miner's loss.

Fields that a task does not use are ignored: they are annotations such as a category and are no part of an item's identity.
"""

import json
from dataclasses import dataclass
from typing import Any

from ralph.errors import ConfigurationError
from ralph.evaluate.core22.tasks import TaskType
from ralph.protocol.canonical import digest

ITEM_TAG = "recipe-net/core22/item/v1"
CODE = "OPS-DATA"
MAX_FILE_BYTES = 64 << 20
"""Of one task. The largest public file, CoQA with its stories, has less than half of this."""
MAX_LINE_BYTES = 256 << 10
MAX_ITEMS = 1 << 16
MAX_OPTIONS = 26
MAX_FIELDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipleChoice:
    """A query with several continuations, of which ``choices[gold]`` is right."""

    query: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """A continuation that fits ``contexts[gold]`` best."""

    contexts: tuple[str, ...]
    continuation: str
    gold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModeling:
    """A context and the continuation that must be predicted word for word."""

    context: str
    continuation: str


Item = MultipleChoice | Schema | LanguageModeling


def item_digest(item: Item) -> bytes:
    """Return the SHA-256 of the canonical item: 32 bytes that differ between items of any type."""
    match item:
        case MultipleChoice():
            value: list[Any] = ["multiple_choice", item.query, list(item.choices), item.gold]
        case Schema():
            value = ["schema", list(item.contexts), item.continuation, item.gold]
        case LanguageModeling():
            value = ["language_modeling", item.context, item.continuation]
    return digest(ITEM_TAG, value)


def parse_items(data: bytes, kind: TaskType, *, name: str) -> tuple[Item, ...]:
    """Parse a whole file, one item a line; a blank line at the end is no item.

    Args:
        data: The file.
        kind: What its items must be.
        name: What to call the file in an error.

    Raises:
        ConfigurationError: ``OPS-DATA`` with the line and what is wrong with it.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{name} has {len(data)} bytes, limit {MAX_FILE_BYTES}", code=CODE)
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    if not 1 <= len(lines) <= MAX_ITEMS:
        raise ConfigurationError(f"{name} has {len(lines)} items, limits 1 and {MAX_ITEMS}", code=CODE)
    items: list[Item] = []
    for number, line in enumerate(lines, 1):
        try:
            items.append(parse_item(line, kind))
        except ValueError as error:
            raise ConfigurationError(f"{name}, line {number}: {error}", code=CODE) from error
    return tuple(items)


def parse_item(line: bytes, kind: TaskType) -> Item:
    """Parse one line.

    Raises:
        ValueError: Too long, no JSON object, or not the fields that ``kind`` needs.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"{len(line)} bytes, limit {MAX_LINE_BYTES}")
    try:
        fields = json.loads(line.decode("utf-8"), object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deep") from error
    if not isinstance(fields, dict) or len(fields) > MAX_FIELDS:
        raise ValueError(f"not a JSON object of at most {MAX_FIELDS} fields")
    match kind:
        case TaskType.MULTIPLE_CHOICE:
            choices = _texts(fields, "choices")
            return MultipleChoice(query=_text(fields, "query"), choices=choices, gold=_gold(fields, len(choices)))
        case TaskType.SCHEMA:
            contexts = _texts(fields, "context_options")
            return Schema(contexts=contexts, continuation=_text(fields, "continuation"), gold=_gold(fields, len(contexts)))
        case TaskType.LANGUAGE_MODELING:
            return LanguageModeling(context=_text(fields, "context"), continuation=_text(fields, "continuation"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field occurs twice")
    return fields


def _text(fields: dict[str, Any], name: str) -> str:
    return _checked(fields.get(name), name)


def _texts(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    values = fields.get(name)
    if not isinstance(values, list) or not 2 <= len(values) <= MAX_OPTIONS:
        raise ValueError(f"{name!r} is not a list of 2 to {MAX_OPTIONS} texts")
    return tuple(_checked(value, name) for value in values)


def _checked(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name!r} is missing, blank or no text")
    value.encode("utf-8")  # a lone surrogate is no text: UnicodeEncodeError, a ValueError
    return value


def _gold(fields: dict[str, Any], options: int) -> int:
    value = fields.get("gold")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < options:
        raise ValueError(f"'gold' is not the number of one of {options} options")
    return value
