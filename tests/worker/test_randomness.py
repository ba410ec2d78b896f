import random

import numpy as np
import torch

from ralph.worker import randomness


def draws() -> tuple[list[float], list[float], list[float]]:
    python = [random.random(), random.gauss(0, 1), random.randrange(2**70)]
    return torch.randn(5).tolist(), [*np.random.rand(3), np.random.randn()], python


def test_the_same_seed_draws_the_same_numbers_everywhere() -> None:
    randomness.seed_everything(2**64 - 1)
    first = draws()
    randomness.seed_everything(2**64 - 1)
    assert draws() == first
    randomness.seed_everything(2**64 - 2)
    assert all(other != before for other, before in zip(draws(), first, strict=True))


def test_restored_generators_go_on_where_they_were() -> None:
    """Also in the middle of a pair of normals, of which Python and numpy keep the second one."""
    for seed in range(3):
        randomness.seed_everything(seed)
        for _ in range(seed):
            draws()
        state = {name: tensor.clone() for name, tensor in randomness.capture().items()}
        expected = draws()
        draws()
        randomness.restore(state)
        assert draws() == expected


def test_capturing_draws_nothing() -> None:
    randomness.seed_everything(4)
    expected = draws()
    randomness.seed_everything(4)
    randomness.capture()
    assert draws() == expected
