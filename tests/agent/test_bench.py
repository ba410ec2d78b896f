"""The bench with the real sandbox, the real recipe and real text."""

from ralph.agent.bench import research_seed
from ralph.agent.experiment import Decision
from ralph.agent.loop import Budget, Researcher
from ralph.agent.proposers import Program
from ralph.protocol.patch import RecipeTree
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from tests.agent.conftest import BenchFactory


def test_a_real_run_repeats_bit_for_bit(bench: BenchFactory, genesis: RecipeTree) -> None:
    real = bench(BubblewrapSandbox())
    first = real.run(genesis, 3)
    assert first.val_bpb is not None
    assert 1.0 < first.val_bpb < 8.0
    assert first.worker_cpu_s > 0.1
    assert first.memory_bytes > 10_000_000
    assert real.run(genesis, 3).val_bpb == first.val_bpb


def test_a_real_recipe_that_raises_is_a_run_without_a_value(bench: BenchFactory, genesis: RecipeTree) -> None:
    broken = RecipeTree(files={**genesis.files, "model.py": b"raise RuntimeError('no model today')\n"})
    run = bench(BubblewrapSandbox()).run(broken, 3)
    assert (run.val_bpb, run.code) == (None, "RUN-IMPORT")
    assert "no model today" in run.failure


def test_a_real_experiment_is_made_and_decided(bench: BenchFactory, genesis: RecipeTree, tmp_path) -> None:  # type: ignore[no-untyped-def]
    budget = Budget(experiments=1, climb_runs=1, confirm_runs=1)
    researcher = Researcher(
        program=Program.OPTIMISER, ledger=tmp_path / "ledger.sqlite", bench=bench(BubblewrapSandbox()), seed=2, budget=budget
    )
    researcher.start(genesis)
    experiment = researcher.step()
    assert experiment.decision is Decision.DISCARD
    assert len(experiment.pairs) == 1
    assert experiment.pairs[0].difference is not None
    assert experiment.worker_cpu_s > 0.1
    assert researcher.finished


def test_seeds_of_a_researcher_differ_by_reign_king_and_index() -> None:
    kings = (bytes(32), bytes([1]) * 32)
    seeds = {research_seed(1, reign=reign, king=king, index=index) for reign in range(3) for king in kings for index in range(5)}
    assert len(seeds) == 30
    assert all(0 <= seed < 2**64 for seed in seeds)
