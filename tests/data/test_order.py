import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.data.corpora import Document
from ralph.data.dataset import DataSet, open_data
from ralph.data.order import PERIOD, Packing, TrainingOrder, deal, thousandths
from ralph.data.shards import prepare
from ralph.data.stages import Stage, tokens_after
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.protocol.data import BOS

EVEN = {"code": 0.5, "docs": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, documents: list[Document]) -> DataSet:
    root = tmp_path_factory.mktemp("order")
    tiny = [Document(source="tiny", text=f"tiny {number}") for number in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ralph.data.writer.SHARD_TOKENS", 10_000)
        manifest = prepare(root / "data", hidden=root / "hidden", vocabulary=400, documents=[*documents, *tiny])
    return open_data(root / "data", expect=manifest.digest())


def order(data: DataSet, *, seed: int = 1, rows: int = 4, sequence: int = 16, mixture: dict[str, float] | None = None) -> TrainingOrder:
    stage = Stage(steps=1, batch_rows=rows, sequence=sequence)
    return TrainingOrder(data, seed=seed, stages=(stage,), mixture=EVEN if mixture is None else mixture)


def test_a_batch_depends_on_seed_and_step_and_on_nothing_that_was_served_before(data: DataSet) -> None:
    one, two = order(data), order(data)
    steps = [900, 3, 0, 1234, 3, 900]
    assert [one.batch(step).tobytes() for step in steps] == [two.batch(step).tobytes() for step in reversed(steps)][::-1]
    assert one.batch(3).shape == (4, 17)
    assert one.batch(3).dtype == np.int32


def test_the_batch_size_does_not_change_the_order_of_rows(data: DataSet) -> None:
    wide, narrow = order(data, rows=6), order(data, rows=2)
    assert np.array_equal(wide.batch(5), np.concatenate([narrow.batch(step) for step in (15, 16, 17)]))


def test_another_seed_gives_another_order(data: DataSet) -> None:
    assert not np.array_equal(order(data, seed=1).batch(0), order(data, seed=2).batch(0))
    assert not np.array_equal(order(data, seed=0).batch(0), order(data, seed=2**64 - 1).batch(0))


def windows(data: DataSet, source: str, sequence: int) -> list[bytes]:
    return sorted(
        shard[start : start + sequence + 1].astype(np.int32).tobytes()
        for shard in data.streams[source]
        for start in range(0, shard.size - sequence, sequence)
    )


def test_a_pass_serves_every_window_of_every_shard_once_and_the_next_pass_in_another_order(data: DataSet) -> None:
    expected = windows(data, "code", 64)
    assert len(data.streams["code"]) > 1
    served = order(data, rows=1, sequence=64, mixture={"code": 1.0})
    passes = [[served.batch(turn * len(expected) + step)[0].tobytes() for step in range(len(expected))] for turn in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == expected
    assert passes[0] != passes[1]
    assert [batch[0].tobytes() for batch in served.batches(0, 2 * len(expected))] == passes[0] + passes[1]


def test_batches_do_not_depend_on_how_many_are_made_together(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [batch.tobytes() for batch in order(data).batches(0, 500)]
    monkeypatch.setattr("ralph.data.order.TOGETHER_TOKENS", 7 * 64)
    assert [batch.tobytes() for batch in order(data).batches(0, 500)] == alone


def test_accounting_counts_rows_tokens_and_passes(data: DataSet) -> None:
    total = len(windows(data, "docs", 16))
    served = order(data, rows=10, mixture={"code": 0.75, "docs": 0.25}).served(1000)
    assert [(row.source, row.rows, row.tokens) for row in served] == [("code", 7500, 120_000), ("docs", 2500, 40_000)]
    assert served[1].passes == 2500 / total


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6).filter(any))
def test_no_source_is_ever_more_than_a_row_from_its_share(weights: list[int]) -> None:
    names = tuple(f"s{number}" for number in range(len(weights)))
    shares = list(thousandths(dict(zip(names, map(float, weights), strict=True)), names).values())
    rows = deal(shares)
    assert np.bincount(rows, minlength=len(shares)).tolist() == shares
    for number, share in enumerate(shares):
        counts = np.cumsum(rows == number)
        ideal = np.arange(1, PERIOD + 1) * share / PERIOD
        assert (counts - ideal < 1).all()
        assert (ideal - counts < max(2, len(shares))).all()


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=5).filter(lambda weights: sum(weights) > 1e-3))
def test_rounded_weights_sum_to_a_thousand_and_stay_within_a_thousandth(weights: list[float]) -> None:
    names = tuple(f"s{number}" for number in range(len(weights)))
    rounded = thousandths(dict(zip(names, weights, strict=True)), names)
    assert sum(rounded.values()) == PERIOD
    total = sum(map(Fraction, weights))
    assert all(abs(rounded[name] - Fraction(weight) / total * PERIOD) < 1.001 for name, weight in zip(names, weights, strict=True))


def test_a_source_without_weight_is_never_served(data: DataSet) -> None:
    assert [row.source for row in order(data, mixture={"docs": 1.0, "code": 0.0}).served(5)] == ["docs"]


@pytest.mark.parametrize(
    "mixture",
    [
        {"code": 1.0, "web": 1.0},
        {"code": -1.0, "docs": 2.0},
        {"code": float("nan"), "docs": 1.0},
        {"code": float("inf")},
        {"code": 1e308, "docs": 1e308},
        {"code": 10**400},
        {"code": 0.0},
        {},
    ],
)
def test_a_mixture_that_is_no_set_of_weights_is_the_miners_fault(data: DataSet, mixture: dict[str, float]) -> None:
    with pytest.raises(UntrustedInputError) as caught:
        order(data, mixture=mixture)
    assert caught.value.code == "RUN-BUDGET"


def test_a_source_shorter_than_a_window_is_refused_by_name(data: DataSet) -> None:
    with pytest.raises(ConfigurationError, match="tiny") as caught:
        order(data, sequence=64, mixture={"tiny": 1.0})
    assert caught.value.code == "OPS-DATA"


def synthetic(tmp_path: Path) -> DataSet:
    """Text that does not depend on the version of Python, byte-level tokens only: the order may be pinned."""
    texts = (hashlib.sha256(f"document {number}".encode()).hexdigest() for number in range(200))
    documents = [Document(source="ab"[number % 2] + "source", text=text) for number, text in enumerate(texts)]
    manifest = prepare(tmp_path / "data", hidden=tmp_path / "hidden", vocabulary=257, documents=documents)
    return open_data(tmp_path / "data", expect=manifest.digest())


def test_the_order_is_pinned_by_a_golden_vector(tmp_path: Path) -> None:
    batches = order(synthetic(tmp_path), seed=7, rows=8, mixture={"asource": 0.6, "bsource": 0.4})
    digest = hashlib.sha256(b"".join(batches.batch(step).astype("<i4").tobytes() for step in (0, 1, 100, 12345)))
    assert digest.hexdigest() == "8f25839c558d684c9fd258bd96e33c95a734e4f4bdca1cedeb00b2a1dab20439"


def packed(data: DataSet, *, seed: int = 1, rows: int = 4, sequence: int = 16, mixture: dict[str, float] | None = None) -> TrainingOrder:
    stage = Stage(steps=1, batch_rows=rows, sequence=sequence)
    return TrainingOrder(data, seed=seed, stages=(stage,), mixture=mixture or EVEN, packing="best_fit")


def texts(data: DataSet, source: str) -> set[bytes]:
    """The documents of a source, as the bytes of their tokens."""
    return {
        shard[int(offset) : int(offset) + int(tokens)].tobytes()
        for shard, index in zip(data.streams[source], data.indices[source], strict=True)
        for offset, tokens in zip(index["offset"], index["tokens"], strict=True)
    }


def test_packed_rows_begin_with_bos_and_hold_valid_tokens(data: DataSet) -> None:
    batches = packed(data, rows=8, sequence=64)
    tokens = np.concatenate([batches.batch(step) for step in range(50)])
    assert (tokens.shape, tokens.dtype) == ((400, 65), np.int32)
    assert (tokens[:, 0] == BOS).all()
    assert tokens.min() >= 0
    assert tokens.max() < data.vocabulary


def test_documents_of_every_shard_are_served_whole_when_a_row_is_long_enough(data: DataSet) -> None:
    assert len(data.streams["code"]) > 1
    expected, longest = texts(data, "code"), max(int(index["tokens"].max()) for index in data.indices["code"])
    batches = packed(data, rows=1, sequence=4 * longest, mixture={"code": 1.0})
    rows = [batches.batch(step)[0].astype(np.uint16) for step in range(200)]
    pieces = {piece.tobytes() for row in rows for piece in np.split(row, np.flatnonzero(row == BOS)) if piece.size > 1}
    assert {piece[2:] for piece in pieces} >= expected


def test_a_jump_and_a_step_back_serve_what_steps_in_sequence_serve(data: DataSet) -> None:
    one, two = packed(data), packed(data)
    steps = [300, 3, 0, 301, 3, 4]
    sequence = [one.batch(step).tobytes() for step in range(302)]
    assert [two.batch(step).tobytes() for step in steps] == [sequence[step] for step in steps]


def test_another_seed_packs_other_documents(data: DataSet) -> None:
    assert not np.array_equal(packed(data, seed=1).batch(0), packed(data, seed=2).batch(0))


def test_passes_of_packed_documents_count_their_tokens(data: DataSet) -> None:
    served = packed(data, rows=10, sequence=64, mixture={"docs": 1.0}).served(30)[0]
    total = sum(int(index["tokens"].sum()) for index in data.indices["docs"])
    assert (served.source, served.rows, served.tokens) == ("docs", 300, 300 * 64)
    assert 0.9 * 300 * 64 / total < served.passes < 300 * 65 / total


def test_a_source_shorter_than_a_packed_row_is_refused_by_name(data: DataSet) -> None:
    with pytest.raises(ConfigurationError, match="tiny has less than one row of 65 tokens"):
        packed(data, sequence=64, mixture={"tiny": 1.0})


STAGES = (Stage(steps=30, batch_rows=6, sequence=4), Stage(steps=20, batch_rows=6, sequence=8), Stage(steps=10, batch_rows=3, sequence=16))


@pytest.mark.parametrize("packing", ["stream", "best_fit"])
def test_every_stage_serves_its_own_shape_and_any_step_can_be_asked_for(data: DataSet, packing: Packing) -> None:
    one, two = (TrainingOrder(data, seed=1, stages=STAGES, mixture=EVEN, packing=packing) for _ in range(2))
    sequence = [one.batch(step) for step in range(70)]
    assert [batch.shape for batch in sequence] == [(6, 5)] * 30 + [(6, 9)] * 20 + [(3, 17)] * 20
    assert all(np.array_equal(two.batch(step), sequence[step]) for step in (65, 29, 30, 49, 50, 0))
    together = list(two.batches(3, 67))
    assert len(together) == 67
    assert all(np.array_equal(batch, other) for batch, other in zip(together, sequence[3:], strict=True))
    served = one.served(55)
    assert sum(row.tokens for row in served) == tokens_after(STAGES, 55) == 30 * 24 + 20 * 48 + 5 * 48
    assert sum(row.rows for row in served) == 30 * 6 + 20 * 6 + 5 * 3


def test_early_rows_are_the_parts_of_the_windows_that_come_first_and_no_window_comes_twice(data: DataSet) -> None:
    main = Stage(steps=1, batch_rows=3, sequence=16)
    early = Stage(steps=5, batch_rows=6, sequence=4)  # 30 parts: seven windows and half of the eighth, whose other half nobody gets
    whole = TrainingOrder(data, seed=1, stages=(main,), mixture={"code": 1.0})
    staged = TrainingOrder(data, seed=1, stages=(early, main), mixture={"code": 1.0})
    served = np.concatenate([whole.batch(step) for step in range(6)])
    parts = np.concatenate([staged.batch(step) for step in range(5)])
    cut = np.stack([window[4 * part : 4 * part + 5] for window in served[:8] for part in range(4)])
    assert np.array_equal(parts, cut[:30])
    assert np.array_equal(np.concatenate([staged.batch(step) for step in (5, 6)]), served[8:14])
    total = len(windows(data, "code", 16))
    assert [staged.served(steps)[0].passes * total for steps in (4, 5)] == pytest.approx([6, 8])


def test_a_packed_pass_goes_on_over_the_stages(data: DataSet) -> None:
    source = sum(int(index["tokens"].sum()) for index in data.indices["code"])
    early = Stage(steps=source // 8 // 16, batch_rows=2, sequence=8)
    staged = TrainingOrder(
        data, seed=1, stages=(early, Stage(steps=1, batch_rows=1, sequence=16)), mixture={"code": 1.0}, packing="best_fit"
    )
    steps = early.steps + source // 8 // 17
    served = np.bincount(np.concatenate([staged.batch(step).ravel() for step in range(steps)]), minlength=data.vocabulary)
    held = np.bincount(np.concatenate(data.streams["code"]), minlength=data.vocabulary)
    assert 0.2 < staged.served(steps)[0].passes < 0.25
    assert (served[1:] <= held[1:]).all()


@pytest.mark.parametrize(
    "stages", [(), (Stage(steps=1, batch_rows=1, sequence=5), STAGES[-1]), (Stage(steps=1, batch_rows=0, sequence=16),)]
)
def test_stages_that_cannot_be_served_are_a_bug(data: DataSet, stages: tuple[Stage, ...]) -> None:
    with pytest.raises(ValueError, match="stages"):
        TrainingOrder(data, seed=1, stages=stages, mixture=EVEN)
