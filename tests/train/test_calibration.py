"""What the device can do, measured in a real sandbox and remembered."""

import json
from pathlib import Path

import pytest

from ralph.errors import InfrastructureError
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.limits import limits_for
from ralph.sandbox.options import Program
from ralph.train import calibration
from ralph.train.calibration import Calibration, Shapes, calibrate, remembered
from tests.train.material import RUNG

SHAPES = Shapes.of(rows=4, sequence=16, width=32, vocabulary=300)
RATES = Calibration(product_flops=4e10, slowest_product_flops=1e10, attention_flops=2e10, copy_bytes=1e10)


@pytest.fixture
def box() -> BubblewrapSandbox:
    return BubblewrapSandbox(program=Program(module=calibration.MODULE))


def test_shapes_are_those_of_a_step_forward_and_backward() -> None:
    assert SHAPES.attention == (4, 2, 16, 16)
    assert {(64, 96, 32), (64, 32, 96), (96, 32, 64)} <= set(SHAPES.products)  # queries, keys and values
    assert {(64, 300, 32), (64, 32, 300), (300, 32, 64)} <= set(SHAPES.products)  # the output head


def test_a_device_is_measured_inside_the_sandbox(box: BubblewrapSandbox) -> None:
    found = calibrate(box, SHAPES, limits_for(RUNG))
    assert found.product_flops >= found.slowest_product_flops > 0
    assert found.attention_flops > 0
    assert found.copy_bytes > 0


def test_a_rate_that_no_known_device_has_is_refused(box: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(calibration.RANGES["cpu"], "copy_bytes", (1.0, 2.0))
    with pytest.raises(InfrastructureError, match=r"copy_bytes measured at .* a cpu is known to have 1 to 2") as caught:
        calibrate(box, SHAPES, limits_for(RUNG))
    assert caught.value.code == "OPS-NUMERIC"


def test_a_calibration_is_made_once_for_a_machine(tmp_path: Path) -> None:
    path, made = tmp_path / "C1.json", []

    def measure() -> Calibration:
        made.append(1)
        return RATES

    for machine in ("one", "one", "another", "another"):
        assert remembered(path, {"processor": machine}, measure) == RATES
    assert len(made) == 2


@pytest.mark.parametrize("kept", ["", "[]", "{}", json.dumps({"identity": {"processor": "one"}, "rates": {"product_flops": "fast"}})])
def test_a_damaged_memory_is_measured_again(tmp_path: Path, kept: str) -> None:
    path = tmp_path / "C1.json"
    path.write_text(kept, encoding="utf-8")
    assert remembered(path, {"processor": "one"}, lambda: RATES) == RATES
    assert json.loads(path.read_bytes())["rates"]["product_flops"] == 4e10
