"""The page: self-contained, harmless whatever people wrote, and honest about what was not measured."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ralph_devnet.outcome import Audit, Outcome
from ralph_devnet.report import e, page, write_report
from tests.devnet.material import outcome_of
from tests.devnet.synthetic import HOSTILE, World, two_crowns

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects elements and checks that each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return two_crowns(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def outcome(world: World) -> Outcome:
    return outcome_of(world)


@pytest.fixture(scope="module")
def text(outcome: Outcome, world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    paths = write_report(outcome, store=world.store, directory=tmp_path_factory.mktemp("report"))
    assert paths.page is not None
    return paths.page.read_text(encoding="utf-8")


def test_every_element_of_the_page_is_closed(text: str) -> None:
    assert Page(text).open == []


def test_the_page_loads_and_runs_nothing(text: str) -> None:
    found = Page(text)
    assert {tag for tag, _ in found.elements}.isdisjoint({"script", "img", "link", "iframe", "object", "form", "base", "foreignobject"})
    for _, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on")]
        links = [attributes.get("src"), attributes.get("href"), attributes.get("xlink:href")]
        assert all(link is None or link.startswith("#") for link in links)
    assert "default-src 'none'" in text
    assert not re.search(r"url\((?!#)", text)


def test_what_people_wrote_is_text_and_nothing_else(text: str) -> None:
    assert "<img src=x onerror=alert(1)>" not in text
    assert "<img src=x onerror=alert(1)>" in Page(text).text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_the_page_shows_the_crowned_patch(text: str) -> None:
    assert "-old\n+" in Page(text).text


def test_a_patch_that_cannot_be_fetched_is_left_out(outcome: Outcome, tmp_path: Path) -> None:
    outcome = replace(outcome, experiments=())
    empty = World(path=tmp_path, nodes=(), quality={}).store
    paths = write_report(outcome, store=empty, directory=tmp_path / "report")
    assert paths.page is not None
    assert "<summary>patch</summary>" not in paths.page.read_text(encoding="utf-8")
    assert paths.plot is not None
    assert paths.plot.is_file()


def test_the_page_holds_kings_cheats_rows_experiments_weights_audit_and_machine(text: str) -> None:
    words = Page(text).text
    for part in ("Kings", "Cheats and their honest twins", "Submissions", "Private research", "Who is paid", "Audit", "Machine"):
        assert part in words
    for fact in ("recipe-v1.2.0", "INT-DUP", "FRD-CLAIM", "causal", "Everything that this demo must show was shown.", "AVX512", "54.2%"):
        assert fact in words


def test_the_page_follows_the_theme_and_fits_a_phone(text: str) -> None:
    assert "prefers-color-scheme:dark" in text
    assert 'content="width=device-width' in text.replace("'", '"')
    assert "var(--king)" in text


def test_a_page_stays_small(text: str) -> None:
    assert len(text.encode()) < 150_000


def test_a_failed_demo_says_so_first(outcome: Outcome) -> None:
    words = Page(page(replace(outcome, stopped_because="chain ended", audit=None), picture="<svg></svg>", diffs={})).text
    assert "Not everything that this demo must show was shown." in words
    assert "chain ended" in words
    assert "Was not run." in words


def test_the_page_says_what_the_audit_did_not_look_at(outcome: Outcome) -> None:
    report = {"checks": {"beacon": 44, "log": 16}, "not_checked": [{"level": "L3", "what": "re-training", "why": f"later {HOSTILE}"}]}
    words = Page(page(replace(outcome, audit=Audit(status=0, verdict="reproduced", report=report)), picture="<svg></svg>", diffs={})).text
    assert "60 checks" in words
    assert "re-training" in words


def test_an_unmeasured_value_is_an_empty_cell(outcome: Outcome) -> None:
    row = re.search(
        r"<tr>(?:(?!</tr>).)*INT-DUP(?:(?!</tr>).)*</tr>",
        page(outcome, picture="<svg></svg>", diffs={})[::1].partition("<h2>Submissions")[2],
    )
    assert row is not None
    assert row.group().count("<td class='n'></td>") == 2


def test_a_long_diff_is_cut_and_says_so(outcome: Outcome) -> None:
    diffs = {outcome.kings[1].tree: "\n".join(f"+{index}" for index in range(500))}
    words = Page(page(outcome, picture="<svg></svg>", diffs=diffs)).text
    assert "(300 more lines)" in words


def test_quotes_and_markup_are_escaped() -> None:
    assert e("<a href=\"x\" title='y'>&") == "&lt;a href=&quot;x&quot; title=&#x27;y&#x27;&gt;&amp;"
