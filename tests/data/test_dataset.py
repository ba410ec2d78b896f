from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ralph.data.dataset import DataSet, Rows, open_data
from ralph.data.layout import MANIFEST
from ralph.data.tokenizer import open_tokenizer
from ralph.errors import ConfigurationError, CorruptStateError, RalphError
from ralph.protocol.canonical import blob_digest, envelope
from ralph.protocol.data import BOS, DataManifest
from tests.evaluate.material import every

from .conftest import Prepared


def opened(prepared: Prepared) -> DataSet:
    return open_data(prepared.data, expect=prepared.digest)


def test_a_row_is_the_beginning_of_one_document_after_a_bos(prepared: Prepared) -> None:
    data = opened(prepared)
    tokenizer = open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary)
    rows = data.validation.rows(None, 32)
    tokens = every(rows)
    assert tokens.shape == (len(data.validation), 33)
    assert tokens.dtype == np.int32
    assert (tokens[:, 0] == BOS).all()
    whole = data.validation.rows(None, 10_000)
    texts = every(whole)
    for number in range(len(rows)):
        text = tokenizer.decode(texts[number, 1 : 1 + whole.lengths[number]])
        assert whole.byte_counts[number] == len(text.encode())
        assert tokens[number, 1 : 1 + rows.lengths[number]].tolist() == tokenizer.encode(text)[:32].tolist()
        assert rows.byte_counts[number] == data.token_bytes[tokenizer.encode(text)[:32]].sum()


def test_padding_is_the_public_pattern_by_column(prepared: Prepared) -> None:
    data = opened(prepared)
    rows = data.validation.rows(None, 2000)
    assert (rows.lengths < 2000).all()
    for tokens, length in zip(every(rows), rows.lengths, strict=True):
        assert np.array_equal(tokens[1 + length :], rows.filler[1 + length :])
    text = open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary).decode(data.validation.filler(60))
    assert text.startswith("Alice was beginning")


def test_the_first_rows_are_the_same_whatever_the_count(prepared: Prepared) -> None:
    validation = opened(prepared).validation
    few, all_rows = validation.rows(10, 16), validation.rows(None, 16)
    assert np.array_equal(every(few), every(all_rows)[:10])
    digests = [row.tobytes() for row in validation.index["digest"]]
    assert digests == sorted(digests)
    assert few.sources == all_rows.sources[:10]


def test_rows_and_tokens_are_taken_in_any_order(prepared: Prepared) -> None:
    rows = opened(prepared).validation.rows(None, 48)
    tokens, order = every(rows), np.random.default_rng(0).permutation(len(rows))
    assert np.array_equal(rows.take(order[:9]), tokens[order[:9]])
    ends = rows.lengths[order]
    assert np.array_equal(rows.at(order, ends), tokens[order, ends])
    held = Rows.of(tokens, lengths=rows.lengths, byte_counts=rows.byte_counts, sources=rows.sources, filler=rows.filler)
    assert np.array_equal(every(held), tokens)
    assert np.array_equal(held.count_bytes(opened(prepared).token_bytes), rows.byte_counts)


def test_no_rows_have_the_shape_of_rows(prepared: Prepared) -> None:
    rows = opened(prepared).validation.rows(0, 16)
    assert every(rows).shape == (0, 17)
    assert len(rows) == 0


def test_more_documents_than_there_are_is_an_error_not_fewer_rows(prepared: Prepared) -> None:
    with pytest.raises(ConfigurationError, match="100000 are needed") as caught:
        opened(prepared).validation.rows(100_000, 16)
    assert caught.value.code == "OPS-DATA"


def test_mapped_data_cannot_be_written(prepared: Prepared) -> None:
    data = opened(prepared)
    for array in (data.streams["code"][0], data.token_bytes, data.validation.index):
        assert not array.flags.writeable


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: list[tuple[Callable[[Path], None], type[RalphError]]] = [
    (truncate, CorruptStateError),
    (flip, CorruptStateError),
    (extend, CorruptStateError),
    (replace_by_directory, CorruptStateError),
    (Path.unlink, ConfigurationError),
]


@pytest.mark.parametrize(("damage", "error"), DAMAGE)
def test_every_damaged_file_is_refused_by_name_before_use(
    prepared: Prepared, damage: Callable[[Path], None], error: type[RalphError]
) -> None:
    for name in [entry.name for entry in prepared.manifest.files()]:
        path = prepared.data / name
        whole = path.read_bytes()
        damage(path)
        with pytest.raises(error, match=name) as caught:
            opened(prepared)
        assert caught.value.code == "OPS-DATA"
        assert "ralph data verify" in caught.value.detail
        assert "ralph data prepare" in caught.value.detail
        if path.is_dir():
            path.rmdir()
        path.write_bytes(whole)
    opened(prepared)


def test_other_data_than_the_rules_name_are_refused(prepared: Prepared) -> None:
    with pytest.raises(ConfigurationError, match="is expected") as caught:
        open_data(prepared.data, expect=bytes(32))
    assert caught.value.code == "OPS-DATA"


def test_an_unknown_manifest_field_is_refused_even_under_the_expected_digest(prepared: Prepared) -> None:
    value = {**prepared.manifest.value(), "licence": "MIT"}
    (prepared.data / MANIFEST).write_bytes(envelope(DataManifest.TAG, value))
    digest = blob_digest((prepared.data / MANIFEST).read_bytes())
    with pytest.raises(CorruptStateError, match="licence") as caught:
        open_data(prepared.data, expect=digest)
    assert caught.value.code == "OPS-DATA"


def test_a_missing_directory_is_a_setting_not_corruption(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is missing"):
        open_data(tmp_path / "nowhere", expect=bytes(32))


def test_a_manifest_that_lies_about_its_documents_is_refused(prepared: Prepared) -> None:
    shard = prepared.manifest.validation
    lies = [
        shard.model_copy(update={"byte_count": shard.byte_count + 1}),
        shard.model_copy(update={"token_count": shard.token_count + 1}),
        shard.model_copy(update={"document_count": shard.document_count - 1}),
        shard.model_copy(update={"tokens": prepared.manifest.sources[0].shards[0].tokens}),
        shard.model_copy(update={"index": prepared.manifest.sources[0].shards[0].index}),
    ]
    for lie in lies:
        manifest = prepared.manifest.model_copy(update={"validation": lie})
        (prepared.data / MANIFEST).write_bytes(manifest.to_bytes())
        with pytest.raises(CorruptStateError) as caught:
            open_data(prepared.data, expect=manifest.digest())
        assert caught.value.code == "OPS-DATA"
