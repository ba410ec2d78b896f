"""Corpora other than the standard library: text files, a data set in Parquet files, GPT-2's tokenizer."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ralph.data.gpt2 import ENCODER, MERGES, RANKS, load_gpt2
from ralph.data.hub import HubCorpus, hub_corpus
from ralph.data.partition import Fractions, document_digest
from ralph.data.shards import open_data, prepare
from ralph.data.textfiles import text_files
from ralph.data.tokenizer import Tokenizer, open_tokenizer
from ralph.data.verify import verify
from ralph.errors import ConfigurationError

TEXTS = [f"Document {number} says: {'word ' * (number % 7 + 1)}and 数字 {number * number}.\n" * 8 for number in range(300)]
TEST_DATA = Path(os.environ["RALPH_TEST_DATA"]) if "RALPH_TEST_DATA" in os.environ else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "text"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("".join(f"{text}\n\n" for text in TEXTS[:100]), encoding="utf-8")
    (root / "sub" / "b.jsonl").write_text("".join(json.dumps({"text": text, "id": 1}) + "\n" for text in TEXTS[100:]), encoding="utf-8")
    (root / "sub" / "picture.png").write_bytes(b"\x89PNG")
    return root


def test_text_files_become_documents_of_named_sources(folder: Path) -> None:
    corpus = text_files({"prose": [folder / "a.txt"], "notes": [folder / "sub"]})
    found = list(corpus.documents(0))
    assert {one.source for one in found} == {"prose", "notes"}
    assert [one.text for one in found if one.source == "notes"] == TEXTS[100:]
    assert "".join(one.text for one in found if one.source == "prose").split() == "".join(TEXTS[:100]).split()
    assert list(corpus.documents(7)) == found[7:]
    assert str(folder) not in corpus.name


def test_a_file_that_is_one_line_is_cut_into_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ralph.data.textfiles.MAX_LINE", 2000)
    (tmp_path / "a.txt").write_text("word " * 1000, encoding="utf-8")
    assert [len(document.text) for document in text_files({"text": [tmp_path]}).documents(0)] == [2000, 2000, 1000]


def test_a_changed_file_is_another_corpus(folder: Path) -> None:
    before = text_files({"text": [folder]}).identity
    assert text_files({"text": [folder]}).identity == before
    (folder / "a.txt").write_text("something else", encoding="utf-8")
    assert text_files({"text": [folder]}).identity != before


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("bad.txt", b"\xff\xfe", "not UTF-8"),
        ("bad.jsonl", b"[1]\n", "line 1"),
        ("bad.jsonl", b'{"text": "fine"}\n{"text": 3}\n', "line 2: 'text' is no string"),
        ("bad.jsonl", b"[" * 100_000 + b"\n", "line 1"),
    ],
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigurationError, match=rf"{name}.*{problem}"):
        list(text_files({"text": [tmp_path]}).documents(0))


@pytest.mark.parametrize("name", ["My Source", "", "val/../x", "a" * 33, "9lives"])
def test_a_source_that_no_manifest_can_name_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="no name of a source"):
        text_files({name: [folder]})


def test_a_place_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no files that end in"):
        text_files({"text": [tmp_path]})
    with pytest.raises(ConfigurationError, match="does not exist"):
        text_files({"text": [tmp_path / "nowhere"]})


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    root.mkdir()
    for number, part in enumerate((TEXTS[:120], TEXTS[120:])):
        table = pa.table({"text": part, "score": [0.5] * len(part)})
        pq.write_table(table, root / f"train-{number:05d}.parquet", row_group_size=50)
    return root


def test_a_data_set_is_streamed_in_its_order_from_any_place(parquet: Path) -> None:
    corpus = HubCorpus(dataset=str(parquet), subset=None, revision=None)
    assert [one.text for one in corpus.documents(0)] == TEXTS
    assert [one.text for one in corpus.documents(130)] == TEXTS[130:]
    limited = HubCorpus(dataset=str(parquet), subset=None, revision=None, limit=140)
    assert [one.text for one in limited.documents(130)] == TEXTS[130:140]
    assert list(limited.documents(200)) == []


def test_a_commit_is_the_identity_of_a_data_set() -> None:
    pinned = hub_corpus("owner/set", subset="part", revision="0" * 39 + "1", limit=5)
    assert pinned.revision == "0" * 39 + "1"
    assert pinned.name == f"owner/set at {pinned.revision}, part, train, first 5 documents"
    assert pinned.identity == pinned.name


def test_a_data_set_without_text_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        list(HubCorpus(dataset=str(tmp_path), subset=None, revision=None).documents(0))


MERGES_HERE = TEST_DATA is not None and (TEST_DATA / "gpt2_bpe" / MERGES).is_file()


def needs_merges(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test as one that downloads GPT-2's merges, unless RALPH_TEST_DATA has them."""
    return test if MERGES_HERE else pytest.mark.online(test)


@pytest.fixture(scope="module")
def gpt2() -> Tokenizer:
    return load_gpt2(TEST_DATA / "gpt2_bpe" if MERGES_HERE else None)


@needs_merges
def test_gpt2_tokens_are_gpt2s_ranks_plus_one(gpt2: Tokenizer) -> None:
    assert gpt2.vocabulary == RANKS + 1
    assert list(gpt2.encode("Hello world")) == [15496 + 1, 995 + 1]
    assert list(gpt2.encode("<|endoftext|>")) == [token + 1 for token in (27, 91, 437, 1659, 5239, 91, 29)]
    for text in [*TEXTS[:5], "naïve café ☃ 🜁", "\x00\x01 \u2028"]:
        tokens = gpt2.encode(text)
        assert gpt2.decode(tokens) == text
        assert gpt2.token_bytes[tokens].sum() == len(text.encode())
        assert tokens.min() > 0


@needs_merges
def test_gpt2_survives_its_own_file(gpt2: Tokenizer) -> None:
    again = open_tokenizer(gpt2.to_bytes(), vocabulary=gpt2.vocabulary)
    assert list(again.encode(TEXTS[3])) == list(gpt2.encode(TEXTS[3]))


@needs_merges
def test_data_with_gpt2_tokens_verify(tmp_path: Path, folder: Path, gpt2: Tokenizer) -> None:
    manifest = prepare(tmp_path / "data", hidden=tmp_path / "hidden", corpus=text_files({"text": [folder]}), tokenizer=gpt2)
    assert manifest.vocabulary == RANKS + 1
    assert verify(tmp_path / "data", expect=manifest.digest()) == []
    data = open_data(tmp_path / "data", expect=manifest.digest())
    assert int(data.streams["text"][0].max()) > 512


def test_other_merges_than_gpt2s_are_refused(tmp_path: Path) -> None:
    (tmp_path / MERGES).write_text("#version: 0.2\na b\n", encoding="utf-8")
    (tmp_path / ENCODER).write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_gpt2(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_gpt2(tmp_path / "nowhere")


def test_the_number_of_processes_changes_no_byte(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ralph.data.spool.LEAF_BYTES", 4096)
    made = {}
    for workers in (1, 3):
        out = tmp_path / str(workers)
        made[workers] = prepare(out / "data", hidden=out / "hidden", vocabulary=300, corpus=text_files({"text": [folder]}), workers=workers)
    assert made[1] == made[3]


def test_a_corpus_in_one_bucket_and_one_in_many_are_the_same_data(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = text_files({"text": [folder]})
    whole = prepare(tmp_path / "a" / "data", hidden=tmp_path / "a" / "hidden", vocabulary=300, corpus=corpus)
    monkeypatch.setattr("ralph.data.spool.LEAF_BYTES", 100)
    monkeypatch.setattr("ralph.data.spool.BUFFER_BYTES", 5000)
    dealt = prepare(tmp_path / "b" / "data", hidden=tmp_path / "b" / "hidden", vocabulary=300, corpus=corpus)
    assert whole == dealt


def test_a_text_that_is_repeated_for_ever_is_read_once(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ralph.data.spool.LEAF_BYTES", 1000)
    (folder / "z.jsonl").write_text((json.dumps({"text": TEXTS[150]}) + "\n") * 50, encoding="utf-8")
    fractions = Fractions(hidden=0.3, validation=0.1)
    manifest = prepare(
        tmp_path / "data", hidden=tmp_path / "hidden", vocabulary=300, corpus=text_files({"text": [folder]}), fractions=fractions
    )
    data = open_data(tmp_path / "data", expect=manifest.digest())
    index = manifest.sources[0].shards[0].index
    rows = (data.directory / index.name).read_bytes()
    assert rows.count(document_digest(TEXTS[150])) <= 1
    assert hashlib.sha256(rows).digest() == index.sha256
