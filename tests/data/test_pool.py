"""A sealed hidden pool: what opens it, what does not, and that nothing of it lies about in the clear."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ralph.data import sealed
from ralph.data.corpora import Document
from ralph.data.dataset import DataSet, open_data
from ralph.data.layout import LEAVES, MANIFEST, sealed_name
from ralph.data.opened import verify_places
from ralph.data.partition import Fractions, SubPool, document_digest, pool_of, shard_of
from ralph.data.pool import HiddenPool, open_pool
from ralph.data.poolkey import PoolKey, key_beside
from ralph.data.refresh import refresh
from ralph.data.sealed import HEADER_BYTES, TAG_BYTES, Label, Sealer, unseal
from ralph.data.shards import pool_commitment, prepare
from ralph.data.tokenizer import Tokenizer, open_tokenizer
from ralph.data.verify import shared_documents, verify
from ralph.errors import ConfigurationError, CorruptStateError, UntrustedInputError
from ralph.evaluate.active import Committed, Drawn, active_count, active_subset, verify_opened
from ralph.protocol.data import DataManifest
from ralph.protocol.pool import MAX_OPENINGS_BYTES, SHARDS, OpenedSubset, Subset, verify_refresh
from tests.evaluate.material import every

from .conftest import Prepared

BEACON = bytes(range(32))


def tokenizer_of(data: DataSet) -> Tokenizer:
    return open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary)


def pool_in(prepared: Prepared) -> HiddenPool:
    return open_pool(prepared.hidden, key=prepared.key, expect=prepared.commitment)


def test_every_hidden_document_is_in_the_shard_that_its_digest_says(prepared: Prepared, documents: list[Document]) -> None:
    pool = pool_in(prepared)
    found = {row.tobytes(): name for name in SHARDS for row in pool.contents(name).index["digest"]}
    assert all(shard_of(document) == name for document, name in found.items())
    assert len(found) == sum(shard.documents for shard in pool.commitment.shards)
    assert len(found) > 100
    assert found.keys() <= {document_digest(document.text) for document in documents}


def test_shards_hold_a_quarter_half_and_a_quarter() -> None:
    counts = dict.fromkeys(SHARDS, 0)
    for number in range(8000):
        counts[shard_of(document_digest(str(number)))] += 1
    assert counts["screen"] == pytest.approx(2000, abs=200)
    assert counts["confirm"] == pytest.approx(4000, abs=200)


def test_a_shard_opens_to_rows(prepared: Prepared) -> None:
    pool, data = pool_in(prepared), open_data(prepared.data, expect=prepared.digest)
    documents = pool.documents("confirm", data)
    rows = documents.rows(None, 16)
    assert set(rows.sources) <= {"code", "docs"}
    assert documents.index["digest"].tolist() == sorted(documents.index["digest"].tolist())
    some = documents.select((4, 1)).rows(None, 16)
    assert np.array_equal(every(some), every(rows)[[4, 1]])
    with pytest.raises(ValueError, match="read-only"):
        documents.tokens[0] = 1


def test_nothing_hidden_is_written_in_the_clear(prepared: Prepared) -> None:
    contents = pool_in(prepared).contents("screen")
    longest = contents.index[int(contents.index["tokens"].argmax())]
    start = int(longest["offset"])
    needles = [contents.tokens[start : start + 16].tobytes(), longest["digest"].tobytes()]
    for path in [*prepared.hidden.iterdir(), prepared.key]:
        assert not any(needle in path.read_bytes() for needle in needles), path


def test_opening_a_shard_makes_no_file(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    original = os.open

    def watched(path: Path, flags: int, *rest: int) -> int:
        opened.append(flags)
        return original(path, flags, *rest)

    pool = pool_in(prepared)
    monkeypatch.setattr(os, "open", watched)
    pool.contents("audit")
    assert opened
    assert not any(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) for flags in opened)


Damage = Callable[[Path], None]


def flip_at(place: int) -> Damage:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)

    return flip


def cut_by(count: int) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[:-count])


CHUNK = 4096
DAMAGE: dict[str, Damage] = {
    "magic": flip_at(0),
    "salt": flip_at(25),
    "size": flip_at(HEADER_BYTES - 8),
    "huge size": flip_at(HEADER_BYTES - 1),
    "first byte of content": flip_at(HEADER_BYTES),
    "last tag": flip_at(-1),
    "one byte short": cut_by(1),
    "last chunk missing": cut_by(CHUNK + TAG_BYTES),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"\x00"),
    "empty": lambda path: path.write_bytes(b""),
    "only a header": lambda path: path.write_bytes(path.read_bytes()[:HEADER_BYTES]),
    "in the clear": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_sealed_file_is_one_clear_error(prepared: Prepared, damage: Damage) -> None:
    path = prepared.hidden / "screen.sealed"
    damage(path)
    with pytest.raises(CorruptStateError) as caught:
        pool_in(prepared).contents("screen")
    assert caught.value.code == "OPS-DATA"
    assert str(path) in caught.value.detail
    assert str(prepared.key) in caught.value.detail
    assert "put the file and its key back from a copy" in caught.value.detail
    assert [one.file for one in verify(prepared.hidden)] == ["screen.sealed"]


def sealed_file(path: Path, key: PoolKey, label: Label, content: bytes, pieces: int = 1000) -> bytes:
    with path.open("wb") as file:
        sealer = Sealer(file.write, key=key, label=label, size_bytes=len(content))
        for start in range(0, len(content), pieces):
            sealer.write(content[start : start + pieces])
        sealer.close()
    return path.read_bytes()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "CHUNK_BYTES", 16)


LABEL = Label(commitment=bytes(32), shard="screen")
KEY = PoolKey(Path("a.key"), bytes(range(32)))
SEALED = (
    "7265636970652d6e6574207365616c65642076310a0707070707070707070707070707070707070707070707070707070707"
    "0707070a00000000000000cb17ffc24bd0a57ef4b20e1c025fb0977f8ecd08c2eab0888a40"
)
KEY_FILE = (
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f700d340bcda1d10628dddd6a3803575d45b129ebd3d3197f5644d4841c541471"
)
SALT = "a08ac4f005ab3bd52cdd5bc02fc602c7bf86969571db98214a5b10a3d6076949"


@pytest.mark.usefixtures("small_chunks")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200), pieces=st.integers(1, 70))
def test_any_content_comes_back_however_it_is_written(tmp_path: Path, content: bytes, pieces: int) -> None:
    data = sealed_file(tmp_path / "file", KEY, LABEL, content, pieces)
    assert unseal(tmp_path / "file", key=KEY, label=LABEL) == content
    assert len(data) == HEADER_BYTES + len(content) + -(-len(content) // 16) * TAG_BYTES


@pytest.mark.usefixtures("small_chunks")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_change_of_any_bytes_opens(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "file"
    raw = sealed_file(path, KEY, LABEL, bytes(range(90)))
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, len(raw)))
    changed = raw[:start] + data.draw(st.binary(max_size=40)) + raw[end:]
    path.write_bytes(changed)
    if changed != raw:
        with pytest.raises(CorruptStateError):
            unseal(path, key=KEY, label=LABEL)


@pytest.mark.usefixtures("small_chunks")
def test_chunks_cannot_be_exchanged_dropped_or_repeated(tmp_path: Path) -> None:
    path = tmp_path / "file"
    raw = sealed_file(path, KEY, LABEL, bytes(64))
    head, body = raw[:HEADER_BYTES], raw[HEADER_BYTES:]
    one, two, three, four = (body[start : start + 32] for start in range(0, 128, 32))
    short = head[:-8] + (48).to_bytes(8, "little")
    for forged in (head + two + one + three + four, head + one + one + three + four, short + one + two + three, short + one + two + four):
        path.write_bytes(forged)
        with pytest.raises(CorruptStateError, match="does not open"):
            unseal(path, key=KEY, label=LABEL)


def test_two_sealings_share_no_key_and_so_no_keystream(tmp_path: Path) -> None:
    one, two = (sealed_file(tmp_path / name, KEY, LABEL, bytes(100))[HEADER_BYTES:] for name in ("one", "two"))
    assert one != two


def test_the_format_of_sealed_files_and_keys_is_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed.os, "urandom", lambda count: bytes([7]) * count)
    data = sealed_file(tmp_path / "file", KEY, LABEL, b"a document")
    assert data.hex() == SEALED
    PoolKey.create(tmp_path / "key", secret=bytes(range(32)))
    assert (tmp_path / "key").read_bytes().hex() == KEY_FILE
    assert KEY.salt(bytes(32)).hex() == SALT


def test_what_is_announced_must_be_written(tmp_path: Path) -> None:
    sealer = Sealer(lambda _: None, key=KEY, label=LABEL, size_bytes=10)
    sealer.write(bytes(9))
    with pytest.raises(ValueError, match="9 bytes were written, 10 announced"):
        sealer.close()


@pytest.mark.parametrize("label", [Label(commitment=bytes([1]) * 32, shard="screen"), Label(commitment=bytes(32), shard="audit")])
def test_a_file_of_another_commitment_or_shard_does_not_open(tmp_path: Path, label: Label) -> None:
    sealed_file(tmp_path / "file", KEY, LABEL, bytes(100))
    with pytest.raises(CorruptStateError, match="was not sealed with the key"):
        unseal(tmp_path / "file", key=KEY, label=label)


def test_shards_that_were_exchanged_do_not_open(prepared: Prepared) -> None:
    shutil.copy2(prepared.hidden / "audit.sealed", prepared.hidden / "confirm.sealed")
    with pytest.raises(CorruptStateError, match="was not sealed with the key"):
        pool_in(prepared).contents("confirm")


def test_another_key_does_not_open(prepared: Prepared, tmp_path: Path) -> None:
    PoolKey.create(tmp_path / "other.key")
    pool = open_pool(prepared.hidden, key=tmp_path / "other.key", expect=prepared.commitment)
    with pytest.raises(CorruptStateError, match=r"other\.key") as caught:
        pool.contents("screen")
    assert caught.value.code == "OPS-DATA"
    assert [one.file for one in verify(prepared.hidden, key=tmp_path / "other.key")] == [sealed_name(name) for name in SHARDS]


def test_a_missing_key_leaves_the_shards_unchecked_and_says_so(prepared: Prepared) -> None:
    prepared.key.unlink()
    (finding,) = verify(prepared.hidden)
    assert finding.file == prepared.key.name
    assert "there is no key file" in finding.problem
    assert "not checked" in finding.problem


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(prepared: Prepared, mode: int) -> None:
    prepared.key.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600") as caught:
        pool_in(prepared)
    assert caught.value.code == "OPS-DATA"


@pytest.mark.parametrize("damage", [flip_at(0), flip_at(40), cut_by(1), lambda path: path.write_bytes(bytes(20_000))])
def test_a_damaged_key_is_refused_before_anything_is_opened(prepared: Prepared, damage: Damage) -> None:
    damage(prepared.key)
    with pytest.raises(CorruptStateError) as caught:
        pool_in(prepared)
    assert caught.value.code == "OPS-DATA"
    assert str(prepared.key) in caught.value.detail


def test_a_key_is_never_overwritten_and_never_shown(prepared: Prepared) -> None:
    with pytest.raises(ConfigurationError, match="never overwritten"):
        PoolKey.create(prepared.key)
    key = PoolKey.load(prepared.key)
    assert repr(key) == f"PoolKey({prepared.key})"
    assert not hasattr(key, "__dict__")


def test_salts_differ_by_document_and_by_key() -> None:
    other = PoolKey(Path("b.key"), bytes(32))
    assert len({KEY.salt(bytes(32)), KEY.salt(bytes([1]) * 32), other.salt(bytes(32)), KEY.file_key(bytes(32))}) == 4


def test_another_pool_than_the_rules_name_is_refused(prepared: Prepared) -> None:
    with pytest.raises(ConfigurationError, match="is expected") as caught:
        open_pool(prepared.hidden, key=prepared.key, expect=bytes(32))
    assert caught.value.code == "OPS-DATA"


@pytest.mark.parametrize("name", [MANIFEST, LEAVES])
def test_damaged_commitments_and_leaves_are_refused_by_name(prepared: Prepared, name: str) -> None:
    flip_at(-1)(prepared.hidden / name)
    with pytest.raises((ConfigurationError, CorruptStateError), match=name) as caught:
        pool_in(prepared)
    assert caught.value.code == "OPS-DATA"
    assert [one.file for one in verify(prepared.hidden, expect=prepared.commitment)] == [name]


def test_a_missing_shard_is_a_finding(prepared: Prepared) -> None:
    (prepared.hidden / "audit.sealed").unlink()
    (finding,) = verify(prepared.hidden)
    assert finding.file == "audit.sealed"
    assert "is missing" in finding.problem


def test_a_pool_of_another_tokenizer_is_not_scored(prepared: Prepared, tmp_path: Path, documents: list[Document]) -> None:
    other = prepare(tmp_path / "b" / "data", hidden=tmp_path / "b" / "hidden", vocabulary=300, documents=documents)
    with pytest.raises(ConfigurationError, match="was made with tokenizer") as caught:
        pool_in(prepared).documents("screen", open_data(tmp_path / "b" / "data", expect=other.digest()))
    assert caught.value.code == "OPS-DATA"


@pytest.mark.parametrize("key", ["hidden/key", "data/key", "hidden"])
def test_the_key_is_kept_apart_from_what_it_opens(tmp_path: Path, documents: list[Document], key: str) -> None:
    with pytest.raises(ConfigurationError, match="must be outside"):
        prepare(tmp_path / "data", hidden=tmp_path / "hidden", key=tmp_path / key, documents=documents)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory, documents: list[Document]) -> list[tuple[DataManifest, HiddenPool]]:
    """The pools of three validators of one corpus, with a key each."""
    root = tmp_path_factory.mktemp("pools")
    made = []
    for number in range(3):
        place = root / str(number)
        manifest = prepare(
            place / "data", hidden=place / "hidden", vocabulary=400, documents=documents, sub_pool=SubPool(number=number, count=3)
        )
        made.append((manifest, open_pool(place / "hidden", key=key_beside(place / "hidden"), expect=None)))
    return made


def digests_of(pool: HiddenPool) -> set[bytes]:
    return {row.tobytes() for name in SHARDS for row in pool.contents(name).index["digest"]}


def test_two_pools_never_share_a_document_and_together_they_are_all(
    pools: list[tuple[DataManifest, HiddenPool]], prepared: Prepared
) -> None:
    parts = [digests_of(pool) for _, pool in pools]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert set().union(*parts) == digests_of(pool_in(prepared))
    assert all(pool_of(document, 3) == number for number, part in enumerate(parts) for document in part)


def test_all_validators_have_the_same_public_data(pools: list[tuple[DataManifest, HiddenPool]], prepared: Prepared) -> None:
    assert {manifest.digest() for manifest, _ in pools} == {prepared.digest}
    assert [(pool.commitment.pool, pool.commitment.pools) for _, pool in pools] == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize("sub_pool", [SubPool(number=1, count=1), SubPool(number=-1, count=2), SubPool(number=0, count=0)])
def test_a_pool_that_does_not_exist_is_refused(tmp_path: Path, documents: list[Document], sub_pool: SubPool) -> None:
    with pytest.raises(ConfigurationError, match="there is no pool"):
        prepare(tmp_path / "data", hidden=tmp_path / "hidden", documents=documents, sub_pool=sub_pool)


def opened_subset(pool: HiddenPool) -> tuple[OpenedSubset, Drawn]:
    size = pool.commitment.shard("screen").documents
    subset = Subset(shard="screen", rotation=0)
    places = active_subset(beacon=BEACON, hotkey="5V", subset=subset, places=range(size), count=active_count(size))
    leaves = pool.leaves.shard("screen")
    drawn = Drawn(subset=subset, commitment=pool.commitment.digest(), places=places, leaves=tuple(leaves[one] for one in places))
    return pool.opened(pool.contents("screen"), places, hotkey="5V", subset=subset), drawn


def test_the_documents_of_a_rotation_can_be_opened_and_checked_by_everybody(prepared: Prepared) -> None:
    pool = pool_in(prepared)
    subset, drawn = opened_subset(pool)
    received = OpenedSubset.from_bytes(subset.to_bytes(), limit=MAX_OPENINGS_BYTES)
    commitment = pool_commitment(prepared.hidden)
    verify_opened(received, drawn, Committed(commitment=commitment, leaves=pool.leaves), hotkey="5V")
    tokenizer = open_tokenizer((prepared.data / "tokenizer.json").read_bytes(), vocabulary=400)
    verify_places(received, commitment, tokenizer=tokenizer, fractions=Fractions())


def test_opened_documents_of_another_pool_shard_or_split_are_found(prepared: Prepared) -> None:
    pool = pool_in(prepared)
    subset, _ = opened_subset(pool)
    tokenizer = open_tokenizer((prepared.data / "tokenizer.json").read_bytes(), vocabulary=400)
    commitment = pool.commitment

    def check(opened: OpenedSubset, against: object = commitment, hidden: float = Fractions().hidden) -> None:
        with pytest.raises(UntrustedInputError) as caught:
            verify_places(opened, against, tokenizer=tokenizer, fractions=Fractions(hidden=hidden))  # type: ignore[arg-type]
        assert caught.value.code == "OPN-PLACE"
        said.append(caught.value.detail)

    said: list[str] = []
    first = subset.openings[0]
    letters = b"".join(token.tobytes() for letter in "letters" for token in tokenizer.encode(letter).astype("<u2"))
    check(subset.model_copy(update={"subset": Subset(shard="audit", rotation=0)}))
    check(subset, commitment.model_copy(update={"pools": 7, "pool": 6}))
    check(subset, hidden=0.0)
    check(subset.model_copy(update={"openings": (first, first)}))
    check(subset.model_copy(update={"openings": (first.model_copy(update={"tokens": letters}),)}))
    ends = ["another pool or shard", "another pool or shard", "no hidden document", "in the shard twice", "not tokenized as its text is"]
    assert all(detail.endswith(end) for detail, end in zip(said, ends, strict=True)), said


@pytest.fixture
def newer() -> list[Document]:
    return [Document(source="docs", text=f"News of day {number}: " + f"it rained {number} times. " * 12) for number in range(600)]


def test_a_refresh_replaces_a_tenth_and_keeps_the_leaves_of_the_others(prepared: Prepared, tmp_path: Path, newer: list[Document]) -> None:
    old, data = pool_in(prepared), open_data(prepared.data, expect=prepared.digest)
    made = refresh(
        tmp_path / "new",
        old,
        tokenizer=open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary),
        documents=newer,
        fractions=Fractions(),
    )
    new = open_pool(tmp_path / "new", key=prepared.key, expect=made.digest())
    assert (made.refresh, made.previous) == (1, prepared.commitment)
    changes = verify_refresh(old.commitment, old.leaves, new.commitment, new.leaves)
    for change, shard in zip(changes, old.commitment.shards, strict=True):
        assert len(change.removed) == len(change.added) == -(-shard.documents // 10)
        assert len(change.stayed) == shard.documents - len(change.removed)
    texts = {document_digest(document.text) for document in newer}
    assert len(digests_of(new) & texts) == sum(len(change.added) for change in changes)
    assert verify(tmp_path / "new", key=prepared.key) == []
    assert shared_documents(prepared.data, tmp_path / "new", key=prepared.key) == 0
    digests = new.documents("screen", data).index["digest"].tolist()
    assert digests == sorted(digests)


def test_a_refresh_repeats_and_leaves_the_old_pool_alone(prepared: Prepared, tmp_path: Path, newer: list[Document]) -> None:
    old, data = pool_in(prepared), open_data(prepared.data, expect=prepared.digest)
    one, two = (
        refresh(
            tmp_path / name,
            old,
            tokenizer=open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary),
            documents=newer,
            fractions=Fractions(),
        )
        for name in ("one", "two")
    )
    assert one == two
    assert verify(prepared.hidden, expect=prepared.commitment) == []
    with pytest.raises(ConfigurationError, match="another directory"):
        refresh(
            prepared.hidden,
            old,
            tokenizer=open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary),
            documents=newer,
            fractions=Fractions(),
        )


def test_too_little_or_foreign_text_does_not_refresh(prepared: Prepared, tmp_path: Path, newer: list[Document]) -> None:
    old, data = pool_in(prepared), open_data(prepared.data, expect=prepared.digest)
    with pytest.raises(ConfigurationError, match="add newer text") as caught:
        refresh(
            tmp_path / "new",
            old,
            tokenizer=open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary),
            documents=newer[:20],
            fractions=Fractions(),
        )
    assert caught.value.code == "OPS-DATA"
    with pytest.raises(ConfigurationError, match="no source 'news'"):
        refresh(
            tmp_path / "new",
            old,
            tokenizer=open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary),
            documents=[Document(source="news", text="x" * 300)],
            fractions=Fractions(),
        )
    assert not (tmp_path / "new").exists()
