"""Whatever single value of a Record an operator changes before he signs, the audit diverges: no value is free."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ralph.auditor.report import Verdict
from ralph.errors import UntrustedInputError
from ralph.protocol.record import Record
from tests.auditor.world import World, edited

SAMPLES = 24
Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Yield the place of every leaf, and of every list that has elements."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*at, name))
    elif isinstance(value, list):
        if value:
            yield at
        for index, inner in enumerate(value):
            yield from places(inner, (*at, index))
    elif value is not None:
        yield at


def changed(value: Any) -> Any:
    """Return something close to ``value``."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
        case list():
            return value[:-1]
        case str():
            return number_text(value) or (value[:-1] + ("x" if value[-1:] != "x" else "y"))
    raise TypeError(type(value))


def number_text(text: str) -> str | None:
    try:
        return repr(float(text) + 0.125)
    except ValueError:
        return None


def replaced(value: Any, place: Place) -> Any:
    """Return ``value`` with what stands at ``place`` changed."""
    if not place:
        return changed(value)
    first, rest = place[0], place[1:]
    if isinstance(value, dict):
        return {**value, first: replaced(value[first], rest)}
    return [replaced(inner, rest) if index == first else inner for index, inner in enumerate(value)]


@pytest.fixture(scope="module")
def drafted(honest: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Record]:
    """A world in which everything of round 5 has happened except that its Record is published."""
    world = honest.copy(tmp_path_factory.mktemp("leaves") / "world")
    world.reproduced.clear()
    world.audit()
    world.trees["bob"] = edited(world.trees["alice"], "config/base.toml", "value = 16", "value = 8")
    world.gains[world.trees["bob"].digest()] = 0.9
    return world, world.draft(announce=("bob",))


@pytest.mark.parametrize("sample", range(SAMPLES))
def test_no_value_of_a_record_is_free(drafted: tuple[World, Record], tmp_path: Path, sample: int) -> None:
    world, record = drafted
    everywhere = list(places(record.value()))
    assert len(everywhere) > 4 * SAMPLES
    for place in everywhere[sample * len(everywhere) // SAMPLES :]:
        try:
            forged = Record.from_value(replaced(record.value(), place))
        except UntrustedInputError:
            continue
        own = world.copy(tmp_path / "copy")
        own.publish(forged)
        assert own.audit().verdict is Verdict.DIVERGED, place
        return


def test_the_record_that_was_not_changed_is_reproduced(drafted: tuple[World, Record], tmp_path: Path) -> None:
    world, record = drafted
    own = world.copy(tmp_path / "copy")
    own.publish(record)
    assert own.audit().verdict is Verdict.REPRODUCED
