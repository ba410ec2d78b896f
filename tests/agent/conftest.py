import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.agent.bench import Bench
from ralph.data.corpora import stdlib_documents
from ralph.data.shards import DataSet, open_data, prepare
from ralph.interfaces import Sandbox
from ralph.protocol.network import devnet_rules
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import Rules
from ralph.repository.trees import read_tree
from tests.agent.simulator import Values, noise

RECIPE = Path(__file__).resolve().parents[2] / "recipe"


@pytest.fixture(scope="session")
def genesis() -> RecipeTree:
    return read_tree(RECIPE)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    root = tmp_path_factory.mktemp("agent-data")
    documents = stdlib_documents(Path(sysconfig.get_path("stdlib")) / "email")
    manifest = prepare(root / "data", hidden=root / "hidden", vocabulary=300, documents=documents)
    return open_data(root / "data", expect=manifest.digest())


@pytest.fixture(scope="session")
def rules(data: DataSet, genesis: RecipeTree) -> Rules:
    return devnet_rules(
        genesis_tree=genesis.digest(), manifest=data.manifest.digest(), vocabulary=data.vocabulary, hidden=bytes(32), sources=()
    )


BenchFactory = Callable[[Sandbox], Bench]


def make_bench(sandbox: Sandbox, data: DataSet, rules: Rules, scratch: Path) -> Bench:
    """Return a bench whose runs take two steps of 16 tokens a row."""
    rung = rules.rung("C1").model_copy(update={"sequence": 16, "max_steps": 2, "segments": 1})
    return Bench(sandbox=sandbox, data=data, rules=rules, rung=rung, scratch=scratch, documents=16)


@pytest.fixture
def bench(data: DataSet, rules: Rules, tmp_path: Path) -> BenchFactory:
    return lambda sandbox: make_bench(sandbox, data, rules, tmp_path / "scratch")


def hill(values: Values, seed: int) -> float:
    """A made-up recipe: two numbers and two choices matter, the rest does nothing at all."""
    assert isinstance(values["learning_rate"], float)
    assert isinstance(values["beta1"], float)
    level = 6.0 - 0.3 * min(values["learning_rate"] / 0.0025, 4.0) + 2.0 * values["beta1"]
    level -= 0.25 * (values["position"] == "rope") + 0.25 * (values["optimizer"] == "muon")
    return level + 0.01 * noise(seed) + 0.005 * noise(seed, level)
