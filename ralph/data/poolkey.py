"""The secret of a hidden pool, in a file of its own: salts of the documents and keys of the sealed files derive from it.

The file holds 64 raw bytes: the secret, then a digest of it that shows damage. It has mode 0600, is refused while other
users can read it, and is never overwritten: who loses it loses the pool, and who makes another one has another
commitment. A refresh keeps it, so that documents keep their salts.

What this does **not** promise: protection from other processes of the same user.
"""

import os
from pathlib import Path
from typing import Self

from ralph.chain.keyfiles import create_key_file, open_to_others, read_key_file
from ralph.errors import ConfigurationError, CorruptStateError
from ralph.protocol.canonical import digest

SECRET_BYTES = 32
CHECK_TAG = "recipe-net/pool/key-check/v1"
SALT_TAG = "recipe-net/pool/salt/v1"
FILE_TAG = "recipe-net/pool/file-key/v1"
CODE = "OPS-DATA"


class PoolKey:
    """The secret of one hidden pool."""

    __slots__ = ("_secret", "path")

    def __init__(self, path: Path, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ConfigurationError(f"the secret of a hidden pool has {SECRET_BYTES} bytes, not {len(secret)}")
        self.path, self._secret = path, secret

    def __repr__(self) -> str:
        return f"PoolKey({self.path})"

    @classmethod
    def create(cls, path: Path, *, secret: bytes | None = None) -> Self:
        """Make a key and write its file; never overwrite one. Give a secret only where a network must repeat."""
        key = cls(path, os.urandom(SECRET_BYTES) if secret is None else secret)
        key.keep()
        return key

    @classmethod
    def take(cls, path: Path) -> Self:
        """Load the key if there is one; otherwise return a new one, of which nothing is written before ``keep``."""
        return cls.load(path) if path.exists() else cls(path, os.urandom(SECRET_BYTES))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key.

        Raises:
            ConfigurationError: OPS-DATA, no such file, or other users can read it.
            CorruptStateError: OPS-DATA, it holds no key.
        """
        try:
            data = read_key_file(path)
        except (ConfigurationError, CorruptStateError) as error:
            raise type(error)(error.detail, code=CODE) from error
        if open_to_others(path):
            raise ConfigurationError(f"the key of the hidden pool {path} is open to other users: chmod 600 it", code=CODE)
        secret, check = data[:SECRET_BYTES], data[SECRET_BYTES:]
        if check != digest(CHECK_TAG, secret):
            raise CorruptStateError(f"{path} is no key of a hidden pool, or is damaged: put it back from a copy", code=CODE)
        return cls(path, secret)

    def keep(self) -> None:
        """Write the file. Raises ConfigurationError when there is one."""
        create_key_file(self.path, self._secret + digest(CHECK_TAG, self._secret))

    def salt(self, document: bytes) -> bytes:
        """Return the salt of the document with this digest. It says nothing about the secret or about other salts."""
        return digest(SALT_TAG, {"secret": self._secret, "document": document})

    def file_key(self, salt: bytes) -> bytes:
        """Return the key of the sealed file that begins with this salt."""
        return digest(FILE_TAG, {"secret": self._secret, "salt": salt})


def key_beside(pool: Path) -> Path:
    """Return where the key of the pool in this directory is unless somebody says otherwise: beside it, never in it."""
    return pool.absolute().with_name(f"{pool.absolute().name}.key")
