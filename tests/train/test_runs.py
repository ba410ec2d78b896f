"""Whole runs in real sandboxes: what repeats, what resumes, what the result says."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from ralph.data.dataset import DataSet
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.protocol.canonical import open_envelope
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import host, transcript
from ralph.train.plan import plan
from ralph.train.run import RunResult, StepReport
from ralph.train.segments import Boundary, MemoryStates
from tests.train.material import RECIPE, RUNG, SEED, STEPS, VOCABULARY, job, with_code


@dataclass(frozen=True, kw_only=True)
class Finished:
    result: RunResult
    states: tuple[Boundary, ...]
    reports: tuple[StepReport, ...]
    claims: np.ndarray
    claims_again: np.ndarray
    rows: np.ndarray


@pytest.fixture(scope="module")
def finished(data: DataSet, sandbox: BubblewrapSandbox) -> Finished:
    states, reports = MemoryStates(), []
    rows = data.validation.rows(8, RUNG.sequence).take(np.arange(8))
    with host.start(job(), sandbox=sandbox, data=data) as run:
        result = run.train(on_step=reports.append, states=states)
        claims, again = run.claim(rows), run.claim(rows)
    return Finished(result=result, states=tuple(states.boundaries), reports=tuple(reports), claims=claims, claims_again=again, rows=rows)


@pytest.fixture(scope="module")
def others(finished: Finished, data: DataSet, sandbox: BubblewrapSandbox) -> dict[str, RunResult]:
    """Further runs, each in a sandbox of its own, two at a time."""

    def again(*, seed: int = SEED, threads: int = 1, resume: Boundary | None = None, until: int | None = None) -> RunResult:
        with host.start(job(seed=seed, threads=threads), sandbox=sandbox, data=data) as run:
            return run.train(resume=resume, until=until)

    with ThreadPoolExecutor(2) as pool:
        started = {f"from {index}": pool.submit(again, resume=finished.states[index]) for index in range(3)}
        started["two threads"] = pool.submit(again, threads=2)
        started["other seed"] = pool.submit(again, seed=SEED + 1)
        started["one segment"] = pool.submit(again, resume=finished.states[1], until=finished.states[2].step)
        return {name: future.result() for name, future in started.items()}


def test_the_same_seed_ends_in_the_same_bytes_on_one_thread_and_on_two(finished: Finished, others: dict[str, RunResult]) -> None:
    again = others["two threads"]
    assert (again.hello["threads"], finished.result.hello["threads"]) == (2, 1)
    assert again.transcript_root == finished.result.transcript_root
    assert again.transcript == finished.result.transcript
    assert again.segments_root == finished.result.segments_root
    assert again.weights == finished.result.weights


def test_another_seed_ends_elsewhere(finished: Finished, others: dict[str, RunResult]) -> None:
    other = others["other seed"]
    assert other.transcript_root != finished.result.transcript_root
    assert not set(other.segments) & set(finished.result.segments)
    assert other.weights_digest != finished.result.weights_digest


@pytest.mark.parametrize("index", range(3))
def test_a_fresh_sandbox_resumed_from_a_boundary_ends_in_the_same_bytes(
    index: int, finished: Finished, others: dict[str, RunResult]
) -> None:
    resumed = others[f"from {index}"]
    assert resumed.segments == finished.result.segments[index:]
    assert resumed.weights == finished.result.weights
    assert resumed.losses == finished.result.losses[finished.states[index].step :]


def test_one_segment_can_be_run_alone(finished: Finished, others: dict[str, RunResult]) -> None:
    assert others["one segment"].segments == (finished.states[1].digest, finished.states[2].digest)


def test_a_state_that_is_not_its_digest_is_refused(finished: Finished) -> None:
    forged = Boundary(step=2, digest=finished.states[1].digest, data=finished.states[2].data)
    with pytest.raises(UntrustedInputError) as refusal:
        forged.tensors(host.state_limits(RUNG))
    assert refusal.value.code == "FRD-SEGMENT"


def test_the_transcript_verifies_and_says_what_the_result_says(finished: Finished) -> None:
    summary = transcript.verify(finished.result.transcript, plan(RECIPE, RUNG))
    assert summary.root == finished.result.transcript_root
    assert summary.seed == finished.result.seed
    assert summary.losses == finished.result.losses
    assert summary.gradient_norms == finished.result.gradient_norms
    assert summary.boundaries == finished.result.segments
    assert summary.segments_root == finished.result.segments_root


def test_the_states_that_were_kept_are_those_of_the_plan(finished: Finished) -> None:
    assert tuple(state.step for state in finished.states) == finished.result.plan.boundaries == (0, 2, 4, 6)
    assert tuple(state.digest for state in finished.states) == finished.result.segments
    assert all(hashlib.sha256(state.data).digest() == state.digest for state in finished.states)


def test_the_last_state_holds_the_weights(finished: Finished) -> None:
    weights, state = load(finished.result.weights), load(finished.states[-1].data)
    assert {f"model.{name}" for name in weights} == {name for name in state if name.startswith("model.")}
    assert all(np.array_equal(weights[name], state[f"model.{name}"]) for name in weights)
    assert finished.result.parameters == sum(array.size for array in weights.values())
    assert int(state["step"]) == STEPS


def test_every_step_is_reported_in_order(finished: Finished) -> None:
    assert [report.step for report in finished.reports] == list(range(1, STEPS + 1))
    assert finished.reports[-1].tokens == finished.result.plan.tokens
    assert tuple(report.loss_nats for report in finished.reports) == finished.result.losses


def test_the_trained_worker_claims_a_loss_for_every_token(finished: Finished) -> None:
    assert finished.claims.shape == (8, RUNG.sequence)
    assert finished.claims.dtype == np.float64
    assert abs(finished.claims.mean() - np.log(VOCABULARY)) < 1.0
    assert np.array_equal(finished.claims, finished.claims_again)


def test_costs_are_counted(finished: Finished) -> None:
    assert finished.result.worker_cpu_s > finished.result.host_cpu_s > 0
    assert 0 < finished.result.peak_memory_bytes <= RUNG.max_memory_bytes


def test_a_training_time_is_the_timing_stream_without_its_first_step(finished: Finished) -> None:
    microseconds = open_envelope(host.TIMING_TAG, finished.result.timing, limit=10_000)
    assert len(microseconds) == STEPS
    assert finished.result.training_s == sum(microseconds[1:]) / 1e6
    assert 0 < finished.result.training_s < finished.result.wall_s
    assert 0 < finished.result.worker_waits_s < finished.result.wall_s


def test_work_that_is_put_off_to_a_state_or_to_the_weights_is_part_of_the_training_time(
    tmp_path: Path, data: DataSet, sandbox: BubblewrapSandbox
) -> None:
    late = """
import threading

wait = threading.Event().wait
honest_state, honest_build = Trainer.state, build
Trainer.state = lambda self: (wait(0.2), honest_state(self))[1]


def build(**shape):
    trainer = honest_build(**shape)
    trainer.model.register_state_dict_pre_hook(lambda *_: wait(0.2))
    return trainer
"""
    result = host.train(job(with_code(tmp_path / "recipe", late)), sandbox=sandbox, data=data)
    assert result.plan.boundaries == (0, 2, 4, 6)
    assert result.training_s > 4 * 0.2


def test_a_stretch_outside_the_plan_is_our_mistake(data: DataSet, sandbox: BubblewrapSandbox) -> None:
    with host.start(job(), sandbox=sandbox, data=data) as run, pytest.raises(ConfigurationError):
        run.train(until=STEPS + 1)
