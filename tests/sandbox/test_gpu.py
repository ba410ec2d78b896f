"""What a sandbox for a GPU rung is started with. That cards work inside is for a machine that has one."""

from itertools import pairwise
from pathlib import Path

import pytest

from ralph.errors import ConfigurationError
from ralph.protocol.network import LADDER
from ralph.sandbox import gpu
from ralph.sandbox.limits import limits_for

CPU, CUDA = (next(rung for rung in LADDER if rung.device == device) for device in ("cpu", "cuda"))


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia-caps", "sda"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("count", [1, 2])
def test_only_the_cards_that_are_used_and_the_drivers_control_files_are_inside(count: int, devices: Path) -> None:
    options = gpu.options(count, devices=devices)
    bound = [target for option, target in pairwise(options) if option == "--dev-bind"]
    inside = [options[place + 2] for place, option in enumerate(options) if option == "--dev-bind"]
    assert [Path(path).name for path in bound] == [*(f"nvidia{number}" for number in range(count)), "nvidiactl", "nvidia-uvm"]
    assert inside == [f"/dev/{Path(path).name}" for path in bound]
    assert "--bind" not in options


def test_what_is_missing_is_named(devices: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"4 NVIDIA GPUs, and this machine has no {devices}/nvidia3;"):
        gpu.require(4, devices=devices)
    with pytest.raises(ConfigurationError, match=r"an NVIDIA GPU, and this machine has no .*nvidia0, .*nvidiactl, .*nvidia-uvm; rungs C1"):
        gpu.require(1, devices=tmp_path / "nowhere")


def test_a_rung_of_cpus_has_no_device_inside(devices: Path) -> None:
    assert gpu.options(limits_for(CPU).gpus, devices=devices) == ()


@pytest.mark.parametrize("ranks", [1, 4])
def test_every_rank_of_a_gpu_rung_has_a_card(ranks: int) -> None:
    limits = limits_for(CUDA, ranks=ranks)
    assert (limits.gpus, limits.ranks, limits.timeout_s) == (ranks, ranks, CUDA.timeout_s)
    assert limits_for(CPU, ranks=ranks).gpus == 0
