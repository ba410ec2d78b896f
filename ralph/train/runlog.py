"""What a run leaves behind while it goes on: its transcript, how long its steps took, and what a person sees of it.

Steps are checked before they are logged: a loss that is not finite, or that explodes, ends the run.
"""

import math
import time
from typing import NamedTuple

from ralph.errors import UntrustedInputError
from ralph.protocol.rules import Rung
from ralph.train.plan import Plan
from ralph.train.run import StepReport
from ralph.train.transcript import TranscriptWriter, float_of


class Made(NamedTuple):
    """A step that was answered: its numbers as bits, and when its batch went out and the answer came."""

    step: int
    loss: bytes
    gradient_norm: bytes
    begun_ns: int
    answered_ns: int


class RunLog:
    """Both streams of a run: the transcript without clocks, and the timing."""

    def __init__(self, plan: Plan, rung: Rung, writer: TranscriptWriter, microseconds: list[int], flops_per_token: int) -> None:
        self._plan, self._most = plan, rung.max_loss_nats
        self.writer, self.microseconds, self.flops_per_token = writer, microseconds, flops_per_token
        self._first = max(writer.boundaries)
        self._last = (self._first, math.nan, math.nan)

    def check(self, made: Made) -> None:
        """Raise UntrustedInputError ``RUN-NAN`` for numbers that end a run."""
        step, loss_nats, gradient_norm = made.step, float_of(made.loss), float_of(made.gradient_norm)
        if not math.isfinite(loss_nats) or not math.isfinite(gradient_norm):
            raise UntrustedInputError("RUN-NAN", f"step {step}: loss {loss_nats}, gradient norm {gradient_norm}")
        if loss_nats > self._most:
            raise UntrustedInputError("RUN-NAN", f"step {step}: loss {loss_nats:.1f} nats, the rung ends a run above {self._most:.1f}")
        self._last = (step, loss_nats, gradient_norm)

    def add(self, made: Made, boundary: bytes | None) -> None:
        """Add a step that was checked; its time ends with its state where there is one."""
        self.writer.append(step=made.step, loss=made.loss, gradient_norm=made.gradient_norm, boundary=boundary)
        ended_ns = made.answered_ns if boundary is None else time.perf_counter_ns()
        self.microseconds.append((ended_ns - made.begun_ns) // 1000)

    def report(self, *, wall_s: float) -> StepReport:
        """Describe the last step."""
        step, loss_nats, gradient_norm = self._last
        return StepReport(
            step=step,
            steps=self._plan.steps,
            tokens=self._plan.tokens_after(step),
            steps_now=step - self._first,
            tokens_now=self._plan.tokens_after(step) - self._plan.tokens_after(self._first),
            loss_nats=loss_nats,
            gradient_norm=gradient_norm,
            flops_per_token=self.flops_per_token,
            wall_s=wall_s,
        )
