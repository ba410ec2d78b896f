"""What TensorBoard and Weights & Biases get to see, read back from their files."""

import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from ralph.train.run import StepReport
from ralph.train.sinks import Track, open_sink

SETTINGS = {"tree": "ab12", "seed": "7"}


def report(step: int) -> StepReport:
    return StepReport(
        step=step,
        steps=3,
        steps_now=step,
        tokens=100 * step,
        tokens_now=100 * step,
        loss_nats=5.0 / step,
        gradient_norm=0.5,
        flops_per_token=6,
        wall_s=2.0 * step,
    )


def events(directory: Path) -> list[Event]:
    (file,) = directory.glob("events*")
    data, found = file.read_bytes(), []
    while data:
        (length,) = struct.unpack_from("<Q", data)
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_tensorboard_gets_every_step_with_its_numbers(tmp_path: Path) -> None:
    sink = open_sink(Track.TENSORBOARD, tmp_path, SETTINGS)
    for step in (1, 2, 3):
        sink.report(report(step))
    sink.close()
    values = {(event.step, value.tag): value.simple_value for event in events(tmp_path / "tensorboard") for value in event.summary.value}
    assert [values[step, "loss_nats"] for step in (1, 2, 3)] == pytest.approx([5.0, 2.5, 5.0 / 3])
    assert values[3, "tokens_per_s"] == 50.0
    assert values[2, "tokens"] == 200.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_weights_and_biases_writes_offline_what_it_would_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    sink = open_sink(Track.WANDB, tmp_path / "run", SETTINGS)
    sink.report(report(1))
    sink.close()
    (file,) = (tmp_path / "run").rglob("run-*.wandb")
    data = file.read_bytes()
    assert b"loss_nats" in data
    assert b"ab12" in data
