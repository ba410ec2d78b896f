"""Ranks that train together in one real sandbox: the same training as one process, and one end for all of them."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from ralph.data.dataset import DataSet
from ralph.data.order import TrainingOrder
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.interfaces import SandboxedWorker, SandboxSpec
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import host
from ralph.train.directory import identity
from ralph.train.journal import Journal
from ralph.train.run import RunJob, RunResult, StepReport
from ralph.train.segments import Boundary, MemoryStates
from tests.sandbox.processes import alive
from tests.train.material import RECIPE, RUNG, SEED, STEPS, job, with_code

TOLERANCE_NATS = 1e-5
"""Two halves of a batch are summed in another order than the whole: 2e-6 at most is measured over these six steps in float32."""
IN_RANK = """
import os, signal
_step = Trainer.step

def step(self, tokens):
    if self.count == 2 and torch.distributed.get_rank() == {rank}:
        {action}
    return _step(self, tokens)

Trainer.step = step
"""


def together(ranks: int, recipe: Path = RECIPE, *, reply_timeout_s: float = 60.0) -> RunJob:
    """Return a run of ``recipe`` by ``ranks`` ranks."""
    alone = job(recipe, reply_timeout_s=reply_timeout_s)
    return replace(alone, limits=replace(alone.limits, ranks=ranks))


@dataclass
class Watched:
    """A sandbox that remembers which processes it had at every step."""

    inner: BubblewrapSandbox
    name: str = "watched"
    launched: list[SandboxedWorker] = field(default_factory=list)
    processes: tuple[int, ...] = ()

    @contextmanager
    def launch(self, spec: SandboxSpec) -> Iterator[SandboxedWorker]:
        with self.inner.launch(spec) as worker:
            self.launched.append(worker)
            yield worker

    def note(self, report: StepReport) -> None:
        self.processes = self.launched[-1].processes()


@dataclass(frozen=True, kw_only=True)
class Finished:
    one: RunResult
    two: RunResult
    again: RunResult
    four: RunResult
    resumed: RunResult
    states: tuple[Boundary, ...]


@pytest.fixture(scope="module")
def finished(data: DataSet, sandbox: BubblewrapSandbox) -> Finished:
    states = MemoryStates()
    two = host.train(together(2), sandbox=sandbox, data=data, states=states)
    with ThreadPoolExecutor(2) as pool:
        again = pool.submit(host.train, together(2), sandbox=sandbox, data=data)
        one = pool.submit(host.train, together(1), sandbox=sandbox, data=data)
        four = pool.submit(host.train, together(4), sandbox=sandbox, data=data)
        resumed = pool.submit(host.train, together(2), sandbox=sandbox, data=data, resume=states.boundaries[1])
        return Finished(
            one=one.result(),
            two=two,
            again=again.result(),
            four=four.result(),
            resumed=resumed.result(),
            states=tuple(states.boundaries),
        )


def test_two_ranks_make_the_training_of_one_within_rounding_at_every_step(finished: Finished) -> None:
    assert len(finished.two.losses) == STEPS
    assert np.abs(np.subtract(finished.two.losses, finished.one.losses)).max() < TOLERANCE_NATS
    assert np.abs(np.subtract(finished.four.losses, finished.one.losses)).max() < TOLERANCE_NATS
    assert np.allclose(finished.two.gradient_norms, finished.one.gradient_norms, rtol=1e-4)
    assert finished.two.parameters == finished.one.parameters


def test_each_of_two_ranks_trains_on_its_own_half(finished: Finished) -> None:
    assert finished.two.weights_digest != finished.one.weights_digest


def test_two_ranks_repeat_bit_for_bit(finished: Finished) -> None:
    assert finished.again.transcript_root == finished.two.transcript_root
    assert finished.again.segments_root == finished.two.segments_root
    assert finished.again.weights == finished.two.weights


def test_two_ranks_resumed_from_a_boundary_end_in_the_same_bytes(finished: Finished) -> None:
    assert finished.states[1].step == 2
    assert finished.resumed.weights == finished.two.weights
    assert finished.resumed.segments == finished.two.segments[1:]
    assert finished.resumed.losses == finished.two.losses[2:]


def test_the_tokens_served_are_those_of_the_order_for_any_number_of_ranks_and_for_a_resumed_run(finished: Finished, data: DataSet) -> None:
    fixed = finished.one.plan
    order = TrainingOrder(data, seed=SEED, stages=fixed.stages, mixture=dict(fixed.mixture))
    expected = hashlib.sha256(b"".join(order.batch(step).astype("<i4").tobytes() for step in range(fixed.steps))).digest()
    results = (finished.one, finished.two, finished.four, finished.resumed)
    assert {result.served_digest for result in results} == {expected}


def refused(recipe: Path, sandbox: Watched, data: DataSet, *, reply_timeout_s: float = 60.0) -> UntrustedInputError:
    """Train with two ranks and return why the run ended; nothing of it is left."""
    with pytest.raises(UntrustedInputError) as refusal:
        host.train(together(2, recipe, reply_timeout_s=reply_timeout_s), sandbox=sandbox, data=data, on_step=sandbox.note)
    assert len(sandbox.processes) >= 4  # the launcher, the first process inside and two ranks
    assert not alive(sandbox.processes)
    return refusal.value


def test_what_one_rank_raises_is_reported_as_it_was_raised(tmp_path: Path, sandbox: BubblewrapSandbox, data: DataSet) -> None:
    code = IN_RANK.format(rank=1, action="raise FloatingPointError('only here')")
    error = refused(with_code(tmp_path / "recipe", code), Watched(sandbox), data)
    assert error.code == "RUN-NAN"
    assert error.detail.endswith("FloatingPointError: only here")


@pytest.mark.parametrize(("rank", "how"), [(1, "rank 1 was ended by signal 9"), (0, "the worker was ended by signal 9")])
def test_a_rank_that_is_killed_ends_the_run(rank: int, how: str, tmp_path: Path, sandbox: BubblewrapSandbox, data: DataSet) -> None:
    code = IN_RANK.format(rank=rank, action="os.kill(os.getpid(), signal.SIGKILL)")
    error = refused(with_code(tmp_path / "recipe", code), Watched(sandbox), data)
    assert (error.code, error.detail) == ("RUN-CRASH", how)


def test_a_rank_that_hangs_ends_the_run_at_the_hosts_deadline(tmp_path: Path, sandbox: BubblewrapSandbox, data: DataSet) -> None:
    code = IN_RANK.format(rank=1, action="signal.pause()")
    assert refused(with_code(tmp_path / "recipe", code), Watched(sandbox), data, reply_timeout_s=6.0).code == "RUN-STALL"


def test_rows_that_ranks_cannot_share_equally_are_refused_before_anything_starts(sandbox: BubblewrapSandbox, data: DataSet) -> None:
    watched = Watched(sandbox)
    with pytest.raises(ConfigurationError) as refusal:
        host.train(together(3), sandbox=watched, data=data)
    assert refusal.value.code == "OPS-CONFIG"
    assert "a batch has 16 rows, which 3 ranks cannot share equally" in refusal.value.detail
    assert watched.launched == []


def test_a_run_is_not_continued_by_another_number_of_ranks(tmp_path: Path, sandbox: BubblewrapSandbox, data: DataSet) -> None:
    def journal(ranks: int) -> Journal:
        return Journal(tmp_path / "run", identity(tree=bytes(32), rung=RUNG, seed=SEED, data=bytes(32), ranks=ranks))

    def stop(report: StepReport) -> None:
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.train(job(), sandbox=sandbox, data=data, on_step=stop, journal=journal(1))
    with pytest.raises(ConfigurationError) as refusal:
        host.train(together(2), sandbox=sandbox, data=data, journal=journal(2))
    assert "holds a run with ranks 1, this one has 2" in refusal.value.detail
