"""What a benchmark is, and the names of all of them."""

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ralph.train.environment import cpu_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured quantity with its spread over repetitions."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    repetitions: int
    goal: str = ""

    @classmethod
    def of(cls, name: str, unit: str, values: Sequence[float], *, goal: str = "") -> "Figure":
        """Summarise repetitions: median, smallest and largest."""
        return cls(
            name=name, unit=unit, median=statistics.median(values), low=min(values), high=max(values), repetitions=len(values), goal=goal
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where a benchmark works and how much it repeats."""

    home: Path
    data: Path
    repeat: int
    seeds: int
    say: Callable[[str], None]


class Benchmark(Protocol):
    """A named benchmark."""

    def __call__(self, context: Context) -> list[Figure]: ...


def machine() -> dict[str, str | int]:
    """Return what the figures were measured on."""
    with Path("/proc/meminfo").open(encoding="ascii") as file:
        memory_kib = int(file.readline().split()[1])
    return {
        "processor": cpu_model(),
        "cores": os.cpu_count() or 0,
        "memory_mib": memory_kib // 1024,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": ", ".join(f"{value:.2f}" for value in os.getloadavg()),
    }
