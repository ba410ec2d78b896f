"""Non-inferiority: is a challenger, beside the king on the same seeds and the same items, no worse than a margin on a part of the test?

A gain in the mean can hide a loss in one source of text or one task: in its right answers, or in the loss on them. For every such
part the paired differences are resampled over runs and over items together, and the part is safe when the upper end of the one-sided
bootstrap interval of the difference is below the margin. Resampling n runs shows too small a spread by (n - 1)/n, which is put back before.

Not promised: that parts nobody has named are safe, or that an interval over few runs has exactly its level (the tests
say how far off it may be).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ralph.errors import ConfigurationError, CorruptStateError
from ralph.evaluate.draw import words
from ralph.protocol.measurement import GuardRow, Measurement
from ralph.protocol.rules import Rules
from ralph.protocol.scoring_rules import GuardKind, GuardRules

Floats = NDArray[np.float64]

MIN_RUNS = 2
MOST_NAMED = 6
"""Guards that an outcome names: its text has a limit."""
CHUNK_CELLS = 1 << 22
"""Resampled items held at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """What is compared on one part of the test.

    Args:
        kind: What is compared.
        name: Source of text or task.
        difference: float64[R, I], of run r on item i; positive is worse: challenger less king in nats, king less challenger in answers.
        weight: float64[I], what a unit of each item counts: ln 2 times its bytes for nats, 1 for answers.
    """

    kind: GuardKind
    name: str
    difference: Floats
    weight: Floats


def failed(runs: Sequence[Measurement], count: int, rules: Rules) -> tuple[GuardRow, ...]:
    """Return the guards of a contest's last proof run that are not safe.

    Args:
        runs: The contest's measurements of this round, in order, all scored.
        count: All its proof runs so far.
        rules: The margins, and what is guarded.

    Raises:
        CorruptStateError: ``OPS-HOLD``, guards are missing or are about something else.
    """
    last = runs[-1]
    wanted = rules.guards.parts
    if tuple((row.kind, row.name) for row in last.guards) != wanted or any(row.runs != count for row in last.guards):
        detail = f"tree {last.tree.hex()[:16]} has no guards over {[name for _, name in wanted]} and {count} runs"
        raise CorruptStateError(detail, code="OPS-HOLD")
    margins = margins_of(rules)
    return tuple(row for row in last.guards if not row.upper <= margins[row.kind])


def margins_of(rules: Rules) -> dict[GuardKind, float]:
    """Return what may be lost on a part of each kind."""
    return {
        "source": rules.guards.source_margin_sigmas * rules.crown.sigma,
        "answers": rules.exam.answers_margin,
        "gold": rules.exam.gold_margin_bpb,
    }


def named(unsafe: Sequence[GuardRow]) -> str:
    """Say of guards that are not safe, of the first ones at least, what they are about and how bad it may be."""
    more = f", and {len(unsafe) - MOST_NAMED} more" if len(unsafe) > MOST_NAMED else ""
    return ", ".join(_sentence(row) for row in unsafe[:MOST_NAMED]) + more


def _sentence(row: GuardRow) -> str:
    if row.kind == "answers":
        return f"answers to {row.name}, {row.difference:+.4f} of {row.items} lost, at most {row.upper:+.4f} over {row.runs} runs"
    about = f"right answers of {row.name}" if row.kind == "gold" else row.name
    return f"{about} {row.difference:+.4f} bpb, at most {row.upper:+.4f} over {row.runs} runs"


def guard(part: Part, rules: GuardRules, *, key: bytes) -> GuardRow:
    """Return the difference of one part and its upper bound.

    Args:
        part: Paired differences.
        rules: Level and number of resamples.
        key: 32 bytes that fix the resamples.

    Raises:
        ConfigurationError: Fewer than two runs or no items: nothing can be said of their spread.
    """
    runs, items = part.difference.shape
    if runs < MIN_RUNS or items < 1 or part.weight.shape != (items,) or not part.weight.sum() > 0:
        raise ConfigurationError(f"guard of {part.kind} {part.name!r} over {runs} runs and {items} items")
    mean = part.difference.mean(axis=0, keepdims=True)
    widened = mean + np.sqrt(runs / (runs - 1)) * (part.difference - mean)
    subject = f"{part.kind} {part.name}"
    times = _counts(key, f"runs of {subject}", rules.resamples, runs) / runs
    values = np.empty(rules.resamples)
    chunk = max(1, CHUNK_CELLS // items)
    for start in range(0, rules.resamples, chunk):
        stop = min(start + chunk, rules.resamples)
        drawn = _counts(key, f"items of {subject} from {start}", stop - start, items)
        values[start:stop] = np.einsum("bi,bi->b", times[start:stop] @ widened, drawn) / (drawn @ part.weight)
    return GuardRow(
        kind=part.kind,
        name=part.name,
        runs=runs,
        items=items,
        difference=float(part.difference.sum(axis=1).mean() / part.weight.sum()),
        upper=float(np.quantile(values, rules.level)),
    )


def _counts(key: bytes, purpose: str, resamples: int, size: int) -> Floats:
    """Return float64[B, size]: how often each of ``size`` things is drawn in each of B resamples with replacement."""
    drawn = (words(key, purpose, resamples * size) % np.uint64(size)).astype(np.int64).reshape(resamples, size)
    flat = drawn + size * np.arange(resamples)[:, None]
    return np.bincount(flat.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float64)
