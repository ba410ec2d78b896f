"""What the documentation says exists, exists."""

import re
import runpy
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from ralph.cli.main import app
from ralph.protocol.reasons import EXPLANATIONS, Reason

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "recipe").rglob("*.md")])
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
EVERYTHING = "\n".join([*TEXTS.values(), *(explanation.next_step for explanation in EXPLANATIONS.values())])
MAKEFILE = (ROOT / "Makefile").read_text()


def code(text: str) -> list[str]:
    """Return the lines of code blocks and the code spans of a page."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line.strip() for line in [*"\n".join(blocks).splitlines(), *spans]]


def command_lines(program: str) -> list[str]:
    return sorted({line.partition("#")[0].strip() for line in code(EVERYTHING) if re.match(rf"(\.venv/bin/)?{program} [a-z]", line)})


def resolve(line: str) -> TyperCommand | TyperGroup:
    """Walk the command tree along the words of a command line; fail at a word that is neither command nor argument."""
    command = typer.main.get_command(app)
    for word in line.split()[1:]:
        if not isinstance(command, TyperGroup):
            break
        assert word in command.commands, f"`{line}`: {command.name} has no command {word!r}, only {sorted(command.commands)}"
        command = command.commands[word]
    return command


@pytest.mark.parametrize("line", command_lines("make"))
def test_every_make_target_in_the_documentation_exists(line: str) -> None:
    assert re.search(rf"^{line.split()[1]}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("line", [*command_lines("ralph"), *sorted(set(re.findall(r"\$\(BIN\)/(ralph \w+)", MAKEFILE)))])
def test_every_ralph_command_in_the_documentation_and_the_makefile_exists(line: str) -> None:
    command = resolve(line)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in line.split() if word.startswith("--")} <= known | {"--help"}


def test_a_command_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(AssertionError, match="has no command 'nothing'"):
        resolve("ralph nothing")


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_resolves(name: str) -> None:
    folder = (ROOT / name).parent
    prose = re.sub(r"^```.*?^```", "", TEXTS[name], flags=re.MULTILINE | re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if not target.startswith("https://")]
    assert [target for target in targets if not (folder / target.partition("#")[0]).exists()] == []


@pytest.mark.parametrize(("script", "page"), [("generate_reasons.py", "REASONS.md"), ("generate_rules.py", "RULES.md")])
def test_a_generated_page_is_what_its_script_writes(script: str, page: str) -> None:
    written = runpy.run_path(str(ROOT / "scripts" / script))["page"]()
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == written, "run `make docs`"


def test_every_reason_code_in_the_documentation_exists() -> None:
    named = set(re.findall(r"\b(?:INT|RUN|FRD|STA|OPS|ATT)-[A-Z]+\b", EVERYTHING))
    assert named - {str(reason) for reason in Reason} == set()


def test_every_package_has_a_row_in_the_architecture() -> None:
    packages = {f"ralph.{path.parent.name}" for path in (ROOT / "ralph").glob("*/__init__.py")}
    assert {package for package in packages if f"`{package}`" not in TEXTS["docs/ARCHITECTURE.md"]} == set()


def test_every_test_named_as_a_guard_against_a_threat_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXTS["docs/THREATS.md"])
    assert named
    for path, test in named:
        text = (ROOT / path).read_text()
        assert not test or f"def {test}(" in text, f"{path} has no {test}"


def test_every_known_threat_has_a_row() -> None:
    rows = re.findall(r"^\| T(\d+) \|", TEXTS["docs/THREATS.md"], re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 50))


@pytest.mark.parametrize("name", TEXTS)
def test_every_path_in_a_code_span_exists(name: str) -> None:
    spans = [
        span for span in code(TEXTS[name]) if re.fullmatch(r"(ralph|ralph_devnet|recipe|tests|scripts|docs|neurons)(/[\w.-]+)*/?", span)
    ]
    wanted = [span for span in spans if "/" in span]
    absent = [span for span in wanted if not ((ROOT / span).exists() or span == "ralph/_recipe")]
    assert absent == []
