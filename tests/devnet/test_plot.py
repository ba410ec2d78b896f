"""The picture: deterministic, themed, and drawn from measured values only."""

from dataclasses import fields, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ralph_devnet import plot
from ralph_devnet.outcome import Outcome
from tests.devnet.material import outcome_of, tried
from tests.devnet.synthetic import HOSTILE, World, two_crowns


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return outcome_of(two_crowns(tmp_path_factory.mktemp("world")))


@pytest.fixture(scope="module")
def picture(outcome: Outcome) -> str:
    return plot.svg(outcome, label='a "label" & more')


def test_the_png_is_a_picture(outcome: Outcome, tmp_path: Path) -> None:
    plot.png(outcome, tmp_path / "lineage.png")
    data = (tmp_path / "lineage.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == 1300


def test_the_svg_is_one_element_with_a_label(picture: str) -> None:
    root = ET.fromstring(picture)  # noqa: S314 - our own output
    assert root.tag.endswith("svg")
    assert root.get("aria-label") == 'a "label" & more'
    assert picture.startswith("<svg ")


def test_the_svg_takes_its_colours_from_the_page(picture: str) -> None:
    assert "#0000" not in picture
    used = {field.name for field in fields(plot.Palette) if f"var(--{field.name})" in picture}
    assert {"ink", "muted", "grid", "king", "better", "dropped", "refused", "first", "second"} <= used


def test_the_svg_is_the_same_for_the_same_outcome(outcome: Outcome, picture: str) -> None:
    assert plot.svg(outcome, label='a "label" & more') == picture


def test_the_picture_names_kings_and_refusals(picture: str) -> None:
    for text in ("recipe-v1.0.0 by genesis", "recipe-v1.1.0 by ada", "recipe-v1.2.0 by bea", "proof runs", "INT-DUP", "FRD-CLAIM"):
        assert text in picture


def test_an_outcome_without_a_single_measurement_still_has_a_picture(outcome: Outcome) -> None:
    empty = replace(outcome, rounds=0, kings=(), submissions=(), experiments=(tried("ada", 1, "crash", gain=None),))
    picture = plot.svg(empty, label="empty")
    assert "nobody" in picture
    assert "1 without a value" in picture


def test_foreign_names_are_neither_markup_nor_formulas(outcome: Outcome) -> None:
    rows = tuple(replace(row, name=HOSTILE, reason="$\\frac{a}{b}$") for row in outcome.submissions)
    picture = plot.svg(replace(outcome, submissions=rows), label="x")
    ET.fromstring(picture)  # noqa: S314 - our own output
    assert "<img" not in picture


def test_a_king_whose_values_are_unknown_is_not_drawn(outcome: Outcome) -> None:
    kings = (*outcome.kings[:2], replace(outcome.kings[2], level=None, level_of=None))
    assert "recipe-v1.2.0" not in plot.svg(replace(outcome, kings=kings), label="x")


def test_the_genesis_alone_is_drawn(tmp_path: Path) -> None:
    world = World(path=tmp_path, nodes=("ada",), quality={"genesis": 2.87})
    picture = plot.svg(outcome_of(world.play()), label="x")
    assert "recipe-v1.0.0 by genesis: 2.8" in picture
    assert "(8 runs)" in picture
