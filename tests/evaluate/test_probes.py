"""Probes: what B gets to see and in which order, and how the host turns logits into losses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.errors import UntrustedInputError
from ralph.evaluate import claims, probes
from ralph.evaluate.cells import Cells
from tests.evaluate.material import KEY, every, rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_every_cell_is_scheduled_once_ascending_and_alone_of_its_document(lengths: list[int], batch_rows: int, seed: int) -> None:
    cells = Cells.of(np.array(lengths))
    wanted = np.flatnonzero(np.random.default_rng(seed).random(cells.count) < 0.5)
    batches = list(probes.schedule(cells, wanted, batch_rows=batch_rows, key=KEY))
    assert sorted(np.concatenate([*batches, np.zeros(0, np.int64)]).tolist()) == wanted.tolist()
    seen: dict[int, int] = {}
    for batch in batches:
        assert 1 <= batch.size <= batch_rows
        assert np.unique(cells.row(batch)).size == batch.size
        for row, position in zip(cells.row(batch).tolist(), cells.position(batch).tolist(), strict=True):
            assert position > seen.get(row, -1)
            seen[row] = position
    if wanted.size:
        per_row = np.bincount(cells.row(wanted))
        assert len(batches) == max(per_row.max(), math.ceil(wanted.size / batch_rows))


def test_behind_the_prefix_there_is_nothing_but_filler_of_the_same_fixed_shape() -> None:
    data = rows(count=20, sequence=12, vocabulary=40)
    cells = Cells.of(data.lengths)
    wanted = np.flatnonzero(np.arange(cells.count) % 3 == 0)
    sent = []

    def answer(tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        sent.append((tokens.copy(), positions.copy()))
        return np.zeros((8, 40))

    found = probes.collect(answer, data, wanted, batch_rows=8, key=KEY)
    assert found == pytest.approx(math.log(40))
    tokens = every(data)
    prefixes = {tuple(tokens[row, : position + 1]) for row, position in zip(cells.row(wanted), cells.position(wanted), strict=True)}
    asked = 0
    for tokens, positions in sent:
        assert tokens.shape == (8, 12)
        for line, position in zip(tokens, positions.tolist(), strict=True):
            assert np.array_equal(line[position + 1 :], data.filler[position + 1 : 12])
            asked += tuple(line[: position + 1]) in prefixes
    assert asked >= wanted.size


def test_claims_come_back_in_the_order_of_the_rows_and_are_frozen() -> None:
    data = rows(count=21, sequence=12, vocabulary=40)
    batches = []

    def answer(tokens: np.ndarray) -> np.ndarray:
        batches.append(tokens.copy())
        return tokens[:, 1:].astype(np.float64)

    frozen = claims.collect(answer, data, batch_rows=8, key=KEY)
    assert np.array_equal(frozen, Cells.of(data.lengths).flatten(every(data)[:, 1:]))
    assert [batch.shape for batch in batches] == [(8, 13)] * 3
    assert not np.array_equal(batches[0], every(data)[:8])
    assert np.array_equal(batches[2][5:], np.tile(np.concatenate([[0], data.filler[1:]]), (3, 1)))
    with pytest.raises(ValueError, match="read-only"):
        frozen[0] = 0.0


@pytest.mark.parametrize("shift", [0.0, 1e3, -1e9, 1e15])
def test_adding_a_constant_to_all_logits_changes_no_loss(shift: float) -> None:
    logits = np.random.default_rng(0).integers(-8, 8, (5, 30)).astype(np.float64)
    targets = np.arange(5)
    assert probes.losses(logits + shift, targets) == pytest.approx(probes.losses(logits, targets), abs=1e-12)


def test_giant_equal_logits_are_a_uniform_guess_and_not_a_loss_of_zero() -> None:
    assert probes.losses(np.full((2, 40), 1e17), np.array([1, 2])) == pytest.approx(math.log(40), abs=1e-12)


def test_losses_are_never_below_zero() -> None:
    logits = np.random.default_rng(0).normal(0, 1e3, (200, 40))
    assert probes.losses(logits, logits.argmax(axis=1)).min() >= 0


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308, -2e6])
def test_claims_out_of_all_bounds_are_refused(value: float) -> None:
    data = rows(count=9, sequence=12, vocabulary=40)
    with pytest.raises(UntrustedInputError, match="RUN-NAN"):
        claims.collect(lambda tokens: np.where(tokens[:, 1:] == tokens[0, 1], value, 1.0), data, batch_rows=8, key=KEY)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    logits = np.zeros((2, 4))
    logits[1, 3] = value
    with pytest.raises(UntrustedInputError, match="RUN-NAN"):
        probes.losses(logits, np.zeros(2, np.int64))


def test_logits_whose_loss_overflows_are_refused() -> None:
    with pytest.raises(UntrustedInputError, match="RUN-NAN"):
        probes.losses(np.array([[1.7e308, -1.7e308]]), np.array([1]))
