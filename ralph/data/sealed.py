"""Files that only the holder of a key can read: ChaCha20-Poly1305 (RFC 8439) over chunks, in bounded memory.

A file is a header (what it is, a random salt, the size of the content) and chunks of CHUNK_BYTES, each with its tag. Its
key derives from the pool's secret and the salt, so no two files share a key, and the nonce of a chunk is its number.
Each chunk is authenticated together with its number, the size of the content, the commitment and the shard. Hence a
changed, cut, lengthened or reordered file, the file of another shard or of another pool, and a wrong key all end in the
same error, before a byte of the chunk in question is used.

Content is opened into memory only; nothing here ever writes it to a disk. What this does **not** promise: that memory is
not swapped out or dumped, and that the size of the content is hidden.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ralph.data.poolkey import PoolKey
from ralph.errors import CorruptStateError
from ralph.protocol.canonical import digest
from ralph.protocol.pool import ShardName

MAGIC = b"recipe-net sealed v1\n"
SALT_BYTES, SIZE_BYTES, TAG_BYTES, NONCE_BYTES = 32, 8, 16, 12
HEADER_BYTES = len(MAGIC) + SALT_BYTES + SIZE_BYTES
CHUNK_BYTES = 1 << 20
CHUNK_TAG = "recipe-net/pool/chunk/v1"
CODE = "OPS-DATA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a sealed file belongs to."""

    commitment: bytes
    shard: ShardName

    def of_chunk(self, number: int, size_bytes: int) -> bytes:
        """Return what a chunk is authenticated with, beside its content."""
        return digest(CHUNK_TAG, {"commitment": self.commitment, "shard": self.shard, "chunk": number, "size": size_bytes})


class Sealer:
    """Seals content that is written piece by piece.

    Args:
        write: Gets the bytes of the file.
        size_bytes: Of all content; exactly so much must be written before ``close``.
    """

    def __init__(self, write: Callable[[bytes], None], *, key: PoolKey, label: Label, size_bytes: int) -> None:
        salt = os.urandom(SALT_BYTES)
        self._write, self._label, self._size = write, label, size_bytes
        self._cipher = ChaCha20Poly1305(key.file_key(salt))
        self._waiting, self._number, self._seen = bytearray(), 0, 0
        write(MAGIC + salt + size_bytes.to_bytes(SIZE_BYTES, "little"))

    def write(self, data: bytes) -> None:
        """Append content."""
        self._seen += len(data)
        for start in range(0, len(data), CHUNK_BYTES):
            self._waiting += data[start : start + CHUNK_BYTES]
            if len(self._waiting) >= CHUNK_BYTES:
                self._seal(CHUNK_BYTES)

    def close(self) -> None:
        """Seal what is left."""
        if self._seen != self._size:
            raise ValueError(f"{self._seen} bytes were written, {self._size} announced")
        if self._waiting:
            self._seal(len(self._waiting))

    def _seal(self, size: int) -> None:
        content = bytes(self._waiting[:size])
        del self._waiting[:size]
        self._write(self._cipher.encrypt(_nonce(self._number), content, self._label.of_chunk(self._number, self._size)))
        self._number += 1


def unseal(path: Path, *, key: PoolKey, label: Label) -> bytearray:
    """Return the content of a sealed file, in memory.

    Raises:
        CorruptStateError: OPS-DATA, the key is not this file's, or the file is not what was sealed for this label.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        header = file.read(HEADER_BYTES) if stat.S_ISREG(status.st_mode) else b""
        size = int.from_bytes(header[-SIZE_BYTES:], "little")
        chunks = -(-size // CHUNK_BYTES)
        if not header.startswith(MAGIC) or status.st_size != HEADER_BYTES + size + chunks * TAG_BYTES:
            raise _broken(path, key, "its size or its beginning is not that of a sealed file")
        cipher = ChaCha20Poly1305(key.file_key(header[len(MAGIC) : -SIZE_BYTES]))
        content = bytearray(size)
        for number in range(chunks):
            start = number * CHUNK_BYTES
            end = min(start + CHUNK_BYTES, size)
            sealed = file.read(end - start + TAG_BYTES)
            try:
                content[start:end] = cipher.decrypt(_nonce(number), sealed, label.of_chunk(number, size))
            except InvalidTag as error:
                raise _broken(path, key, f"chunk {number + 1} of {chunks} does not open") from error
    return content


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE_BYTES, "little")


def _broken(path: Path, key: PoolKey, what: str) -> CorruptStateError:
    detail = f"{path} was not sealed with the key {key.path} for this pool and shard, or has been changed since: {what}"
    return CorruptStateError(f"{detail}; put the file and its key back from a copy", code=CODE)
