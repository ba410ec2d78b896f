"""The researcher on a made-up recipe: what it finds, what it refuses to believe, and that it goes on where it was."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ralph.agent import knobs
from ralph.agent.experiment import Decision, Experiment, Kind
from ralph.agent.ledger import Ledger
from ralph.agent.loop import Budget, Researcher
from ralph.agent.proposers import Program
from ralph.agent.results import write_results
from ralph.data.dataset import DataSet
from ralph.errors import ConfigurationError, CorruptStateError, InfrastructureError
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import Rules
from ralph.repository.apply import apply_patch
from tests.agent.conftest import BenchFactory, hill, make_bench
from tests.agent.simulator import SimulatedSandbox, Values, noise

Make = Callable[..., Researcher]
EXPERIMENTS = 9
BRANCH = {'position "learned" -> "rope"', 'optimizer "adamw" -> "muon"'}


@pytest.fixture
def make(bench: BenchFactory, tmp_path: Path) -> Make:
    def researcher(
        sandbox: SimulatedSandbox | None = None,
        *,
        program: Program = Program.GRAMMAR,
        seed: int = 1,
        experiments: int = EXPERIMENTS,
        name: str = "ledger",
    ) -> Researcher:
        chosen = bench(sandbox or SimulatedSandbox(level=hill))
        budget = Budget(experiments=experiments)
        return Researcher(program=program, ledger=tmp_path / f"{name}.sqlite", bench=chosen, seed=seed, budget=budget)

    return researcher


@pytest.fixture(scope="session")
def whole(data: DataSet, rules: Rules, genesis: RecipeTree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger of a researcher that ran through without a break."""
    root = tmp_path_factory.mktemp("whole")
    chosen = make_bench(SimulatedSandbox(level=hill), data, rules, root / "scratch")
    researcher = Researcher(
        program=Program.GRAMMAR, ledger=root / "ledger.sqlite", bench=chosen, seed=1, budget=Budget(experiments=EXPERIMENTS)
    )
    researcher.start(genesis)
    finish(researcher).close()
    return root / "ledger.sqlite"


@pytest.fixture
def finished(make: Make, whole: Path, tmp_path: Path) -> Researcher:
    """A researcher that has nothing left to do on the genesis."""
    shutil.copy(whole, tmp_path / "finished.sqlite")
    return make(name="finished")


def finish(researcher: Researcher) -> Researcher:
    while not researcher.finished:
        researcher.step()
    return researcher


def work(researcher: Researcher, king: RecipeTree, *, experiments: int) -> None:
    """Start and go on until so many experiments are made, the baseline included."""
    researcher.start(king)
    while len(researcher.experiments()) < experiments:
        researcher.step()


def runs(experiments: tuple[Experiment, ...]) -> set[tuple[bytes, int]]:
    return {(tree, pair.seed) for experiment in experiments for pair in experiment.pairs for tree in (experiment.tree, experiment.parent)}


def story(researcher: Researcher) -> list[str]:
    return [experiment.to_json() for experiment in researcher.experiments()]


def nothing(values: Values, seed: int) -> float:
    """A recipe in which no knob does anything but shake the runs."""
    return 5.0 + 0.1 * noise(seed) + 0.1 * noise(seed, sorted(values.items(), key=str))


def edited(tree: RecipeTree, **values: knobs.Scalar) -> RecipeTree:
    found = knobs.edit(tree, values)
    assert found is not None
    return found


def test_research_ends_in_a_candidate_whose_patch_makes_its_tree(
    finished: Researcher, genesis: RecipeTree, rules: Rules, tmp_path: Path
) -> None:
    found = finished.candidate()
    assert found is not None
    assert found.gain_bpb > 3 * found.standard_error_bpb
    assert apply_patch(tmp_path, genesis, found.patch, rules.patch).digest() == found.tree.digest() == finished.head.digest()
    assert found.hypothesis.predicted_low_bpb < found.gain_bpb < found.hypothesis.predicted_high_bpb
    assert found.experiments == len(finished.experiments())


def test_the_optimiser_finds_the_slope(make: Make, genesis: RecipeTree) -> None:
    researcher = make(program=Program.OPTIMISER, experiments=12)
    researcher.start(genesis)
    assert finish(researcher).candidate() is not None
    assert "learning_rate" in {change.name for change in knobs.changes(genesis, researcher.head)}


def test_kept_edits_stack_on_the_head(finished: Researcher, genesis: RecipeTree) -> None:
    kept = [e for e in finished.experiments() if e.kind is Kind.PROPOSAL and e.decision is Decision.KEEP]
    assert len(kept) == 2
    assert [experiment.parent for experiment in kept] == [genesis.digest(), kept[0].tree]
    assert {change.name for change in knobs.changes(genesis, finished.head)} == {"position", "optimizer"}


def test_the_baseline_comes_first_and_is_the_noise_band(finished: Researcher, genesis: RecipeTree) -> None:
    first = finished.experiments()[0]
    assert (first.kind, first.tree, len(first.pairs)) == (Kind.BASELINE, genesis.digest(), 5)
    assert finished.progress.band.runs == 5


def test_where_nothing_helps_nothing_is_a_candidate(make: Make, genesis: RecipeTree) -> None:
    researcher = make(SimulatedSandbox(level=nothing), experiments=6)
    researcher.start(genesis)
    assert finish(researcher).candidate() is None
    assert researcher.head.digest() == genesis.digest()


def test_the_candidate_rests_on_seeds_that_no_decision_has_seen(finished: Researcher) -> None:
    *earlier, last = finished.experiments()
    decided = {pair.seed for experiment in earlier if experiment.kind is Kind.PROPOSAL for pair in experiment.pairs}
    confirmed = {pair.seed for pair in last.pairs}
    assert last.kind is Kind.CONFIRM
    assert len(confirmed) == 2
    assert not decided & confirmed


def test_the_budget_counts_proposals_and_can_be_extended(finished: Researcher) -> None:
    with pytest.raises(ConfigurationError, match="are spent"):
        finished.step()
    finished.extend(2)
    assert not finished.finished
    finish(finished)
    assert sum(experiment.kind is Kind.PROPOSAL for experiment in finished.experiments()) == EXPERIMENTS + 2


def test_a_second_process_goes_on_with_the_same_experiment(make: Make, finished: Researcher, genesis: RecipeTree) -> None:
    for _ in range(4):
        part = make(name="parts")
        part.start(genesis)
        part.step()
        part.close()
    assert story(finish(make(name="parts"))) == story(finished)


def test_a_killed_process_leaves_a_ledger_from_which_research_goes_on(
    make: Make, finished: Researcher, data: DataSet, tmp_path: Path
) -> None:
    arguments = [str(data.directory), str(tmp_path / "killed.sqlite"), str(tmp_path / "scratch"), str(EXPERIMENTS)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-m", "tests.agent.child", *arguments], cwd=root, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert [int(child.stdout.readline()) for _ in range(3)] == [1, 2, 3]
        child.kill()
    again = make(name="killed")
    assert len(again.experiments()) < len(finished.experiments())
    made = [(e.number, e.tree, e.decision, e.reason, e.pairs) for e in finish(again).experiments()]
    assert made == [(e.number, e.tree, e.decision, e.reason, e.pairs) for e in finished.experiments()]


@pytest.mark.parametrize("launch", [2, 5, 9])
def test_a_failure_of_ours_in_the_middle_of_anything_costs_that_one_run(
    make: Make, finished: Researcher, genesis: RecipeTree, launch: int
) -> None:
    sandbox = SimulatedSandbox(level=hill, fails_at=launch)
    broken = make(sandbox, name="broken")
    with pytest.raises(InfrastructureError):
        work(broken, genesis, experiments=8)
    broken.close()
    again = make(sandbox, name="broken")
    work(again, genesis, experiments=8)
    made = finished.experiments()[:8]
    assert [(e.tree, e.decision, e.pairs) for e in again.experiments()] == [(e.tree, e.decision, e.pairs) for e in made]
    assert sandbox.launches == len(runs(made)) + 1


def test_no_run_is_made_twice(make: Make, genesis: RecipeTree) -> None:
    sandbox = SimulatedSandbox(level=hill)
    researcher = make(sandbox)
    work(researcher, genesis, experiments=5)
    assert sandbox.launches == len(runs(researcher.experiments()))


def test_a_crash_is_recorded_with_its_log_and_discarded(make: Make, genesis: RecipeTree) -> None:
    researcher = make(
        SimulatedSandbox(level=lambda values, seed: None if values != _values(genesis) else hill(values, seed)), experiments=1
    )
    researcher.start(genesis)
    experiment = researcher.step()
    assert experiment.decision is Decision.CRASH
    assert experiment.reason == "RUN-NAN: FloatingPointError: loss is nan"
    assert "printed by the recipe" in experiment.log_tail
    assert len(experiment.pairs) == 1
    assert researcher.head.digest() == genesis.digest()
    assert researcher.candidate() is None


def test_a_king_that_does_not_run_is_said_so(make: Make, genesis: RecipeTree) -> None:
    with pytest.raises(ConfigurationError, match="the king fails on 5 of 5 private seeds: RUN-NAN"):
        make(SimulatedSandbox(level=lambda values, seed: None)).start(genesis)


def test_a_step_before_the_start_is_refused(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="no king yet"):
        make().step()


def test_a_new_king_gets_the_old_branch_first_and_it_is_a_candidate_again(finished: Researcher, genesis: RecipeTree) -> None:
    king = edited(genesis, learning_rate=0.005)
    finished.start(king)
    assert finished.candidate() is None
    assert not finished.finished
    experiment = finished.step()
    assert (experiment.kind, experiment.decision, len(experiment.pairs)) == (Kind.REBASE, Decision.KEEP, 2)
    found = finished.candidate()
    assert found is not None
    assert {str(change) for change in knobs.changes(genesis, found.tree)} == {*BRANCH, "learning_rate 0.0025 -> 0.005"}


def test_a_branch_survives_a_king_that_fell_before_it_was_tested(finished: Researcher, genesis: RecipeTree) -> None:
    finished.start(edited(genesis, beta2=0.92))
    king = edited(genesis, learning_rate=0.005)
    finished.start(king)
    assert finished.step().kind is Kind.REBASE
    assert {str(change) for change in knobs.changes(king, finished.head)} == BRANCH


def test_without_a_budget_for_proposals_a_carried_branch_is_still_tested(make: Make, finished: Researcher, genesis: RecipeTree) -> None:
    finished.close()
    frugal = make(name="finished", experiments=0)
    frugal.start(edited(genesis, learning_rate=0.005))
    assert not frugal.finished
    assert finish(frugal).candidate() is not None


def test_a_branch_that_conflicts_with_the_new_king_is_applied_knob_by_knob(finished: Researcher, genesis: RecipeTree) -> None:
    config = genesis.files[knobs.PATH].replace(b'[position]\nvalue = "learned"\n', b'[position]\n# learned or rope\nvalue = "learned"\n')
    king = edited(RecipeTree(files={**genesis.files, knobs.PATH: config}), learning_rate=0.005)
    finished.start(king)
    finished.step()
    assert {str(change) for change in knobs.changes(king, finished.head)} == BRANCH


def test_ones_own_branch_on_the_throne_is_not_tested_against_itself(finished: Researcher) -> None:
    finished.start(finished.head)
    assert finished.step().kind is Kind.PROPOSAL


def test_a_branch_that_does_not_help_the_new_king_is_dropped(make: Make, finished: Researcher, genesis: RecipeTree) -> None:
    def spoiled(values: Values, seed: int) -> float:
        return 3.0 + 0.01 * noise(seed, values["position"], values["optimizer"])

    finished.close()
    king = edited(genesis, beta2=0.92)
    researcher = make(SimulatedSandbox(level=spoiled), name="finished")
    researcher.start(king)
    assert researcher.step().decision is Decision.DISCARD
    assert researcher.head.digest() == king.digest()


def test_two_kings_and_two_researchers_have_different_seeds(make: Make, genesis: RecipeTree) -> None:
    seen: list[int] = []
    for name, seed in (("one", 1), ("two", 2)):
        researcher = make(seed=seed, name=name)
        researcher.start(genesis)
        researcher.start(edited(genesis, beta2=0.92))
        seen += [pair.seed for experiment in researcher.experiments() for pair in experiment.pairs]
    assert len(set(seen)) == len(seen) == 20


def test_results_are_a_table_with_the_familiar_columns(finished: Researcher, genesis: RecipeTree, tmp_path: Path) -> None:
    experiments = finished.experiments()
    write_results(tmp_path / "out" / "results.tsv", experiments)
    header, *lines = [line.split("\t") for line in (tmp_path / "out" / "results.tsv").read_text().splitlines()]
    assert header == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert len(lines) == len(experiments)
    assert all(len(line) == 5 and line[3] in ("keep", "discard", "crash") for line in lines)
    assert lines[0][:4] == [genesis.digest().hex()[:12], f"{experiments[0].val_bpb:.6f}", "0.2", "keep"]


def test_a_damaged_ledger_stops_research(make: Make, tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(CorruptStateError):
        make()


def test_a_tree_whose_files_were_changed_in_the_ledger_is_found_out(make: Make, genesis: RecipeTree, tmp_path: Path) -> None:
    make().start(genesis)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection, connection:
        files = connection.execute("SELECT files FROM tree").fetchone()[0]
        connection.execute("UPDATE tree SET files = ?", (files.replace(b"0.0025", b"0.0050"),))
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    with pytest.raises(CorruptStateError, match="other files"):
        ledger.tree(genesis.digest())


def _values(tree: RecipeTree) -> Values:
    return {knob.name: knob.value for knob in knobs.read(tree)}
