"""What a device can do at the shapes of a rung: the denominator of every efficiency that we print.

``product_flops`` is the best rate of any matrix product of the model, forward or backward, at the rung's own shapes and data
type. A figure outside what any known device of its class can do means that the clock or the machine is not what it seems.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ralph.errors import InfrastructureError
from ralph.interfaces import Sandbox, SandboxLimits, SandboxSpec
from ralph.store.files import replace_file
from ralph.train.channel import WorkerChannel

MODULE = "ralph.worker.calibration"
"""What the sandbox imports instead of the training worker."""
RANGES = {
    "cpu": {"product_flops": (1e7, 2e13), "attention_flops": (1e6, 2e13), "copy_bytes": (1e7, 2e12)},
    "cuda": {"product_flops": (1e10, 5e15), "attention_flops": (1e9, 5e15), "copy_bytes": (1e9, 2e13)},
}
"""Class of device -> figure -> (least, most) per second. The fastest server processors of 2026 with matrix units and the fastest
accelerators stay below the upper ends; the lower ends are a single slow core and a small accelerator at tiny shapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What a model multiplies in one step."""

    products: tuple[tuple[int, int, int], ...]
    """(rows, columns, inner) of every matrix product."""
    attention: tuple[int, int, int, int]
    """(batch, heads, tokens, head size)."""

    @classmethod
    def of(cls, *, rows: int, sequence: int, width: int, vocabulary: int, mlp_ratio: int = 4) -> "Shapes":
        """Return the shapes of the genesis recipe with ``rows`` x ``sequence`` tokens in a step, forward and both backward products."""
        tokens, head = rows * sequence, max(16, min(128, width // 4))
        linears = ((width, 3 * width), (width, width), (width, mlp_ratio * width), (mlp_ratio * width, width), (width, vocabulary))
        products = [
            product
            for inputs, outputs in linears
            for product in ((tokens, outputs, inputs), (tokens, inputs, outputs), (outputs, inputs, tokens))
        ]
        return cls(products=tuple(dict.fromkeys(products)), attention=(rows, width // head, sequence, head))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Rates of one device at the shapes of one rung."""

    product_flops: float
    """Of the fastest product, per second."""
    slowest_product_flops: float
    attention_flops: float
    copy_bytes: float


def calibrate(sandbox: Sandbox, shapes: Shapes, limits: SandboxLimits, *, device: str = "cpu", dtype: str = "f32") -> Calibration:
    """Measure in a sandbox of its own, where no recipe has run.

    Args:
        sandbox: A launcher that starts ``MODULE``.
        shapes: What to measure.
        limits: Of the sandbox; the rung's, so that threads and memory are those of a run.
        device: ``cpu`` or ``cuda``.
        dtype: As on the wire.

    Raises:
        InfrastructureError: OPS-NUMERIC, a rate that no known device has.
    """
    header = {
        "threads": limits.threads,
        "device": device,
        "dtype": dtype,
        "products": [list(product) for product in shapes.products],
        "attention": list(shapes.attention),
    }
    with (
        TemporaryDirectory(prefix="ralph-calibration-") as empty,
        sandbox.launch(SandboxSpec(recipe=Path(empty), limits=limits)) as worker,
    ):
        found = WorkerChannel(worker, deadline_s=limits.timeout_s).calibrated(header, products=len(shapes.products))
    products: Sequence[int] = found["product_flops"]
    figures = {"product_flops": max(products), "attention_flops": found["attention_flops"], "copy_bytes": found["copy_bytes"]}
    for name, value in figures.items():
        least, most = RANGES[device][name]
        if not least <= value <= most:
            detail = f"{name} measured at {value:.3g} per second, a {device} is known to have {least:.3g} to {most:.3g}"
            raise InfrastructureError(detail, code="OPS-NUMERIC")
    return Calibration(**{name: float(value) for name, value in figures.items()}, slowest_product_flops=float(min(products)))


def remembered(path: Path, identity: Mapping[str, str], measure: Callable[[], Calibration]) -> Calibration:
    """Return the calibration that ``path`` holds for this machine, or measure it and keep it there."""
    try:
        kept = json.loads(path.read_bytes())
        if kept["identity"] == dict(identity):
            return Calibration(**{name: float(kept["rates"][name]) for name in Calibration.__slots__})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # a cache that is not there or not ours is measured again
    found = measure()
    rates = {name: getattr(found, name) for name in Calibration.__slots__}
    replace_file(path, json.dumps({"identity": dict(identity), "rates": rates}, indent=2).encode())
    return found
