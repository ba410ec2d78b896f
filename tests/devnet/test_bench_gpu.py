"""The measurements of a GPU, made on a rung of a CPU: what they compute does not depend on where it runs."""

from pathlib import Path

import pytest

from ralph.repository.genesis import genesis_recipe, variant
from ralph_devnet.bench.gpu import Scene, gpus, shortened
from ralph_devnet.bench.registry import Context
from tests.train.material import RUNG, small_data


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    context = Context(home=tmp_path, data=tmp_path / "data", repeat=1, seeds=1, say=lambda text: None)
    return Scene(context=context, data=small_data(tmp_path), tree=variant(genesis_recipe(), "strong"), peak=1e12, seeds=2)


def test_a_rung_is_measured_whole_shortened_with_both_kinds_of_attention_and_over_seeds(scene: Scene) -> None:
    rung = RUNG.model_copy(update={"tokens": 4096, "max_steps": 40})
    whole = {figure.name: figure.median for figure in scene.whole(rung)}
    (speed,) = (value for name, value in whole.items() if name.endswith("training"))
    (share,) = (value for name, value in whole.items() if name.endswith("MFU"))
    assert speed > 0
    assert 0 < share < 100
    assert scene.course(shortened(rung, scene, 10), scene.tree).plan.tokens <= 10 * 8 * RUNG.sequence
    (apart,) = scene.agreement(shortened(rung, scene, 10))
    assert 0 <= apart.median < 1e-4
    spread, sigma, mean = scene.noise(rung)
    assert spread.low < mean.median < spread.high
    assert sigma.median == pytest.approx((spread.high - spread.low) / 2**0.5)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU, which would be measured")
def test_without_a_gpu_nothing_is_measured_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    assert gpus(Context(home=tmp_path, data=tmp_path / "data", repeat=1, seeds=1, say=said.append)) == []
    assert "nothing is measured" in said[0]
    assert "/dev/nvidia0" in said[0]
