"""A researcher in a process of its own, to be killed: prints the number of every experiment it has made."""

import sys
from pathlib import Path

from ralph.agent.loop import Budget, Researcher
from ralph.agent.proposers import Program
from ralph.data.shards import data_manifest, open_data
from ralph.protocol.network import devnet_rules
from ralph.repository.trees import read_tree
from tests.agent.conftest import RECIPE, hill, make_bench
from tests.agent.simulator import SimulatedSandbox


def main(directory: Path, ledger: Path, scratch: Path, experiments: int) -> None:
    manifest, genesis = data_manifest(directory).digest(), read_tree(RECIPE)
    data = open_data(directory, expect=manifest)
    rules = devnet_rules(genesis_tree=genesis.digest(), manifest=manifest, vocabulary=data.vocabulary, hidden=bytes(32), sources=())
    bench = make_bench(SimulatedSandbox(level=hill), data, rules, scratch)
    researcher = Researcher(program=Program.GRAMMAR, ledger=ledger, bench=bench, seed=1, budget=Budget(experiments=experiments))
    researcher.start(genesis)
    while not researcher.finished:
        sys.stdout.write(f"{researcher.step().number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
