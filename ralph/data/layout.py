"""What a directory of prepared data looks like, and how its files are opened.

Every file is compared with the size and the SHA-256 of its manifest before a byte of it is used, and the
hash is taken over the very mapping that is used afterwards. What does not match is refused with OPS-DATA
and a sentence that names the file and the way out.
"""

import hashlib
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ralph.errors import ConfigurationError, CorruptStateError, InfrastructureError, RalphError, UntrustedInputError
from ralph.protocol.data import MAX_MANIFEST_BYTES, DataManifest, Shard, StoredFile
from ralph.protocol.pool import PoolCommitment, ShardName

Tokens = npt.NDArray[np.uint16]
Index = npt.NDArray[np.void]
Manifest = TypeVar("Manifest", DataManifest, PoolCommitment)

MANIFEST = "manifest.cbor"
"""A DataManifest, or in the directory of a hidden pool its PoolCommitment."""
TOKENIZER = "tokenizer.json"
LENGTHS = "token_bytes.bin"
FILLER = "filler.bin"
VALIDATION = "val"
LEAVES = "leaves.cbor"
CODE = "OPS-DATA"

TOKEN_DTYPE = np.dtype("<u2")
INDEX = np.dtype([("digest", "u1", (32,)), ("offset", "<u8"), ("tokens", "<u4"), ("bytes", "<u4"), ("source", "<u2")])
"""One record per document: digest of its text, place of its first token (its BOS is the token before),
tokens, UTF-8 bytes, and the number of its source in the manifest's order. Records are sorted by digest."""


def sealed_name(shard: ShardName) -> str:
    """Return the file of a sealed shard of a hidden pool."""
    return f"{shard}.sealed"


def train_name(source: str, number: int) -> str:
    """Return the stem of a training shard."""
    return f"train-{source}-{number:04d}"


def problem_of(error: RalphError, directory: Path) -> str:
    """Return an error about data without the advice at its end."""
    return error.detail.removesuffix(f"; {way_out(directory)}")


def way_out(directory: Path) -> str:
    """Return the end of every message about bad data."""
    return f"run `ralph data verify {directory}` to list what differs, then `ralph data prepare` to build it again"


def read_manifest(directory: Path, kind: type[Manifest], *, expect: bytes | None = None) -> Manifest:
    """Read the manifest of ``directory``.

    Args:
        directory: Where the data is.
        kind: DataManifest or PoolCommitment.
        expect: Digest that the manifest must have; None only where the digest is what one wants to learn.

    Raises:
        ConfigurationError: OPS-DATA, no manifest here or another one than expected.
        CorruptStateError: OPS-DATA, not a manifest of this release.
    """
    path = directory / MANIFEST
    with read_errors(path, directory), path.open("rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    found = hashlib.sha256(data).digest()
    if expect is not None and found != expect:
        detail = f"{path} has digest {found.hex()[:16]}, but {expect.hex()[:16]} is expected: other data; {way_out(directory)}"
        raise ConfigurationError(detail, code=CODE)
    try:
        return kind.from_bytes(data, limit=MAX_MANIFEST_BYTES)
    except UntrustedInputError as error:
        detail = f"{path} is not a {kind.__name__} of this release ({error.detail}); {way_out(directory)}"
        raise CorruptStateError(detail, code=CODE) from error


def map_file(directory: Path, entry: StoredFile) -> npt.NDArray[np.uint8]:
    """Map a file into memory, verified, read-only.

    Raises:
        ConfigurationError: OPS-DATA, missing or unreadable.
        CorruptStateError: OPS-DATA, another size or another content than the manifest says.
    """
    path = directory / entry.name
    with read_errors(path, directory):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size_bytes:
                detail = f"{path} has {status.st_size} bytes, its manifest says {entry.size_bytes}; {way_out(directory)}"
                raise CorruptStateError(detail, code=CODE)
            mapping: Any = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if entry.size_bytes else b""
        finally:
            os.close(descriptor)
    found = hashlib.sha256(mapping).digest()
    if found != entry.sha256:
        detail = f"{path} has sha256 {found.hex()[:16]}, its manifest says {entry.sha256.hex()[:16]}; {way_out(directory)}"
        raise CorruptStateError(detail, code=CODE)
    return np.frombuffer(mapping, np.uint8)


def map_shard(directory: Path, shard: Shard, *, token_bytes: npt.NDArray[np.uint8], sources: int) -> tuple[Tokens, Index]:
    """Map a shard, verified, with its index checked against its tokens."""
    token_data, index_data = map_file(directory, shard.tokens), map_file(directory, shard.index)
    path = directory / shard.index.name
    if token_data.size % TOKEN_DTYPE.itemsize or index_data.size != shard.document_count * INDEX.itemsize:
        raise CorruptStateError(f"{path} does not fit its shard; {way_out(directory)}", code=CODE)
    tokens: Tokens = token_data.view(TOKEN_DTYPE)
    index: Index = index_data.view(INDEX)
    problem = _shard_problem(shard, tokens, index, token_bytes, sources)
    if problem is not None:
        raise CorruptStateError(f"{path}: {problem}; {way_out(directory)}", code=CODE)
    return tokens, index


def map_token_bytes(directory: Path, manifest: DataManifest) -> npt.NDArray[np.uint8]:
    """Map the table of token lengths: uint8[V]."""
    table = map_file(directory, manifest.token_bytes)
    if table.size != manifest.vocabulary or table[0] != 0:
        detail = f"{directory / manifest.token_bytes.name} is no table of {manifest.vocabulary} tokens; {way_out(directory)}"
        raise CorruptStateError(detail, code=CODE)
    return table


def map_filler(directory: Path, manifest: DataManifest) -> Tokens:
    """Map the padding pattern."""
    data = map_file(directory, manifest.filler)
    if data.size < 2 or data.size % 2 or int(data.view(TOKEN_DTYPE).max()) >= manifest.vocabulary:
        raise CorruptStateError(f"{directory / manifest.filler.name} is no row of tokens; {way_out(directory)}", code=CODE)
    return data.view(TOKEN_DTYPE)


def _shard_problem(shard: Shard, tokens: Tokens, index: Index, token_bytes: npt.NDArray[np.uint8], sources: int) -> str | None:
    """Return what is wrong between a shard's manifest entry, its index and its tokens, or None."""
    if tokens.size != shard.token_count + shard.document_count:
        return "the tokens of the documents do not add up"
    if int(index["bytes"].sum(dtype=np.uint64)) != shard.byte_count:
        return "the bytes of the documents do not add up"
    return places_problem(tokens, index) or bytes_problem(tokens, index, token_bytes, sources)


def places_problem(tokens: Tokens, index: Index) -> str | None:
    """Return what is wrong with where an index says that documents are, or None."""
    lengths = index["tokens"].astype(np.uint64)
    starts = np.cumsum(lengths + np.uint64(1)) - lengths
    if tokens.size != int(lengths.sum()) + index.size:
        return "the tokens of the documents do not add up"
    if not np.array_equal(starts, index["offset"]):
        return "the offsets are not where the documents begin"
    return None


def bytes_problem(tokens: Tokens, index: Index, token_bytes: npt.NDArray[np.uint8], sources: int) -> str | None:
    """Return what is wrong with the tokens, sources and sizes of documents that are in their places, or None."""
    starts = index["offset"].astype(np.int64)
    if index.size and int(index["source"].max()) >= sources:
        return "a document is of a source that does not exist"
    if tokens.size and int(tokens.max()) >= token_bytes.size:
        return "a token is outside the vocabulary"
    if index.size and not np.array_equal(np.add.reduceat(token_bytes[tokens], starts - 1, dtype=np.int64), index["bytes"]):
        return "the bytes of a document are not the bytes of its tokens"
    return None


@contextmanager
def read_errors(path: Path, directory: Path) -> Iterator[None]:
    """Turn failures of reading a file of ``directory`` into what they mean: a setting, or our disk."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        reason = "is missing" if isinstance(error, (FileNotFoundError, NotADirectoryError)) else f"cannot be read ({error.strerror})"
        raise ConfigurationError(f"{path} {reason}; {way_out(directory)}", code=CODE) from error
    except OSError as error:
        raise InfrastructureError(f"{path} cannot be read: {error.strerror}") from error
