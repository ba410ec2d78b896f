"""Fix what a run will do before its first step: steps x rows x tokens, within the rung's budget.

The host runs exactly the plan, and no clock ends a training, so a run repeats. Only three kinds of values come from the
recipe's configuration: ``batch_rows`` and the mixture's weights. The recipe is hostile text here; it is read, never executed.
"""

import math
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ralph.errors import UntrustedInputError
from ralph.protocol.rules import Rung

CONFIG = Path("config") / "base.toml"
MAX_CONFIG_BYTES = 64 * 1024
MIXTURE_PREFIX = "mixture_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run does, fixed before step 1."""

    steps: int
    batch_rows: int
    sequence: int
    tokens: int
    """Trained tokens in total: steps x batch_rows x sequence."""
    segments: int
    mixture: tuple[tuple[str, float], ...]
    """(source, weight) sorted by source; relative weights."""

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Return the steps after which the training state is committed: 0, the ends of the segments, the last step."""
        return tuple(sorted({self.steps * index // self.segments for index in range(self.segments + 1)}))


def plan(recipe: Path, rung: Rung) -> Plan:
    """Return the plan of a materialised recipe at ``rung``.

    Raises:
        UntrustedInputError: ``RUN-IMPORT`` when the configuration cannot be read, ``RUN-BUDGET`` when not one step fits.
    """
    knobs = _knobs(recipe)
    batch_rows = _value(knobs, "batch_rows")
    if type(batch_rows) is not int or batch_rows < 1:
        raise UntrustedInputError("RUN-BUDGET", f"batch_rows is {str(batch_rows)[:40]!r}, it must be a whole number of at least 1")
    batch_rows *= rung.batch_factor
    step_tokens = batch_rows * rung.sequence
    steps = min(rung.max_steps, rung.tokens // step_tokens)
    if steps < 1:
        detail = f"one step of {batch_rows} rows x {rung.sequence} tokens is {step_tokens} tokens, rung {rung.name} allows {rung.tokens}"
        raise UntrustedInputError("RUN-BUDGET", detail)
    return Plan(
        steps=steps,
        batch_rows=batch_rows,
        sequence=rung.sequence,
        tokens=steps * step_tokens,
        segments=max(1, min(rung.segments, steps)),
        mixture=_mixture(knobs),
    )


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


def _mixture(knobs: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    mixture: list[tuple[str, float]] = []
    for name in sorted(knobs):
        if name.startswith(MIXTURE_PREFIX):
            weight = _value(knobs, name)
            if type(weight) not in (int, float) or not 0 <= weight <= 1e6 or not math.isfinite(weight):
                raise UntrustedInputError("RUN-BUDGET", f"{name[:40]} is {str(weight)[:40]!r}, a weight is a number from 0 to 1e6")
            mixture.append((name.removeprefix(MIXTURE_PREFIX), float(weight)))
    if not sum(weight for _, weight in mixture) > 0:
        raise UntrustedInputError("RUN-BUDGET", "no source of the mixture has a weight above 0")
    return tuple(mixture)
