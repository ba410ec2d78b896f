from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import Canonical, envelope
from ralph.protocol.data import MAX_MANIFEST_BYTES, DataManifest, Shard, Source, StoredFile


def stored(name: str) -> StoredFile:
    return StoredFile(name=name, size_bytes=10, sha256=bytes(32))


def shard(name: str) -> Shard:
    return Shard(tokens=stored(f"{name}.bin"), index=stored(f"{name}.index"), document_count=1, token_count=4, byte_count=9)


DATA = DataManifest.over(
    corpus="test",
    vocabulary=300,
    tokenizer=stored("tokenizer.json"),
    token_bytes=stored("token_bytes.bin"),
    filler=stored("filler.bin"),
    sources=(Source(name="code", shards=(shard("train-code-0000"),)),),
    validation=shard("val"),
)
MANIFESTS: list[Canonical] = [DATA]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=12), children, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_manifest_comes_back_from_its_bytes(manifest: Canonical) -> None:
    assert type(manifest).from_bytes(manifest.to_bytes(), limit=MAX_MANIFEST_BYTES) == manifest


def test_a_manifest_whose_root_is_not_over_its_files_is_refused() -> None:
    forged = DATA.model_copy(update={"root": bytes(32)})
    with pytest.raises(UntrustedInputError, match="Merkle root"):
        DataManifest.from_bytes(forged.to_bytes(), limit=MAX_MANIFEST_BYTES)


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused_and_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(UntrustedInputError):
        DataManifest.from_bytes(data, limit=MAX_MANIFEST_BYTES)


@given(st.sampled_from(MANIFESTS), st.data())
def test_a_changed_byte_gives_another_digest_or_is_refused(manifest: Canonical, data: st.DataObject) -> None:
    raw = bytearray(manifest.to_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        parsed = type(manifest).from_bytes(bytes(raw), limit=MAX_MANIFEST_BYTES)
    except UntrustedInputError:
        return
    assert parsed.to_bytes() == bytes(raw)
    assert parsed.digest() != manifest.digest()


@given(st.sampled_from(MANIFESTS), PLAIN, st.data())
def test_any_field_of_another_type_is_refused_or_canonical(manifest: Canonical, value: Any, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(manifest.value())))
    raw = envelope(manifest.TAG, {**manifest.value(), field: value})
    try:
        parsed = type(manifest).from_bytes(raw, limit=MAX_MANIFEST_BYTES)
    except UntrustedInputError:
        return
    assert parsed.to_bytes() == raw


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_unknown_and_missing_fields_are_refused(manifest: Canonical) -> None:
    value = manifest.value()
    for changed in ({**value, "extra": 1}, {key: item for key, item in value.items() if key != "corpus"}):
        with pytest.raises(UntrustedInputError) as caught:
            type(manifest).from_value(changed)
        assert caught.value.code == "INT-SCHEMA"


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", ".hidden", "", "a/b", "a\n", "A", "a" * 101, "a\x00"])
def test_a_file_name_that_is_not_a_plain_name_is_refused(name: str) -> None:
    value = {**stored("fine").value(), "name": name}
    with pytest.raises(UntrustedInputError):
        StoredFile.from_value(value)


def test_a_manifest_over_its_size_limit_is_refused() -> None:
    with pytest.raises(UntrustedInputError) as caught:
        DataManifest.from_bytes(bytes(MAX_MANIFEST_BYTES + 1), limit=MAX_MANIFEST_BYTES)
    assert caught.value.code == "INT-SIZE"


@pytest.mark.parametrize("vocabulary", [0, 256, 65537])
def test_a_vocabulary_that_uint16_cannot_hold_is_refused(vocabulary: int) -> None:
    with pytest.raises(UntrustedInputError):
        DataManifest.from_value({**DATA.value(), "vocabulary": vocabulary})


def test_the_digest_of_a_manifest_is_pinned_by_golden_vectors() -> None:
    assert [manifest.digest().hex()[:16] for manifest in MANIFESTS] == ["a872fb46ee368a56"]
