"""Trainings that are killed and go on: the result must not know."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.data.dataset import DataSet
from ralph.errors import ConfigurationError, CorruptStateError, UntrustedInputError
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import host
from ralph.train.directory import journal_of
from ralph.train.journal import Journal
from ralph.train.plan import plan
from ralph.train.run import RunResult
from ralph.train.segments import Boundary
from ralph.train.transcript import TranscriptWriter
from tests.killing import run_until
from tests.train.material import RECIPE, RUNG, job, with_code

PLAN = plan(RECIPE, RUNG)
IDENTITY = {"seed": "7"}


@pytest.fixture(scope="module")
def undisturbed(data: DataSet, sandbox: BubblewrapSandbox) -> RunResult:
    return host.train(job(), sandbox=sandbox, data=data)


def killed_at(directory: Path, data: DataSet, step: int | None) -> list[int]:
    """Run until ``step`` is reported and send SIGKILL; None runs to the end. Return the steps that were made."""
    stop = None if step is None else lambda lines: int(lines[-1]) == step
    return [int(line) for line in run_until([sys.executable, "-m", "tests.train.killable", directory, data.directory], stop)]


def test_a_run_killed_before_within_and_after_its_segments_ends_in_the_same_bytes(
    tmp_path: Path, data: DataSet, undisturbed: RunResult
) -> None:
    directory = tmp_path / "run"
    made = [killed_at(directory, data, step) for step in (1, 3, 5, 6, None)]
    assert PLAN.boundaries == (0, 2, 4, 6)
    assert made == [[1], [1, 2, 3], [3, 4, 5], [5, 6], []]
    summary = json.loads((directory / "summary.json").read_bytes())
    assert summary == {"weights": undisturbed.weights_digest.hex(), "run": IDENTITY}
    assert hashlib.sha256((directory / "weights.safetensors").read_bytes()).digest() == undisturbed.weights_digest
    assert (directory / "transcript").read_bytes() == undisturbed.transcript
    assert sorted(path.name for path in directory.iterdir()) == ["summary.json", "transcript", "weights.safetensors"]


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A journal up to step 2, made by hand: nothing here is trained."""
    journal = Journal(tmp_path / "run", IDENTITY)
    state = b"state of step 2"
    writer = TranscriptWriter(seed=7, plan=PLAN, start_step=0, start_state=bytes(32))
    for step in (1, 2):
        boundary = hashlib.sha256(state).digest() if step == 2 else None
        writer.append(step=step, loss=bytes(8), gradient_norm=bytes(8), boundary=boundary)
    journal.keep(Boundary(step=2, digest=hashlib.sha256(state).digest(), data=state))
    journal.advance(writer, [10, 20])
    return journal.directory


def test_a_journal_gives_back_what_it_was_given(interrupted: Path) -> None:
    past = Journal(interrupted, IDENTITY).past(PLAN)
    assert (past.boundary.step, past.boundary.data, past.microseconds) == (2, b"state of step 2", (10, 20))
    assert past.writer.losses == [0.0, 0.0]


def test_a_kill_between_state_and_journal_leaves_the_boundary_before(interrupted: Path) -> None:
    journal = Journal(interrupted, IDENTITY)
    journal.keep(Boundary(step=4, digest=bytes(32), data=b"newer"))
    (interrupted / ".4.state.new").write_bytes(b"torn")
    assert journal.past(PLAN).boundary.step == 2


def test_another_run_is_never_continued(interrupted: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds a run with seed 7, this one has 8"):
        Journal(interrupted, {"seed": "8"}).past(PLAN)


def drop_state(run: Path) -> None:
    (run / "2.state").unlink()


def cut_journal(run: Path) -> None:
    (run / "journal").write_bytes((run / "journal").read_bytes()[:-1])


def change_entry(run: Path) -> None:
    data = (run / "journal").read_bytes()
    at = data.rindex(hashlib.sha256(b"state of step 2").digest())
    (run / "journal").write_bytes(data[:at] + b"?" + data[at + 1 :])


@pytest.mark.parametrize("damage", [drop_state, cut_journal, change_entry])
def test_a_damaged_journal_stops_with_the_way_out(interrupted: Path, damage: Callable[[Path], None]) -> None:
    damage(interrupted)
    with pytest.raises(CorruptStateError, match=r"is damaged .* move .* away"):
        Journal(interrupted, IDENTITY).past(PLAN)


def test_a_state_with_other_bytes_is_refused_before_it_is_loaded(interrupted: Path, data: DataSet, sandbox: BubblewrapSandbox) -> None:
    (interrupted / "2.state").write_bytes(b"state of step 3")
    with pytest.raises(UntrustedInputError) as caught:
        host.train(job(), sandbox=sandbox, data=data, journal=Journal(interrupted, IDENTITY))
    assert caught.value.code == "FRD-SEGMENT"


def test_a_recipe_that_loads_something_else_than_its_state_is_not_continued(
    tmp_path: Path, data: DataSet, sandbox: BubblewrapSandbox
) -> None:
    recipe = with_code(tmp_path / "recipe", "Trainer.load = lambda self, state: None")
    directory = tmp_path / "run"

    def stop(report: object) -> None:
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.train(job(recipe), sandbox=sandbox, data=data, on_step=stop, journal=Journal(directory, IDENTITY))
    with pytest.raises(UntrustedInputError, match="came back changed") as caught:
        host.train(job(recipe), sandbox=sandbox, data=data, journal=Journal(directory, IDENTITY))
    assert caught.value.code == "RUN-SHAPE"


def test_an_unfinished_run_is_neither_forgotten_nor_invented(interrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="continue it with --resume"):
        journal_of(interrupted, IDENTITY, resume=False)
    assert journal_of(interrupted, IDENTITY, resume=True).exists
    with pytest.raises(ConfigurationError, match="no unfinished run"):
        journal_of(tmp_path / "nothing", IDENTITY, resume=True)


def test_a_finished_run_is_replaced_by_itself_only(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"weights": "00", "run": IDENTITY}), encoding="utf-8")
    assert not journal_of(tmp_path, IDENTITY, resume=False).exists
    with pytest.raises(ConfigurationError, match="does not hold this run"):
        journal_of(tmp_path, {"seed": "8"}, resume=False)


def test_a_run_is_never_written_into_somebody_elses_directory(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not empty"):
        journal_of(tmp_path, IDENTITY, resume=False)
