import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from ralph.data.corpora import Document
from ralph.data.layout import map_shard, map_token_bytes
from ralph.data.partition import Progress, document_digest
from ralph.data.shards import DataManifest, data_manifest, open_data, open_pool, pool_commitment, prepare
from ralph.data.tokenizer import open_tokenizer
from ralph.data.verify import shared_documents, verify
from ralph.errors import ConfigurationError, InfrastructureError
from ralph.protocol.pool import SHARDS

from .conftest import Prepared


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_two_preparations_of_the_same_documents_with_one_key_are_the_same_but_for_how_they_are_sealed(
    tmp_path: Path, documents: list[Document]
) -> None:
    key = tmp_path / "key"
    for name in ("one", "two"):
        prepare(tmp_path / name / "data", hidden=tmp_path / name / "hidden", vocabulary=400, documents=iter(documents), key=key)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    sealed = {f"hidden/{name}.sealed" for name in SHARDS}
    assert {name for name in one if one[name] != two[name]} == sealed
    assert one.keys() == two.keys()
    assert {name: len(one[name]) for name in sealed} == {name: len(two[name]) for name in sealed}


def test_another_key_commits_to_the_same_documents_under_other_leaves(
    tmp_path: Path, documents: list[Document], prepared: Prepared
) -> None:
    prepare(tmp_path / "b" / "data", hidden=tmp_path / "b" / "hidden", vocabulary=400, documents=documents)
    one, two = pool_commitment(prepared.hidden), pool_commitment(tmp_path / "b" / "hidden")
    assert [shard.sources for shard in one.shards] == [shard.sources for shard in two.shards]
    assert not {shard.root for shard in one.shards} & {shard.root for shard in two.shards}


def test_a_new_preparation_uses_the_key_that_is_there(tmp_path: Path, documents: list[Document], prepared: Prepared) -> None:
    secret = prepared.key.read_bytes()
    prepare(prepared.data, hidden=prepared.hidden, vocabulary=400, documents=documents)
    assert prepared.key.read_bytes() == secret
    assert pool_commitment(prepared.hidden).digest() == prepared.commitment


def test_the_order_in_which_documents_arrive_does_not_matter(tmp_path: Path, documents: list[Document], prepared: Prepared) -> None:
    again = prepare(tmp_path / "b" / "data", hidden=tmp_path / "b" / "hidden", vocabulary=400, documents=reversed(documents * 2))
    assert again == prepared.manifest


def test_every_distinct_document_is_in_exactly_one_split_under_the_digest_of_its_text(
    documents: list[Document], prepared: Prepared
) -> None:
    pool = open_pool(prepared.hidden, key=prepared.key, expect=prepared.commitment)
    tokenizer = open_tokenizer((prepared.data / "tokenizer.json").read_bytes(), vocabulary=400)
    found: list[bytes] = []
    token_bytes = map_token_bytes(prepared.data, prepared.manifest)
    public = [map_shard(prepared.data, shard, token_bytes=token_bytes, sources=2) for shard in prepared.manifest.shards()]
    hidden = [(contents.tokens, contents.index) for contents in map(pool.contents, SHARDS)]
    for tokens, index in [*public, *hidden]:
        for record in index:
            start = int(record["offset"])
            text = tokenizer.decode(tokens[start : start + int(record["tokens"])])
            assert document_digest(text) == record["digest"].tobytes()
            assert len(text.encode()) == record["bytes"]
            found.append(document_digest(text))
    assert sorted(found) == sorted({document_digest(document.text) for document in documents})
    assert shared_documents(prepared.data, prepared.hidden) == 0


def test_the_hidden_pool_is_for_its_owner_only(prepared: Prepared) -> None:
    assert stat.S_IMODE(prepared.hidden.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in [prepared.key, *prepared.hidden.iterdir()]} == {0o600}


def test_the_same_text_in_two_sources_counts_once(tmp_path: Path, documents: list[Document], prepared: Prepared) -> None:
    copies = [Document(source="copies", text=document.text) for document in documents]
    hidden = tmp_path / "b" / "hidden"
    manifest = prepare(tmp_path / "b" / "data", hidden=hidden, vocabulary=400, documents=[*documents, *copies], key=prepared.key)
    counts = {source.name: sum(shard.document_count for shard in source.shards) for source in manifest.sources}
    before = {source.name: sum(shard.document_count for shard in source.shards) for source in prepared.manifest.sources}
    assert counts == {**before, "copies": 0}
    assert [shard.root for shard in pool_commitment(hidden).shards] == [shard.root for shard in pool_commitment(prepared.hidden).shards]


def test_a_text_without_utf8_and_an_empty_one_are_left_out(tmp_path: Path, documents: list[Document], prepared: Prepared) -> None:
    odd = [Document(source="docs", text="lone \ud800 surrogate"), Document(source="docs", text="")]
    manifest = prepare(tmp_path / "b" / "data", hidden=tmp_path / "b" / "hidden", vocabulary=400, documents=[*odd, *documents])
    assert manifest == prepared.manifest


def test_a_large_source_is_split_into_shards_that_together_hold_the_same_stream(
    tmp_path: Path, documents: list[Document], prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ralph.data.writer.SHARD_TOKENS", 10_000)
    manifest = prepare(tmp_path / "b" / "data", hidden=tmp_path / "b" / "hidden", vocabulary=400, documents=documents)
    many, one = open_data(tmp_path / "b" / "data", expect=manifest.digest()), open_data(prepared.data, expect=prepared.digest)
    assert len(many.streams["code"]) > 3
    assert np.array_equal(np.concatenate(many.streams["code"]), one.streams["code"][0])


def test_progress_names_its_stages_in_order_and_ends_complete(tmp_path: Path, documents: list[Document]) -> None:
    seen: list[Progress] = []
    prepare(tmp_path / "data", hidden=tmp_path / "hidden", vocabulary=400, documents=documents, progress=seen.append)
    stages = [progress.stage for progress in seen]
    assert stages == sorted(stages, key=["read", "tokenizer", "encode", "write"].index)
    assert seen[-1].done == seen[-1].total


def test_a_new_preparation_replaces_an_old_one(documents: list[Document], prepared: Prepared) -> None:
    manifest = prepare(prepared.data, hidden=prepared.hidden, vocabulary=300, documents=documents)
    assert manifest.vocabulary == 300
    assert verify(prepared.data, expect=manifest.digest()) == []
    assert {path.name for path in prepared.data.parent.iterdir()} == {"data", "hidden", "hidden.key"}


@pytest.mark.parametrize("stage", ["read", "tokenizer", "encode", "write"])
def test_an_interrupted_preparation_leaves_the_old_data_and_nothing_else(documents: list[Document], prepared: Prepared, stage: str) -> None:
    before = contents(prepared.data.parent)

    def interrupt(progress: Progress) -> None:
        if progress.stage == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(prepared.data, hidden=prepared.hidden, vocabulary=300, documents=documents, progress=interrupt)
    assert contents(prepared.data.parent) == before
    assert {path.name for path in prepared.data.parent.iterdir()} == {"data", "hidden", "hidden.key"}


SLOW_PREPARE = """
import sys
from pathlib import Path
from ralph.data.corpora import Document
from ralph.data.shards import prepare

def wait(progress):
    if progress.stage == "encode":
        print("encoding", flush=True)
        sys.stdin.read()

texts = (Document(source="docs", text=f"document number {number} " * 20) for number in range(100))
prepare(Path(sys.argv[1], "data"), hidden=Path(sys.argv[1], "hidden"), vocabulary=300, documents=texts, progress=wait)
"""


@contextmanager
def slow_preparation(directory: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SLOW_PREPARE, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "encoding\n"
            yield process
        finally:
            process.kill()


def test_a_killed_preparation_leaves_no_data_and_the_next_one_clears_up(tmp_path: Path, documents: list[Document]) -> None:
    with slow_preparation(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "hidden").exists()
    manifest = prepare(tmp_path / "data", hidden=tmp_path / "hidden", vocabulary=400, documents=documents)
    assert verify(tmp_path / "data", expect=manifest.digest()) == []
    assert verify(tmp_path / "hidden") == []
    assert {path.name for path in tmp_path.iterdir()} == {"data", "hidden", "hidden.key"}


def test_a_second_preparation_of_the_same_directory_is_refused_while_the_first_one_runs(tmp_path: Path, documents: list[Document]) -> None:
    with slow_preparation(tmp_path) as process:
        with pytest.raises(InfrastructureError, match="another process"):
            prepare(tmp_path / "data", hidden=tmp_path / "hidden", vocabulary=400, documents=documents)
        process.communicate("")
        assert process.returncode == 0
    assert verify(tmp_path / "data") == []


def test_data_set_aside_by_a_killed_replacement_come_back(documents: list[Document], prepared: Prepared) -> None:
    prepared.data.rename(prepared.data.with_name(".data.replaced"))

    def fail() -> Iterator[Document]:
        yield documents[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(prepared.data, hidden=prepared.hidden, vocabulary=300, documents=fail())
    assert verify(prepared.data, expect=prepared.digest) == []
    assert not prepared.data.with_name(".data.replaced").exists()


def test_a_directory_that_holds_something_else_is_never_replaced(tmp_path: Path, documents: list[Document]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("the only copy")
    with pytest.raises(ConfigurationError, match="holds no prepared data"):
        prepare(tmp_path / "data", hidden=tmp_path / "hidden", documents=documents)
    assert contents(tmp_path) == {"data/thesis.txt": b"the only copy"}


@pytest.mark.parametrize(("out", "hidden"), [("a", "a"), ("a", "a/hidden"), ("a/data", "a")])
def test_a_hidden_pool_inside_the_public_data_is_refused(tmp_path: Path, documents: list[Document], out: str, hidden: str) -> None:
    with pytest.raises(ConfigurationError, match="separate directories"):
        prepare(tmp_path / out, hidden=tmp_path / hidden, documents=documents)
    assert list(tmp_path.iterdir()) == []


def test_too_few_documents_are_refused_with_their_number(tmp_path: Path, documents: list[Document]) -> None:
    with pytest.raises(ConfigurationError, match="1 distinct documents") as caught:
        prepare(tmp_path / "data", hidden=tmp_path / "hidden", documents=documents[:1] * 9)
    assert caught.value.code == "OPS-DATA"
    assert list(tmp_path.iterdir()) == []


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """A disk of 128 KiB; where mounting one is not allowed, the limit on file sizes, which fails alike."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=131072", "tmpfs", str(directory)]
    if os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", str(directory)], check=True)
    else:
        with small_files(131072 // 4):
            yield


@pytest.mark.parametrize("limit", [small_disk, lambda directory: small_files(32768)], ids=["disk", "file"])
def test_a_full_disk_is_ours_and_leaves_nothing(
    tmp_path: Path, documents: list[Document], limit: Callable[[Path], AbstractContextManager[None]]
) -> None:
    disk = tmp_path / "disk"
    with limit(disk):
        with pytest.raises(InfrastructureError, match="no room to write") as caught:
            prepare(disk / "data", hidden=disk / "hidden", vocabulary=400, documents=documents)
        assert caught.value.code == "OPS-DISK"
        assert list(disk.iterdir()) == []


def test_the_standard_library_is_large_enough_and_counts_true_bytes(tmp_path: Path) -> None:
    manifest: DataManifest = prepare(tmp_path / "data", hidden=tmp_path / "hidden")
    hidden = pool_commitment(tmp_path / "hidden")
    assert data_manifest(tmp_path / "data") == manifest
    assert manifest.source_names == ("code", "docs")
    assert sum(shard.token_count for source in manifest.sources for shard in source.shards) >= 1_000_000
    assert sum(shard.documents for shard in hidden.shards) >= 2500
    assert hidden.shard("confirm").documents >= 1400
    assert manifest.validation.document_count >= 200
    assert shared_documents(tmp_path / "data", tmp_path / "hidden") == 0
    pool = open_pool(tmp_path / "hidden", key=tmp_path / "hidden.key", expect=hidden.digest())
    rows = pool.documents("confirm", open_data(tmp_path / "data", expect=manifest.digest())).rows(1400, 64)
    assert set(rows.sources) == {"code", "docs"}
    assert rows.lengths.mean() > 60
