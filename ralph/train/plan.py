"""Fix what a run will do before its first step: stages of steps x rows x tokens, within the rung's budget.

The host runs exactly the plan, and no clock ends a training, so a run repeats. What comes from the recipe's configuration:
``batch_rows``, the mixture's weights, and where they are declared ``packing``, ``early_tokens``, ``early_batch`` and
``early_sequence``. The recipe is hostile text here; it is read, never executed.

With ``early_tokens`` above 0 a first stage trains that part of the token budget, on rows of ``early_sequence`` times the rung's
tokens. A step of it has ``early_batch`` times the tokens of a later step: shorter rows are served in proportionally greater number.
"""

import math
import os
import tomllib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from ralph.data.order import PACKINGS, Packing
from ralph.data.stages import Stage, tokens_after
from ralph.errors import UntrustedInputError
from ralph.protocol.rules import Rung

CONFIG = Path("config") / "base.toml"
MAX_CONFIG_BYTES = 64 * 1024
MAX_BATCH_ROWS = 1 << 32
"""No budget is near it; it keeps the numbers in the messages short."""
MIXTURE_PREFIX = "mixture_"
FACTORS = (0.25, 0.5, 1.0)
"""What a batch or a row of the first stage may be, in those of the rung."""

Choice = TypeVar("Choice", Packing, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run does, fixed before step 1."""

    stages: tuple[Stage, ...]
    """The last one is the main one: its rows have the rung's length."""
    segments: int
    mixture: tuple[tuple[str, float], ...]
    """(source, weight) sorted by source; relative weights."""
    packing: Packing = "stream"

    @property
    def steps(self) -> int:
        """Return the steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def batch_rows(self) -> int:
        """Return the rows of a batch in the main stage."""
        return self.stages[-1].batch_rows

    @property
    def sequence(self) -> int:
        """Return the tokens of a row in the main stage."""
        return self.stages[-1].sequence

    @property
    def tokens(self) -> int:
        """Return the trained tokens in total."""
        return self.tokens_after(self.steps)

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Return the steps after which the training state is committed: 0, the ends of the segments, the last step."""
        return tuple(sorted({self.steps * index // self.segments for index in range(self.segments + 1)}))

    def tokens_after(self, step: int) -> int:
        """Return the trained tokens of the first ``step`` steps."""
        return tokens_after(self.stages, step)


def plan(recipe: Path, rung: Rung) -> Plan:
    """Return the plan of a materialised recipe at ``rung``.

    Raises:
        UntrustedInputError: ``RUN-IMPORT`` when the configuration cannot be read, ``RUN-BUDGET`` when a value is none or not one step fits.
    """
    knobs = _knobs(recipe)
    batch_rows = _value(knobs, "batch_rows")
    if type(batch_rows) is not int or not 1 <= batch_rows <= MAX_BATCH_ROWS:
        raise UntrustedInputError("RUN-BUDGET", f"batch_rows is {_shown(batch_rows)}, it must be a whole number from 1 to {MAX_BATCH_ROWS}")
    early = _early(knobs, rung, batch_rows * rung.batch_factor)
    main = _main(rung, batch_rows * rung.batch_factor, early)
    stages = (main,) if early is None else (early, main)
    return Plan(
        stages=stages,
        segments=max(1, min(rung.segments, sum(stage.steps for stage in stages))),
        mixture=_mixture(knobs),
        packing=_choice(knobs, "packing", PACKINGS, left_out="stream"),
    )


def _early(knobs: dict[str, Any], rung: Rung, batch_rows: int) -> Stage | None:
    """Return the first stage, if the configuration asks for one."""
    part = _value(knobs, "early_tokens") if "early_tokens" in knobs else 0
    if type(part) not in (int, float) or not 0 <= part < 1:
        raise UntrustedInputError("RUN-BUDGET", f"early_tokens is {_shown(part)}, it must be a number of at least 0 and below 1")
    batch = Fraction(_choice(knobs, "early_batch", FACTORS, left_out=1.0))
    shorter = Fraction(_choice(knobs, "early_sequence", FACTORS, left_out=1.0))
    if part == 0:
        return None
    sequence, rows = rung.sequence * shorter, int(batch_rows * batch / shorter)
    if sequence.denominator != 1 or rows < 1:
        detail = f"the first stage would have {batch_rows * batch / shorter} rows of {sequence} tokens; it needs a row, and whole tokens"
        raise UntrustedInputError("RUN-BUDGET", detail)
    budget = int(Fraction(part) * rung.tokens)
    steps = budget // (rows * int(sequence))
    if not 1 <= steps < rung.max_steps:
        detail = f"early_tokens of {rung.tokens} tokens are {budget}, {steps} steps of {rows} rows x {sequence} tokens"
        raise UntrustedInputError("RUN-BUDGET", f"{detail}; rung {rung.name} allows 1 to {rung.max_steps - 1} steps before the last stage")
    return Stage(steps=steps, batch_rows=rows, sequence=int(sequence))


def _main(rung: Rung, batch_rows: int, early: Stage | None) -> Stage:
    """Return the last stage: as many steps as the first one leaves room for."""
    made, trained = (early.steps, early.steps * early.step_tokens) if early else (0, 0)
    step_tokens, left = batch_rows * rung.sequence, rung.tokens - trained
    steps = min(rung.max_steps - made, left // step_tokens)
    if steps < 1:
        detail = f"one step of {batch_rows} rows x {rung.sequence} tokens is {step_tokens} tokens, rung {rung.name} allows {rung.tokens}"
        raise UntrustedInputError("RUN-BUDGET", detail + (f", of which the first stage leaves {left}" if early else ""))
    return Stage(steps=steps, batch_rows=batch_rows, sequence=rung.sequence)


def _knobs(recipe: Path) -> dict[str, Any]:
    try:
        descriptor = os.open(recipe / CONFIG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise UntrustedInputError("RUN-IMPORT", f"{CONFIG} is larger than {MAX_CONFIG_BYTES} bytes")
        return tomllib.loads(data.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UntrustedInputError("RUN-IMPORT", f"{CONFIG} cannot be read: {type(error).__name__}") from error


def _value(knobs: dict[str, Any], name: str) -> Any:
    table = knobs.get(name)
    if not isinstance(table, dict) or "value" not in table:
        raise UntrustedInputError("RUN-IMPORT", f"{CONFIG} has no table [{name[:40]}] with a value")
    return table["value"]


def _shown(value: Any) -> str:
    """Return the beginning of a hostile value: an integer written in hexadecimal may be too long for decimal digits."""
    try:
        return repr(str(value)[:40])
    except ValueError:
        return "a number of thousands of digits"


def _choice(knobs: dict[str, Any], name: str, choices: tuple[Choice, ...], *, left_out: Choice) -> Choice:
    """Return the choice of a knob that a configuration may leave out."""
    if name not in knobs:
        return left_out
    value = _value(knobs, name)
    for choice in choices:
        if value == choice and not isinstance(value, bool):
            return choice
    detail = f"{name} is {_shown(value)}, it must be one of {', '.join(map(str, choices))}"
    raise UntrustedInputError("RUN-BUDGET", detail)


def _mixture(knobs: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    mixture: list[tuple[str, float]] = []
    for name in sorted(knobs):
        if name.startswith(MIXTURE_PREFIX):
            weight = _value(knobs, name)
            if type(weight) not in (int, float) or not 0 <= weight <= 1e6 or not math.isfinite(weight):
                raise UntrustedInputError("RUN-BUDGET", f"{name[:40]} is {_shown(weight)}, a weight is a number from 0 to 1e6")
            mixture.append((name.removeprefix(MIXTURE_PREFIX), float(weight)))
    if not sum(weight for _, weight in mixture) > 0:
        raise UntrustedInputError("RUN-BUDGET", "no source of the mixture has a weight above 0")
    return tuple(mixture)
