from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ralph.data.dataset import DataSet
from ralph.errors import UntrustedInputError
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import host, initial, wire
from ralph.train.segments import MemoryStates
from tests.train import material

LUCK = np.random.default_rng(12).normal(size=(40, 50)).astype("<f4")

LUCKY = """
honest = GPT.initialise


def lucky(self, config):
    honest(self, config)
    self.head.weight.data = torch.sin(torch.arange(300.0 * 32)).view(300, 32)


GPT.initialise = lucky
"""


def state(seed: int, **tensors: np.ndarray) -> list[wire.Tensor]:
    """Return a state of a drawn matrix, a constant, and what else is given."""
    drawn = np.random.default_rng(seed).normal(size=(64, 32)).astype("<f4")
    arrays = {"drawn": drawn, "ones": np.ones(300, "<f4"), "scalar": np.full((), 0.5, "<f4"), **tensors}
    named = [wire.Tensor(f"model.{name}", "f32", array.shape, array.tobytes()) for name, array in arrays.items()]
    return [*named, wire.Tensor("step", "i64", (), bytes(8))]


def refused(first: list[wire.Tensor], second: list[wire.Tensor]) -> str:
    with pytest.raises(UntrustedInputError) as refusal:
        initial.check(first, second)
    assert refusal.value.code == "RUN-INIT"
    return refusal.value.detail


def test_drawn_values_and_constants_pass() -> None:
    for seed in range(0, 40, 2):
        initial.check(state(seed), state(seed + 1))


def test_the_same_values_under_two_seeds_are_smuggled_luck() -> None:
    assert "'luck'" in refused(state(1, luck=LUCK), state(2, luck=LUCK))
    assert "'luck'" in refused(state(1, luck=LUCK), state(2, luck=-LUCK))


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_luck_under_noise_shows(share: float) -> None:
    mixed = [(share * LUCK + (1 - share) * np.random.default_rng(seed).normal(size=LUCK.shape)).astype("<f4") for seed in (1, 2)]
    refused(state(1, luck=mixed[0]), state(2, luck=mixed[1]))


def test_luck_in_many_small_tensors_shows_in_their_pool() -> None:
    small = {f"row{row}": LUCK[row] for row in range(40)}
    assert "small tensors" in refused(state(1, **small), state(2, **small))


def test_a_constant_that_is_drawn_passes() -> None:
    initial.check(state(1, scale=np.full(300, 0.3, "<f4")), state(2, scale=np.full(300, 0.7, "<f4")))


def test_a_seed_must_not_change_the_architecture() -> None:
    refused(state(1, more=LUCK), state(2))
    refused(state(1, more=LUCK), state(2, more=LUCK.T))


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_huge_and_tiny_values_hide_nothing(scale: float) -> None:
    values = LUCK.astype("<f8") * scale
    luck = wire.Tensor("model.luck", "f64", LUCK.shape, values.tobytes())
    assert "correlation 1.000" in refused([luck], [luck])


def test_values_that_are_not_finite_are_refused() -> None:
    broken = LUCK.copy()
    broken[3, 4] = np.inf
    assert "not finite" in refused(state(1, luck=broken), state(2, luck=LUCK))


def test_bfloat16_is_read_as_what_it_is() -> None:
    upper = (LUCK.view("<u4") >> 16).astype("<u2")
    luck = wire.Tensor("model.luck", "bf16", LUCK.shape, upper.tobytes())
    assert "correlation 1.000" in refused([luck], [luck])


def test_the_recipe_passes_and_its_lucky_copy_does_not(tmp_path: Path, data: DataSet, sandbox: BubblewrapSandbox) -> None:
    code = LUCKY
    recipes = (material.RECIPE, material.with_code(tmp_path / "lucky", code))

    def start(recipe: Path, seed: int) -> tuple[wire.Tensor, ...]:
        states = MemoryStates()
        with host.start(material.job(recipe, seed=seed), sandbox=sandbox, data=data) as run:
            run.train(states=states, until=1)
        return states.boundaries[0].tensors(host.state_limits(material.RUNG))

    with ThreadPoolExecutor(2) as pool:
        honest = [pool.submit(start, recipes[0], seed) for seed in (1, 2)]
        lucky = [pool.submit(start, recipes[1], seed) for seed in (1, 2)]
    initial.check(honest[0].result(), honest[1].result())
    assert "head.weight" in refused(list(lucky[0].result()), list(lucky[1].result()))
