"""The host of a training run: it owns the data, the plan, the counts, the clock and the log; the worker only computes.

Steps of a run (``TrainingRun.train``):
1. the plan is fixed from the recipe's configuration and the rung's budget, before anything starts;
2. the worker says hello, is seeded and builds the recipe;
3. the state at step 0 is committed, then one batch after the other is served in the order fixed by the seed, to one process or
   in equal blocks of rows to several ranks;
4. the state is committed at every boundary of the plan, and every step is an entry of the transcript; a journal, where there is
   one, then holds all that a new process needs to go on;
5. the weights are received, counted and checked to be finite.

Batches are made, and steps are written down, while the worker computes: it waits for a check of two numbers and for one send.

Everything but clocks and CPU seconds in the result repeats bit for bit on the same stack.
"""

import hashlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from ralph.data.dataset import DataSet
from ralph.data.order import TrainingOrder
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.interfaces import Sandbox, SandboxedWorker, SandboxSpec
from ralph.protocol.canonical import envelope
from ralph.protocol.rules import Rung
from ralph.sandbox import gpu
from ralph.train import budget, finite, safetensors, segments, wire
from ralph.train.channel import Parts, WorkerChannel, pack_batch
from ralph.train.journal import Journal, Past
from ralph.train.plan import Plan, plan
from ralph.train.run import RunJob, RunResult, StepReport
from ralph.train.runlog import Made, RunLog
from ralph.train.safetensors_header import TensorLimits
from ralph.train.segments import Boundary, StateSink
from ralph.train.transcript import TranscriptWriter

TIMING_TAG = "recipe-net/timing/v1"
STATE_COPIES = 6
"""A training state may hold this many numbers per allowed parameter: weights, moments, averages."""
STATE_EXTRA = 1 << 20
"""Numbers a state may hold beside those: counters, states of generators."""
BATCHES_AHEAD = 32
"""Batches that are made in one go."""
IN_FLIGHT: Mapping[str, int] = {"cpu": 1, "cuda": 2}
"""Device -> batches that the worker may have at a time: a GPU is given the next step before it has finished one."""

logger = logging.getLogger(__name__)


def weight_limits(rung: Rung) -> TensorLimits:
    """Return the limits of a weights file at ``rung``."""
    return TensorLimits(numbers=rung.max_parameters, size_bytes=8 * rung.max_parameters)


def state_limits(rung: Rung) -> TensorLimits:
    """Return the limits of a training state at ``rung``."""
    numbers = STATE_COPIES * rung.max_parameters + STATE_EXTRA
    return TensorLimits(numbers=numbers, size_bytes=8 * numbers)


def fixed_plan(job: RunJob) -> Plan:
    """Return what a job will do.

    Raises:
        UntrustedInputError: ``RUN-BUDGET`` or ``RUN-IMPORT``.
        ConfigurationError: A rung or a number of ranks that this job cannot run with.
    """
    gpu.require(job.limits.gpus)
    fixed = plan(job.recipe, job.rung)
    for stage in fixed.stages:
        if stage.batch_rows % job.limits.ranks:
            detail = f"a batch has {stage.batch_rows} rows, which {job.limits.ranks} ranks cannot share equally"
            raise ConfigurationError(f"{detail}; choose a number of ranks that divides it")
    return fixed


@contextmanager
def start(job: RunJob, *, sandbox: Sandbox, data: DataSet) -> Iterator["TrainingRun"]:
    """Fix the plan and start the worker; the sandbox ends with the context.

    Raises:
        UntrustedInputError: ``RUN-BUDGET`` or ``RUN-IMPORT`` before anything starts.
    """
    fixed = fixed_plan(job)
    if job.vocabulary != data.vocabulary:
        raise ConfigurationError(f"the job is for {job.vocabulary} token ids, the data has {data.vocabulary}")
    with sandbox.launch(SandboxSpec(recipe=job.recipe, limits=job.limits)) as worker:
        yield TrainingRun(job, fixed, worker, data)


def train(
    job: RunJob,
    *,
    sandbox: Sandbox,
    data: DataSet,
    on_step: Callable[[StepReport], None] | None = None,
    states: StateSink | None = None,
    resume: Boundary | None = None,
    journal: Journal | None = None,
) -> RunResult:
    """Run one training in a sandbox of its own. See ``TrainingRun.train``."""
    with start(job, sandbox=sandbox, data=data) as run:
        return run.train(on_step=on_step, states=states, resume=resume, journal=journal)


class TrainingRun:
    """A worker that trains once and may then be asked for claims on rows."""

    def __init__(self, job: RunJob, fixed: Plan, worker: SandboxedWorker, data: DataSet) -> None:
        self.plan, self.rung = fixed, job.rung
        self._job, self._worker = job, worker
        self._started, self._started_cpu = time.monotonic(), time.thread_time()
        self._waits_ns = self._handed_ns = 0
        self._served, self._sent, self._ahead = hashlib.sha256(), 0, deque[Parts]()
        self.channel = WorkerChannel(worker, deadline_s=job.limits.timeout_s, reply_timeout_s=job.reply_timeout_s)
        self._order = TrainingOrder(data, seed=job.seed, stages=fixed.stages, mixture=dict(fixed.mixture), packing=fixed.packing)

    def train(
        self,
        *,
        on_step: Callable[[StepReport], None] | None = None,
        states: StateSink | None = None,
        resume: Boundary | None = None,
        until: int | None = None,
        journal: Journal | None = None,
    ) -> RunResult:
        """Run the plan, or the stretch of it from ``resume`` to the step ``until``.

        Args:
            on_step: Called after every step.
            states: Takes the training state of every boundary, the first one included.
            resume: A committed state to continue from instead of step 0. The transcript then begins there.
            until: Last step to run; None runs the plan to its end.
            journal: Continues what an earlier process began, as if there had been only one, and takes the states too.

        Raises:
            UntrustedInputError: The recipe's fault, with its reason code.
            InfrastructureError: Ours.
        """
        past = journal.past(self.plan) if journal is not None else None
        resume, sinks = (past.boundary if past else resume), tuple(sink for sink in (journal, states) if sink is not None)
        first, last = (resume.step if resume else 0), (self.plan.steps if until is None else until)
        if not 0 <= first <= last <= self.plan.steps or (first == last and past is None):
            raise ConfigurationError(f"cannot run from step {first} to {last} of {self.plan.steps}")
        self._replay(first)
        self._sent = first
        hello = self.channel.hello()
        built = self.channel.setup(self._setup_header())
        budget.check_parameters(built.parameters, self.rung)
        if resume is not None:
            self.channel.load(resume.tensors(state_limits(self._job.rung)))
        log = self._log(first, past, self._commit(first, sinks), built.flops_per_token)
        started, boundaries = time.monotonic(), frozenset(self.plan.boundaries)
        for made in self._steps(first, last, boundaries, log):
            boundary = self._commit(made.step, sinks) if made.step in boundaries else None
            log.add(made, boundary)
            if boundary is not None and journal is not None:
                journal.advance(log.writer, log.microseconds)
            if on_step is not None:
                on_step(log.report(wall_s=time.monotonic() - started))
        return self._result(log, hello, built.depth)

    def _steps(self, first: int, last: int, boundaries: frozenset[int], log: RunLog) -> Iterator[Made]:
        """Yield every step, checked; where no state is due, when the worker is busy with the next one."""
        begun_ns, owed, answered_ns = deque[int](), None, 0
        for step in range(first + 1, last + 1):
            self._hand_out(step, last, boundaries, begun_ns, answered_ns)
            if owed is not None:
                yield owed
            self._make_ahead(last)
            loss, norm = self.channel.stepped(step)
            before_ns, answered_ns = answered_ns, time.perf_counter_ns()
            owed = Made(step, loss, norm, max(begun_ns.popleft(), before_ns), answered_ns)
            log.check(owed)
            if step in boundaries or step == last:
                yield owed
                owed = None

    def _hand_out(self, step: int, last: int, boundaries: frozenset[int], begun_ns: "deque[int]", answered_ns: int) -> None:
        """Send the batch of ``step``, and further ones up to the next boundary while the worker may have more."""
        most = min(step + IN_FLIGHT[self.rung.device] - 1, last)
        while self._sent < step or (self._sent < most and self._sent not in boundaries):
            self._make_ahead(self._sent + 1)
            begun_ns.append(time.perf_counter_ns())
            self.channel.send_batch(self._ahead.popleft())
            self._sent += 1
            if self._sent == step and answered_ns:
                self._waits_ns += time.perf_counter_ns() - answered_ns - self._handed_ns
        self._handed_ns = 0

    def _make_ahead(self, last: int) -> None:
        """Make frames of the next batches, many in one go, when there is none at hand."""
        if self._ahead or self._sent >= last:
            return
        count = min(BATCHES_AHEAD, last - self._sent)
        for step, batch in enumerate(self._order.batches(self._sent, count), start=self._sent + 1):
            self._served.update(_little_endian(batch))
            self._ahead.append(pack_batch(step, batch))

    def claim(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Return the claimed losses float64[R, T] of rows int32[R, T+1] under the model as it is now."""
        return self.channel.claim(tokens)

    def _replay(self, steps: int) -> None:
        """Count what an earlier process served up to a step."""
        for batch in self._order.batches(0, steps):
            self._served.update(_little_endian(batch))

    def _setup_header(self) -> dict[str, str | int]:
        return {
            "mode": "train",
            "width": self._job.rung.width,
            "sequence": self.plan.sequence,
            "vocabulary": self._job.vocabulary,
            "batch_rows": self.plan.batch_rows,
            "steps": self.plan.steps,
            "threads": self._job.limits.threads,
            "seed": self._job.seed,
            "ranks": self._job.limits.ranks,
            "device": self._job.rung.device,
        }

    def _log(self, first: int, past: Past | None, state: bytes, flops_per_token: int) -> RunLog:
        if past is None:
            writer = TranscriptWriter(seed=self._job.seed, plan=self.plan, start_step=first, start_state=state)
            return RunLog(self.plan, self.rung, writer, [], flops_per_token)
        if state != past.boundary.digest:
            raise UntrustedInputError("RUN-SHAPE", f"the state of step {first} came back changed after it was loaded")
        return RunLog(self.plan, self.rung, past.writer, list(past.microseconds), flops_per_token)

    def _commit(self, step: int, sinks: tuple[StateSink, ...]) -> bytes:
        asked_ns = time.perf_counter_ns()
        tensors = self.channel.tensors(wire.Kind.STATE, state_limits(self._job.rung))
        self._handed_ns = time.perf_counter_ns() - asked_ns
        return segments.commit(step, tensors, *sinks)

    def _weights(self) -> tuple[bytes, int]:
        tensors = self.channel.tensors(wire.Kind.WEIGHTS, weight_limits(self._job.rung))
        finite.check(tensors)
        return safetensors.dump(tensors), sum(math.prod(tensor.shape) for tensor in tensors)

    def _result(self, log: RunLog, hello: dict[str, str | int], depth: int) -> RunResult:
        asked = time.perf_counter_ns()
        weights, parameters = self._weights()
        log.microseconds[-1] += (time.perf_counter_ns() - asked) // 1000
        peak = self._worker.peak_memory_bytes()
        budget.check_memory(peak, self.rung)
        timing = envelope(TIMING_TAG, log.microseconds)
        losses, boundaries = log.writer.losses, log.writer.boundaries
        tail = losses[-max(1, len(losses) // 10) :]
        return RunResult(
            plan=self.plan,
            seed=self._job.seed,
            transcript=log.writer.to_bytes(),
            transcript_root=log.writer.root,
            timing=timing,
            timing_digest=hashlib.sha256(timing).digest(),
            segments=tuple(boundaries.values()),
            segments_root=segments.root(tuple(boundaries), tuple(boundaries.values())),
            served_digest=self._served.digest(),
            weights=weights,
            weights_digest=hashlib.sha256(weights).digest(),
            parameters=parameters,
            flops_per_token=log.flops_per_token,
            depth=depth,
            final_loss_nats=sum(tail) / len(tail),
            losses=tuple(losses),
            gradient_norms=tuple(log.writer.gradient_norms),
            worker_cpu_s=self._worker.cpu_seconds(),
            host_cpu_s=time.thread_time() - self._started_cpu + self._worker.supervision_cpu_seconds(),
            wall_s=time.monotonic() - self._started,
            training_s=budget.training_seconds(log.microseconds),
            worker_waits_s=self._waits_ns / 1e9,
            peak_memory_bytes=peak,
            hello=hello,
        )


def _little_endian(batch: npt.NDArray[np.int32]) -> memoryview:
    """Return a batch as the bytes of its int32 numbers, little-endian and row by row."""
    return np.ascontiguousarray(batch, dtype="<i4").reshape(-1).view(np.uint8).data
