"""The ablation changes what it says, one piece at a time."""

import tomllib

import pytest

from ralph.protocol.patch import RecipeTree
from ralph.repository.genesis import CONFIG, genesis_recipe, variant
from ralph_devnet.bench.ablation import REFINES, WITH, WITHOUT, base_of, changed, interval, trials
from ralph_devnet.bench.scales import vertex

GENESIS = genesis_recipe()
STRONG = variant(GENESIS, "strong")


def settings(tree: RecipeTree) -> dict[str, object]:
    tables = tomllib.loads(tree.files["pieces.toml"].decode()) | tomllib.loads(tree.files[CONFIG].decode())
    return {name: table["value"] for name, table in tables.items()}


def test_every_trial_differs_from_the_strong_configuration_in_its_own_knobs_only() -> None:
    found = trials(STRONG, GENESIS)
    wanted = {f"without {piece}": set(names) for piece, names in WITHOUT.items()}
    wanted |= {f"with {piece}": set(values) for piece, values in WITH.items()}
    assert found.keys() == wanted.keys()
    for label, tree in found.items():
        before, after = settings(STRONG), settings(tree)
        differing = {name for name in before | after if before.get(name) != after.get(name)}
        assert differing, label
        assert differing <= wanted[label], label
        assert {path for path in tree.files if tree.files[path] != STRONG.files[path]} == {CONFIG}


def test_a_knob_that_is_left_out_is_declared() -> None:
    tree = changed(GENESIS, {"lambdas": "on", "warmdown": 0.3})
    assert (settings(tree)["lambdas"], settings(tree)["warmdown"]) == ("on", 0.3)


def test_an_interval_of_one_value_is_endless() -> None:
    assert interval("x", [1.0]).high == float("inf")
    assert interval("x", [1.0, 2.0, 3.0]).low == pytest.approx(2.0 - 4.3027 / 3**0.5, abs=1e-3)


@pytest.mark.parametrize("lowest", [1.2, 2.0, 2.9])
def test_the_best_factor_is_where_a_parabola_is_lowest(lowest: float) -> None:
    assert vertex([(place - lowest) ** 2 + 5 for place in (1, 2, 3)]) == pytest.approx(lowest)


def test_the_best_factor_of_what_has_no_lowest_point_is_an_end() -> None:
    assert (vertex([1.0, 2.0, 2.5]), vertex([3.0, 2.9, 1.0])) == (1.0, 3.0)


@pytest.mark.parametrize(("piece", "base"), REFINES.items())
def test_a_piece_that_refines_another_switches_it_on_too(piece: str, base: str) -> None:
    assert WITH[base].items() <= WITH[piece].items()
    assert base_of(f"with {piece}") == f"with {base}"
