import errno
import hashlib
import os
import resource
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.errors import InfrastructureError, StoreUnavailable, UntrustedInputError
from ralph.store.directory import MAX_NAMED_BYTES, DirectoryStore

DATA = b"weights" * 1_000
DIGEST = hashlib.sha256(DATA).digest()
SEGMENT = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)

WRITER = """
import sys
from contextlib import suppress
from pathlib import Path
from ralph.store.directory import DirectoryStore
store = DirectoryStore(Path(sys.argv[1]))
me = sys.argv[2].encode()
for number in range(40):
    store.put(b"%d" % number * 1000)
    store.put_named("head", me * 50_000)
    assert store.get_named("head", limit=50_000) in (b"a" * 50_000, b"b" * 50_000)
"""
HANGING_WRITER = """
import os, sys
from pathlib import Path
from ralph.store.directory import DirectoryStore
real = os.fsync
def fsync(descriptor):
    print("writing", flush=True)
    sys.stdin.read()
    real(descriptor)
os.fsync = fsync
DirectoryStore(Path(sys.argv[1])).put_named("slow", b"x")
"""


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def object_path(root: Path, digest: bytes) -> Path:
    name = digest.hex()
    return root / "store" / "objects" / name[:2] / name[2:]


def spawn(script: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def code_of(call: object, *arguments: object, **keywords: object) -> str:
    with pytest.raises(UntrustedInputError) as error:
        call(*arguments, **keywords)  # type: ignore[operator]
    return error.value.code


def test_what_is_put_is_found_under_its_sha256(store: DirectoryStore, tmp_path: Path) -> None:
    assert store.put(DATA) == DIGEST
    assert store.has(DIGEST)
    assert store.get(DIGEST, limit=len(DATA)) == DATA
    assert DirectoryStore(tmp_path / "store").get(DIGEST, limit=len(DATA)) == DATA


def test_an_empty_object_is_an_object(store: DirectoryStore) -> None:
    assert store.get(store.put(b""), limit=0) == b""


def test_a_mapped_object_is_what_get_returns_and_cannot_be_written(store: DirectoryStore) -> None:
    for data in (DATA, b""):
        mapped = store.map(store.put(memoryview(data)), limit=len(data))
        assert mapped == data
        assert mapped.readonly


def test_a_mapped_object_is_checked_like_any_other(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        store.map(DIGEST, limit=len(DATA))
    store.put(DATA)
    assert code_of(store.map, DIGEST, limit=len(DATA) - 1) == "INT-SIZE"
    object_path(tmp_path, DIGEST).write_bytes(b"X" + DATA[1:])
    assert code_of(store.map, DIGEST, limit=len(DATA)) == "INT-HASH"


def test_what_was_never_put_is_unavailable(store: DirectoryStore) -> None:
    assert not store.has(DIGEST)
    with pytest.raises(StoreUnavailable):
        store.get(DIGEST, limit=10)
    with pytest.raises(StoreUnavailable):
        store.get_named("nothing", limit=10)


def test_an_object_over_the_readers_limit_is_refused(store: DirectoryStore) -> None:
    store.put(DATA)
    assert code_of(store.get, DIGEST, limit=len(DATA) - 1) == "INT-SIZE"


def test_a_sparse_giant_is_refused_before_it_is_read(store: DirectoryStore, tmp_path: Path) -> None:
    store.put(DATA)
    os.truncate(object_path(tmp_path, DIGEST), 1 << 40)
    assert code_of(store.get, DIGEST, limit=1 << 20) == "INT-SIZE"


def test_an_object_over_the_stores_limit_is_refused(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store", max_object_bytes=10)
    store.put(bytes(10))
    assert code_of(store.put, bytes(11)) == "INT-SIZE"


@pytest.mark.parametrize("damage", [b"", DATA[:-1], DATA + b"x", b"X" + DATA[1:]])
def test_other_bytes_under_the_name_are_refused_and_healed_by_the_next_put(store: DirectoryStore, tmp_path: Path, damage: bytes) -> None:
    store.put(DATA)
    object_path(tmp_path, DIGEST).write_bytes(damage)
    assert code_of(store.get, DIGEST, limit=len(DATA) + 1) == "INT-HASH"
    store.put(DATA)
    assert store.get(DIGEST, limit=len(DATA)) == DATA


def test_a_link_is_never_followed(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(DATA)
    store.put(DATA)
    path = object_path(tmp_path, DIGEST)
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    assert code_of(store.get, DIGEST, limit=len(DATA)) == "INT-HASH"
    assert not store.has(DIGEST)
    (tmp_path / "store" / "names" / "head").symlink_to(tmp_path / "secret")
    assert code_of(store.get_named, "head", limit=len(DATA)) == "INT-HASH"


def test_a_directory_that_became_a_link_is_never_followed(store: DirectoryStore, tmp_path: Path) -> None:
    store.put(DATA)
    shard = object_path(tmp_path, DIGEST).parent
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    assert code_of(store.get, DIGEST, limit=len(DATA)) == "INT-HASH"
    assert code_of(store.put, DATA) == "INT-HASH"


def test_putting_over_a_link_replaces_the_link_and_not_its_target(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "store" / "names" / "head").symlink_to(tmp_path / "victim")
    store.put_named("head", b"new")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert store.get_named("head", limit=3) == b"new"


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket"])
def test_what_is_no_regular_file_is_refused_without_waiting_for_it(store: DirectoryStore, tmp_path: Path, kind: str, monkeypatch) -> None:
    store.put(DATA)
    path = object_path(tmp_path, DIGEST)
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        monkeypatch.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    assert code_of(store.get, DIGEST, limit=len(DATA)) == "INT-HASH"
    assert not store.has(DIGEST)


def test_a_name_is_replaced_in_one_step(store: DirectoryStore) -> None:
    store.put_named("head", b"one")
    store.put_named("head", b"two")
    assert store.get_named("head", limit=3) == b"two"
    assert code_of(store.get_named, "head", limit=2) == "INT-SIZE"


def test_names_do_not_get_into_each_others_way(store: DirectoryStore) -> None:
    names = ["a", "a/b", "a/b/c", "a-b", "a.b", "A"]
    for name in names:
        store.put_named(name, name.encode())
    assert [store.get_named(name, limit=10) for name in names] == [name.encode() for name in names]


def test_a_named_reference_is_small(store: DirectoryStore) -> None:
    store.put_named("big", bytes(MAX_NAMED_BYTES))
    assert code_of(store.put_named, "big", bytes(MAX_NAMED_BYTES + 1)) == "INT-SIZE"


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/../b", "/a", "a/", "a//b", ".hidden", "a/.b", "-a", "a b", "a\n", "a\x00", "ä", "a%b", "a\\b", "x" * 201],
)
def test_a_name_outside_the_syntax_is_refused(store: DirectoryStore, name: str) -> None:
    assert code_of(store.put_named, name, b"") == "INT-SCHEMA"
    assert code_of(store.get_named, name, limit=1) == "INT-SCHEMA"


@given(st.lists(SEGMENT, min_size=1, max_size=6).map("/".join))
def test_every_name_within_the_syntax_is_one_file_in_the_directory_of_names(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.mktemp("names")
    store = DirectoryStore(root)
    store.put_named(name, b"value")
    assert store.get_named(name, limit=5) == b"value"
    assert len(list((root / "names").iterdir())) == 1


@given(st.text(max_size=20))
def test_no_name_leaves_the_store(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.mktemp("names")
    store = DirectoryStore(root / "store")
    with suppress(UntrustedInputError):
        store.put_named(name, b"value")
    files = [path for path in root.rglob("*") if path.is_file()]
    assert all(path.parent == root / "store" / "names" for path in files)


@given(st.binary(max_size=40).filter(lambda value: len(value) != 32))
def test_a_digest_has_32_bytes(tmp_path_factory: pytest.TempPathFactory, digest: bytes) -> None:
    store = DirectoryStore(tmp_path_factory.getbasetemp() / "digests")
    assert code_of(store.get, digest, limit=1) == "INT-SCHEMA"
    assert code_of(store.has, digest) == "INT-SCHEMA"


def test_a_file_too_large_for_the_disk_is_our_fault_and_leaves_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(InfrastructureError) as error:
            store.put(DATA)
        with pytest.raises(InfrastructureError):
            store.put_named("head", DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.code == "OPS-DISK"
    assert os.strerror(errno.EFBIG) in error.value.detail
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert store.put(DATA) == DIGEST


def test_temp_files_are_not_written_through_a_link(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "store" / "tmp").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store" / "tmp").symlink_to(tmp_path / "elsewhere")
    assert code_of(store.put, DATA) == "INT-HASH"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_two_processes_write_the_same_names_and_no_reader_sees_half_a_file(store: DirectoryStore, tmp_path: Path) -> None:
    processes = [spawn(WRITER, str(tmp_path / "store"), me) for me in "ab"]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    for number in range(40):
        data = b"%d" % number * 1000
        assert store.get(hashlib.sha256(data).digest(), limit=10_000) == data
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_the_temp_file_of_a_killed_writer_is_swept_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    root = tmp_path / "store"
    process = spawn(HANGING_WRITER, str(root))
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    store = DirectoryStore(root)
    assert len(list((root / "tmp").iterdir())) == 1
    process.kill()
    process.communicate()
    with pytest.raises(StoreUnavailable):
        store.get_named("slow", limit=1)
    DirectoryStore(root)
    assert list((root / "tmp").iterdir()) == []


def test_litter_in_the_directory_of_temp_files_stops_nobody(store: DirectoryStore, tmp_path: Path) -> None:
    litter = tmp_path / "store" / "tmp"
    (litter / "directory").mkdir()
    (litter / "link").symlink_to(tmp_path)
    os.mkfifo(litter / "fifo")
    assert DirectoryStore(tmp_path / "store").put(DATA) == DIGEST


def test_a_store_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((StoreUnavailable, UntrustedInputError)):
        DirectoryStore(tmp_path / "file" / "store")


def test_objects_are_regular_files_that_only_their_owner_writes(store: DirectoryStore, tmp_path: Path) -> None:
    store.put(DATA)
    mode = object_path(tmp_path, DIGEST).stat().st_mode
    assert stat.S_ISREG(mode)
    assert not stat.S_IMODE(mode) & 0o022


def test_a_private_store_lets_nobody_else_in_also_where_it_was_open_before(tmp_path: Path) -> None:
    DirectoryStore(tmp_path / "store")
    assert (tmp_path / "store").stat().st_mode & 0o055
    DirectoryStore(tmp_path / "store", private=True)
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
