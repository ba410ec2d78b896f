"""How a demo is put together, without running one."""

import json
from pathlib import Path

import pytest

from ralph.cli.main import app
from ralph.cli.setup import Devnet
from ralph_devnet.attackers import CAST
from ralph_devnet.demo import Options, launches
from tests.devnet.synthetic import World


@pytest.fixture
def devnet(tmp_path: Path) -> Devnet:
    world = World(path=tmp_path, nodes=("ada", "bea"), quality={})
    return Devnet(home=tmp_path, profile=world.profile, validator=world.addresses["validator"], hotkeys=world.addresses)


def test_every_node_is_a_process_of_its_own(devnet: Devnet) -> None:
    names = [launch.name for launch in launches(Options(home=devnet.home, seed=1), devnet)]
    assert names == ["chain", "validator", "ada", "bea", *(role.name for role in CAST)]


def test_a_short_demo_has_no_cheats(devnet: Devnet) -> None:
    names = [launch.name for launch in launches(Options(home=devnet.home, seed=1, short=True), devnet)]
    assert names == ["chain", "validator", "ada", "bea"]


def test_the_chains_seed_is_on_no_command_line(devnet: Devnet) -> None:
    chain, *others = launches(Options(home=devnet.home, seed=1), devnet)
    seed = chain.stdin.decode().strip()
    assert len(bytes.fromhex(seed)) == 32
    assert seed not in " ".join(word for launch in (chain, *others) for word in launch.command)
    assert not any(launch.stdin for launch in others)


def test_another_seed_is_another_chain_and_other_research(devnet: Devnet) -> None:
    one, two = (Options(home=devnet.home, seed=seed) for seed in (1, 2))
    assert launches(one, devnet)[0].stdin != launches(two, devnet)[0].stdin
    assert one.honest != two.honest
    assert Options(home=devnet.home, seed=1).honest == one.honest


def test_honest_miners_search_in_two_ways_with_seeds_of_their_own(devnet: Devnet) -> None:
    ada, bea = Options(home=devnet.home, seed=1).honest
    assert (ada.research.program, bea.research.program) == ("optimiser", "grammar")
    assert ada.research.seed != bea.research.seed


def test_a_directory_of_somebody_else_is_a_configuration_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    status = app(["demo", "--home", str(tmp_path), "--json"], standalone_mode=False)
    out = capsys.readouterr()
    assert int(status) == 3
    assert json.loads(out.out)["error"]["code"] == "OPS-CONFIG"
    assert "not a demo's" in out.err
