"""The command `ralph bench`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ralph.errors import ConfigurationError
from ralph_devnet.bench.ablation import ablation
from ralph_devnet.bench.attacks import attacks
from ralph_devnet.bench.data import data_preparation
from ralph_devnet.bench.demos import demos
from ralph_devnet.bench.evaluate import evaluation
from ralph_devnet.bench.gpu import gpus
from ralph_devnet.bench.host import host_overhead
from ralph_devnet.bench.launch import launches
from ralph_devnet.bench.loop import loop_stages
from ralph_devnet.bench.registry import Benchmark, Context, Figure, machine
from ralph_devnet.bench.scales import scales
from ralph_devnet.bench.scorer import scorer_gain
from ralph_devnet.bench.throughput import training

REGISTRY: dict[str, Benchmark] = {
    "host": host_overhead,
    "launch": launches,
    "loop": loop_stages,
    "scorer": scorer_gain,
    "attacks": attacks,
    "evaluate": evaluation,
    "train": training,
    "scales": scales,
    "ablation": ablation,
    "gpu": gpus,
    "data": data_preparation,
    "demo": demos,
}


def bench(
    names: Annotated[list[str] | None, typer.Argument(help=f"Benchmarks to run: {', '.join(REGISTRY)}. All by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    home: Annotated[Path, typer.Option(help="Where to work.")] = Path(".bench"),
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions of each figure.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Demos to run.")] = 1,
) -> None:
    """Measure this machine: host overhead, seconds per stage, the gain of cheats, data preparation, whole demos."""
    chosen = names or list(REGISTRY)
    unknown = [name for name in chosen if name not in REGISTRY]
    if unknown:
        raise ConfigurationError(f"there is no benchmark {unknown[0]!r}; there are {', '.join(REGISTRY)}")
    console = Console(stderr=True)
    context = Context(
        home=home.absolute(), data=home.absolute() / "data", repeat=repeat, seeds=seeds, say=lambda text: console.print(text, markup=False)
    )
    identity = machine()
    results: dict[str, list[Figure]] = {name: REGISTRY[name](context) for name in chosen}
    when = datetime.now(UTC).date().isoformat()
    if as_json:
        plain = {name: [{key: getattr(figure, key) for key in Figure.__slots__} for figure in figures] for name, figures in results.items()}
        typer.echo(json.dumps({"date": when, "machine": identity, "benchmarks": plain}, indent=2))
        return
    typer.echo(f"{when}  " + ", ".join(f"{key} {value}" for key, value in identity.items()))
    for name, figures in results.items():
        Console().print(_table(name, figures))


def _table(name: str, figures: list[Figure]) -> Table:
    table = Table(title=name, title_justify="left")
    for heading in ("figure", "median", "smallest", "largest", "unit", "goal", "n"):
        table.add_column(heading)
    for figure in figures:
        numbers = [f"{value:.4g}" for value in (figure.median, figure.low, figure.high)]
        table.add_row(figure.name, *numbers, figure.unit, figure.goal, str(figure.repetitions))
    return table
