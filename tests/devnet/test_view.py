"""What a terminal shows: the state of the network in words, and nothing of others that could steer it."""

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from ralph_devnet.facts import kings
from ralph_devnet.outcome import Paths
from ralph_devnet.view import Lines, king_table, render, summary
from ralph_devnet.words import Names, count, duration, gain, level, safe, sentence
from tests.devnet.material import observation_of, outcome_of, scene_of, tried
from tests.devnet.synthetic import HOSTILE, World, two_crowns

CONTROL = {chr(code) for code in (*range(9), *range(11, 32), 127, *range(128, 160), 0x202E, 0x2066)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return two_crowns(tmp_path_factory.mktemp("world"))


def shown(what: RenderableType, *, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False, color_system=None, legacy_windows=False).print(what)
    return out.getvalue()


def test_the_view_shows_round_phase_block_and_who_is_waited_for(world: World) -> None:
    text = shown(render(observation_of(world), scene_of(world)))
    assert "round 1 of at most 30" in text
    assert "prove" in shown(render(observation_of(world, block=55), scene_of(world)))
    assert "block 60 (19 of 40)" in text
    assert "waiting for ada" in text
    assert "1:15" in text


@pytest.mark.parametrize(
    ("block", "phase"),
    [
        (41, "announce"),
        (48, "announce"),
        (49, "beacon B1"),
        (52, "prove"),
        (59, "beacon B2"),
        (62, "measure"),
        (73, "decide, record, pay"),
        (80, "decide, record, pay"),
    ],
)
def test_a_phase_lasts_until_the_block_that_ends_it(world: World, block: int, phase: str) -> None:
    assert observation_of(world, block=block).phase == phase


def test_the_view_shows_the_lineage_with_measured_levels(world: World) -> None:
    text = shown(king_table(kings(world.history.entries, world.names)))
    lines = [line for line in text.splitlines() if "recipe-v1" in line]
    assert [line.split()[1] for line in lines] == ["bea", "ada", "genesis"]
    assert "2.87" in lines[2]
    assert "+" not in lines[2]


def test_pending_announcements_come_before_recorded_rows(world: World) -> None:
    text = shown(render(observation_of(world), scene_of(world)))
    assert text.index("• announced") < text.index("• delivered") < text.index("★ crowned") < text.index("✗ refused")


def test_a_refusal_is_explained_in_words(world: World) -> None:
    assert "The same change was announced by somebody before." in shown(render(observation_of(world), scene_of(world)), width=140)


def test_private_research_counts_ideas_and_not_baselines(world: World) -> None:
    text = shown(render(observation_of(world), scene_of(world)))
    ada = next(line for line in text.splitlines() if line.startswith("ada"))
    assert ada.split()[:5] == ["ada", "2", "1", "1", "+0.0100"]


@pytest.mark.parametrize("height", [10, 24, 30, 50])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_view_fits_the_screen(world: World, height: int, width: int) -> None:
    lines = shown(render(observation_of(world), scene_of(world), height=height), width=width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) <= max(height, 26)


def test_foreign_text_can_neither_steer_the_terminal_nor_be_markup(world: World) -> None:
    everything = shown(render(observation_of(world), scene_of(world)), width=400) + shown(summary(outcome_of(world)), width=400)
    assert not CONTROL & set(everything)
    assert "[bold red]" in everything


def test_an_empty_network_renders(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = World(path=tmp_path_factory.mktemp("empty"), nodes=("ada", "bea"), quality={"genesis": 2.8})
    text = shown(render(replace(observation_of(world), pending=(), tried=(), waiting=()), scene_of(world)))
    assert "its first runs are being measured" in text
    assert "none yet" in text
    assert "0.0000" not in text


def test_the_summary_lists_kings_cheats_claims_and_paths(world: World) -> None:
    outcome = outcome_of(world)
    text = shown(
        summary(replace(outcome, paths=Paths(home=outcome.paths.home, logs=outcome.paths.logs, page=outcome.paths.home / "p.html")))
    )
    assert "recipe-v1.2.0" in text
    assert "INT-DUP" in text
    assert "ada: crowned" in text
    assert "all of it" in text
    assert "/demo/p.html" in text


def test_the_summary_of_a_stopped_demo_says_what_stopped_it(world: World) -> None:
    text = shown(summary(replace(outcome_of(world), stopped_because="validator ended (exit status 1): disk full")))
    assert "Stopped: validator ended (exit status 1): disk full" in text
    assert "not all of it was shown" in text


def test_plain_lines_tell_everything_once(world: World) -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out, width=80, color_system=None))
    seen, scene = observation_of(world), scene_of(world)
    lines.show(replace(seen, entries=seen.entries[:3], tried=seen.tried[:2]), scene)
    lines.show(seen, scene)
    lines.show(replace(seen, tried=(*seen.tried[:3], tried("ada", 3, "discard", change="late"), *seen.tried[3:])), scene)
    text = out.getvalue()
    rounds = len(seen.entries)
    assert [text.count(f"round {index} is recorded") for index in range(rounds)] == [1] * rounds
    assert text.count(" tried: ") == len(seen.tried) + 1
    assert text.count("late") == 1
    assert not CONTROL & set(text)


def test_plain_lines_show_a_sign_of_life_after_silence(world: World) -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out, width=80, color_system=None), quiet_s=30.0)
    empty = replace(observation_of(world), entries=(), tried=())
    for second in (1.0, 29.0, 30.0, 31.0):
        lines.show(empty, scene_of(world, elapsed_s=second))
    assert out.getvalue().count("waiting for") == 1


def test_foreign_text_is_one_printable_line_within_its_limit() -> None:
    assert safe("a\nb\tc\x00\x1b[31m") == "a b c··[31m"
    assert safe("\u202eabc\u2066") == "·abc·"
    assert len(safe(HOSTILE * 100, 50)) == 50
    assert safe("x" * 10**7, 20).endswith("…")


def test_an_unknown_hotkey_is_shown_by_its_beginning_and_the_genesis_by_its_name() -> None:
    names = Names(by_hotkey={"5Abc": "ada"})
    assert names.of("5Abc") == "ada"
    assert names.of("") == "genesis"
    assert names.of("5Zzzzzzzzzzzzzzz") == "5Zzzzzz…"


def test_numbers_that_were_not_measured_are_no_text() -> None:
    assert gain(None) == level(None) == ""
    assert gain(0.05, 0.01) == "+0.0500 ± 0.0100"
    assert level(2.5) == "2.5000"
    assert duration(125.9) == "2:05"
    assert (count(1, "run"), count(2, "run")) == ("1 run", "2 runs")
    assert sentence("NEW-CODE\x1b") == "NEW-CODE·"
