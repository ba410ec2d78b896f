"""Where a person may watch a training besides the terminal: TensorBoard files, or Weights & Biases. Both are optional extras.

A sink sees what the worker reported and what the host timed. It decides nothing, and a run without one is the same run.
"""

from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from ralph.errors import ConfigurationError
from ralph.train.run import StepReport


class Track(StrEnum):
    """Kinds of sinks."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"


class Sink(Protocol):
    """Takes every step of a run."""

    def report(self, step: StepReport) -> None:
        """Take one step."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def open_sink(kind: Track, directory: Path, settings: dict[str, Any]) -> Sink:
    """Return a sink for the run in ``directory``. Raises ConfigurationError when its library is not installed."""
    return TensorBoard(directory, settings) if kind is Track.TENSORBOARD else WeightsAndBiases(directory, settings)


class TensorBoard:
    """Event files in ``directory/tensorboard``."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        try:
            import tensorboardX  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise ConfigurationError("--track tensorboard needs tensorboardX: pip install 'ralph-subnet[track]'") from error
        self._writer = tensorboardX.SummaryWriter(str(directory / "tensorboard"))
        self._writer.add_text("run", "\n".join(f"    {name}: {value}" for name, value in settings.items()))

    def report(self, step: StepReport) -> None:
        """Take one step."""
        for name, value in _numbers(step).items():
            self._writer.add_scalar(name, value, step.step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WeightsAndBiases:
    """A run of the project ``ralph``. What is sent follows the library's own settings: ``WANDB_MODE=offline`` sends nothing."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        try:
            import wandb  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise ConfigurationError("--track wandb needs wandb: pip install 'ralph-subnet[track]'") from error
        directory.mkdir(parents=True, exist_ok=True)
        self._library = wandb
        try:
            self._run = wandb.init(project="ralph", name=directory.name, dir=str(directory), config=settings)
        except (wandb.Error, OSError) as error:
            raise ConfigurationError(f"Weights & Biases does not start: {error}; WANDB_MODE=offline needs no account") from error

    def report(self, step: StepReport) -> None:
        """Take one step."""
        self._run.log(_numbers(step), step=step.step)

    def close(self) -> None:
        """Write what is left; the library's own process writes behind, so it has to end for that."""
        self._run.finish()
        self._library.teardown()


def _numbers(step: StepReport) -> dict[str, float]:
    speed = step.tokens_now / step.wall_s if step.wall_s > 0 else 0.0
    return {"loss_nats": step.loss_nats, "gradient_norm": step.gradient_norm, "tokens": float(step.tokens), "tokens_per_s": speed}
