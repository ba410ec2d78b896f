"""Knobs: reading what a recipe declares, and editing it by hand-sized diffs."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.agent.knobs import PATH, Choice, Knob, Number, changes, edit, read
from ralph.errors import UntrustedInputError
from ralph.protocol.network import LADDER
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import Rules
from ralph.repository.apply import apply_patch, diff, merge
from ralph.repository.trees import materialise
from ralph.train.plan import plan


def tree(config: str) -> RecipeTree:
    return RecipeTree(files={PATH: config.encode()})


def knob(found: RecipeTree, name: str) -> Knob:
    return next(one for one in read(found) if one.name == name)


def test_every_table_of_the_shipped_recipe_is_a_knob(genesis: RecipeTree) -> None:
    headers = [line for line in genesis.files[PATH].decode().splitlines() if line.startswith("[")]
    assert [f"[{one.name}]" for one in read(genesis)] == headers


def test_a_knob_carries_its_range_and_the_comment_above_it(genesis: RecipeTree) -> None:
    found = knob(genesis, "learning_rate")
    assert isinstance(found, Number)
    assert (found.log, found.whole) == (True, False)
    assert found.low < found.value < found.high
    assert found.about.startswith("Peak learning rate")


def test_a_knob_with_choices_carries_all_of_them(genesis: RecipeTree) -> None:
    found = knob(genesis, "position")
    assert isinstance(found, Choice)
    assert found.value in found.choices
    assert len(found.choices) == len(set(found.choices)) > 1


HOSTS = """
# Part of the token budget that is trained in a first stage.

[early_tokens]
value = 0.0
low = 0.0
high = 0.9
scale = "linear"

# Factor on the rung's sequence in it.

[early_sequence]
value = 1.0
choices = [0.25, 0.5, 1.0]

# What a row is.

[packing]
value = "stream"
choices = ["stream", "best_fit"]
"""


def test_the_knobs_that_the_host_reads_are_edited_like_any_other_where_they_are_declared(genesis: RecipeTree, tmp_path: Path) -> None:
    files = {path: data + HOSTS.encode() if path == PATH else data for path, data in genesis.files.items()}
    edited = edit(RecipeTree(files=files), {"early_tokens": 0.4, "early_sequence": 0.25, "packing": "best_fit"})
    assert edited is not None
    assert [str(change) for change in changes(RecipeTree(files=files), edited)] == [
        "early_tokens 0.0 -> 0.4",
        "early_sequence 1.0 -> 0.25",
        'packing "stream" -> "best_fit"',
    ]
    materialise(edited, tmp_path / "recipe")
    fixed = plan(tmp_path / "recipe", LADDER[0])
    assert (fixed.packing, [stage.sequence for stage in fixed.stages]) == ("best_fit", [LADDER[0].sequence // 4, LADDER[0].sequence])


def test_an_edit_changes_one_line_and_only_the_patchable_configuration(genesis: RecipeTree, rules: Rules, tmp_path: Path) -> None:
    edited = edit(genesis, {"learning_rate": 0.0031})
    assert edited is not None
    patch = diff(tmp_path, genesis, edited)
    lines = [line for line in patch.decode().splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert [line[0] for line in lines] == ["-", "+"]
    assert lines[1] == "+value = 0.0031"
    assert apply_patch(tmp_path, genesis, patch, rules.patch).digest() == edited.digest()
    assert [str(change) for change in changes(genesis, edited)] == ["learning_rate 0.0025 -> 0.0031"]


def test_edits_of_neighbouring_knobs_merge(genesis: RecipeTree, tmp_path: Path) -> None:
    names = [one.name for one in read(genesis)]
    first, second = edit(genesis, {"zero_init": "on"}), edit(genesis, {names[names.index("zero_init") + 1]: 0.05})
    assert first is not None
    assert second is not None
    merged = merge(tmp_path, genesis, first, second)
    assert merged is not None
    assert len(changes(genesis, merged)) == 2


def test_comments_spacing_and_line_ends_survive_an_edit() -> None:
    before = tree("# a\r\n[rate]  # the rate\r\n  value =  0.5   # half\r\nlow = 0.1\r\nhigh = 1.0\r\nscale = 'log'\r\n")
    after = edit(before, {"rate": 0.25})
    assert after is not None
    assert after.files[PATH] == before.files[PATH].replace(b"0.5 ", b"0.25 ")


@pytest.mark.parametrize(
    "declaration",
    [
        "low = 1.0\nhigh = 0.1\nscale = 'log'",
        "low = 0.0\nhigh = 1.0\nscale = 'log'",
        "low = 0.1\nhigh = inf\nscale = 'log'",
        "low = 0.1\nhigh = nan\nscale = 'linear'",
        "low = 0.6\nhigh = 1.0\nscale = 'linear'",
        "low = 0.1\nhigh = 1.0\nscale = 'cubic'",
        "low = true\nhigh = 1.0\nscale = 'linear'",
        "choices = [0.5]",
        "choices = [0.5, [1]]",
        "choices = [0.5, '''\n[other]\nvalue = 1''']",
        "",
    ],
)
def test_a_declaration_that_does_not_add_up_is_no_knob(declaration: str) -> None:
    assert read(tree(f"[rate]\nvalue = 0.5\n{declaration}\n")) == ()


@pytest.mark.parametrize(
    "config",
    [
        "rate = {value = 0.5, low = 0.1, high = 1.0, scale = 'log'}\n",
        "[rate]\nlow = 0.1\nhigh = 1.0\nscale = 'log'\nvalue.x = 0.5\n",
        "text = '''\n[rate]\nvalue = 0.5\n'''\n[rate]\nvalue = 0.5\nlow = 0.1\nhigh = 1.0\nscale = 'log'\n",
        "[rate]\nlow = 0.1\nhigh = 1.0\nscale = 'log'\n[rate.sub]\nvalue = 0.5\n",
    ],
)
def test_a_layout_that_hides_the_value_is_refused_and_never_edited_wrongly(config: str) -> None:
    assert edit(tree(config), {"rate": 0.25}) is None


@pytest.mark.parametrize("data", [b"\xff", b"[", b"x = " + b"[" * 40_000, b"#" * 70_000])
def test_a_configuration_that_cannot_be_read_is_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(UntrustedInputError, match="RUN-IMPORT"):
        read(RecipeTree(files={PATH: data}))


def test_ten_thousand_tables_are_read_in_one_pass() -> None:
    config = "".join(f"[t{number}]\n" for number in range(6_000)) + "[rate]\nvalue = 0.5\nlow = 0.1\nhigh = 1.0\nscale = 'log'\n"
    assert [one.name for one in read(tree(config))] == ["rate"]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="[]rate.value= \n#'\"0.5{},ab", max_size=200), st.floats(0.1, 1.0))
def test_an_edit_of_any_text_changes_that_value_or_does_nothing(junk: str, value: float) -> None:
    config = f"[rate]\nvalue = 0.5\nlow = 0.1\nhigh = 1.0\nscale = 'log'\n{junk}"
    try:
        edited = edit(tree(config), {"rate": value})
    except UntrustedInputError:
        return
    if edited is not None:
        assert [(one.name, one.value) for one in read(edited) if one.name == "rate"] == [("rate", value)]


@given(st.floats(1e-6, 1e6))
def test_a_rounded_value_stays_within_the_limits(value: float) -> None:
    for whole in (False, True):
        one = Number(name="n", value=4, about="", low=3.3, high=77.7, log=True, whole=whole)
        assert one.allows(one.rounded(value))
