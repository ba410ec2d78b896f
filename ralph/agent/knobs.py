"""Knobs: what a recipe's configuration declares as changeable, and how to change it with the smallest diff.

A knob is a table ``[name]`` of ``config/base.toml`` with a ``value`` and either a range (``low``, ``high``, ``scale``, perhaps
``type = "int"``) or a list of ``choices``. The file may come from another miner's crowned patch, so it is foreign text: a
declaration that does not add up is no knob, and an edit is made in the text and then checked by parsing the result.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from ralph.errors import UntrustedInputError
from ralph.protocol.patch import RecipeTree
from ralph.train.plan import CONFIG, MAX_CONFIG_BYTES

PATH = CONFIG.as_posix()
MAX_CHOICES = 64
MAX_NUMBER = 1e15
DIGITS = 3
"""Significant digits of a number that is written into the configuration."""

Scalar = float | int | str | bool

_HEADER = re.compile(r"\[([A-Za-z0-9_-]{1,64})\][ \t]*(?:#.*)?\r?")
_VALUE = re.compile(r"([ \t]*value[ \t]*=[ \t]*)([^#\s](?:[^#]*[^#\s])?)([ \t]*(?:#.*)?\r?)")
_TEXT = re.compile(r"[A-Za-z0-9_. +-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A knob with a range, and the value that it has in a tree."""

    name: str
    value: float | int
    about: str
    """The comment above its table, what a person is told about it."""
    low: float
    high: float
    log: bool
    whole: bool

    def allows(self, value: Scalar) -> bool:
        """Return whether ``value`` lies within the declared limits."""
        return not isinstance(value, str | bool) and self.low <= value <= self.high and (not self.whole or value == int(value))

    def rounded(self, value: float) -> float | int:
        """Return the nearest allowed number that is short enough to be worth writing down."""
        if self.whole:
            return int(min(max(round(value), math.ceil(self.low)), math.floor(self.high)))
        return min(max(float(f"{value:.{DIGITS}g}"), float(self.low)), float(self.high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A knob with a list of choices, and the one that it has in a tree."""

    name: str
    value: Scalar
    about: str
    choices: tuple[Scalar, ...]

    def allows(self, value: Scalar) -> bool:
        """Return whether ``value`` is one of the choices."""
        return value in self.choices


Knob = Number | Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One knob with the values that it has before and after an edit."""

    name: str
    before: Scalar
    after: Scalar

    def __str__(self) -> str:
        return f"{self.name} {literal(self.before)} -> {literal(self.after)}"


def read(tree: RecipeTree) -> tuple[Knob, ...]:
    """Return the knobs of a tree that can be edited, in the order of the file.

    Raises:
        UntrustedInputError: ``RUN-IMPORT`` when the configuration cannot be read at all.
    """
    lines = _text(tree).split("\n")
    places, found = _places(lines), list[Knob]()
    for name, table in _parse(tree).items():
        place = places.get(name)
        if place is not None and isinstance(table, dict):
            knob = _knob(name, table, _about(lines, place.header))
            if knob is not None:
                found.append(knob)
    return tuple(found)


def edit(tree: RecipeTree, values: Mapping[str, Scalar]) -> RecipeTree | None:
    """Return ``tree`` with new values of knobs and not another byte changed; None when the text does not allow it."""
    lines = _text(tree).split("\n")
    wanted, places = _parse(tree), _places(lines)
    for name, value in values.items():
        place = places.get(name)
        if place is None or not isinstance(wanted.get(name), dict):
            return None
        lines[place.line] = f"{place.before}{literal(value)}{place.after}"
        wanted[name]["value"] = value
    edited = RecipeTree(files={**tree.files, PATH: "\n".join(lines).encode("utf-8")})
    try:
        same = _parse(edited) == wanted
    except UntrustedInputError:
        return None
    return edited if same else None


def changes(before: RecipeTree, after: RecipeTree) -> tuple[Change, ...]:
    """Return the knobs that both trees declare and that differ in value."""
    old = {knob.name: knob.value for knob in read(before)}
    new = {knob.name: knob.value for knob in read(after)}
    return tuple(Change(name=name, before=old[name], after=value) for name, value in new.items() if name in old and old[name] != value)


def literal(value: Scalar) -> str:
    """Return a value as it is written in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else repr(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a knob's value stands in the text: line numbers, and what is before and after it on its line."""

    header: int
    line: int
    before: str
    after: str


def _text(tree: RecipeTree) -> str:
    data = tree.files.get(PATH)
    if data is None or len(data) > MAX_CONFIG_BYTES:
        raise UntrustedInputError("RUN-IMPORT", f"{PATH} is missing or larger than {MAX_CONFIG_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UntrustedInputError("RUN-IMPORT", f"{PATH} is not UTF-8 text") from error


def _parse(tree: RecipeTree) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(tree))
    except (ValueError, RecursionError) as error:
        raise UntrustedInputError("RUN-IMPORT", f"{PATH} cannot be read: {type(error).__name__}") from error


def _places(lines: list[str]) -> dict[str, _Place]:
    """Return for every table the first line in it that sets a value."""
    places: dict[str, _Place] = {}
    name, header = "", 0
    for number, line in enumerate(lines):
        match = _HEADER.fullmatch(line)
        if match:
            name, header = match[1], number
        elif name and name not in places and (match := _VALUE.fullmatch(line)):
            places[name] = _Place(header=header, line=number, before=match[1], after=match[3])
    return places


def _about(lines: list[str], header: int) -> str:
    """Return the comment above a header, without the blank lines between them."""
    above = header - 1
    while above >= 0 and not lines[above].strip():
        above -= 1
    comment: list[str] = []
    while above >= 0 and lines[above].startswith("#"):
        comment.insert(0, lines[above].lstrip("#").strip())
        above -= 1
    return "".join(character for character in " ".join(comment)[:300] if character.isprintable())


def _knob(name: str, table: dict[str, Any], about: str) -> Knob | None:
    value, choices = table.get("value"), table.get("choices")
    if isinstance(choices, list):
        if 2 <= len(choices) <= MAX_CHOICES and _choosable(value) and all(_choosable(choice) for choice in choices):
            return Choice(name=name, value=value, about=about, choices=tuple(choices))
        return None
    low, high, scale = table.get("low"), table.get("high"), table.get("scale")
    if not _number(value) or not _number(low) or not _number(high) or not low <= value <= high or low == high:
        return None
    if scale not in ("log", "linear") or (scale == "log" and low <= 0):
        return None
    return Number(name=name, value=value, about=about, low=low, high=high, log=scale == "log", whole=table.get("type") == "int")


def _number(value: object) -> TypeGuard[float | int]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) <= MAX_NUMBER


def _choosable(value: object) -> TypeGuard[Scalar]:
    return isinstance(value, bool) or _number(value) or (isinstance(value, str) and _TEXT.fullmatch(value) is not None)
