"""Keys on disk: sr25519 hotkeys in bittensor's own layout, ed25519 record keys.

    <wallets>/<cold>/hotkeys/<hot>          the hotkey, JSON as bittensor writes it, mode 0600
    <wallets>/<cold>/hotkeys/<hot>pub.txt   its public half
    <wallets>/<cold>/coldkeypub.txt         the coldkey's public half; the coldkey itself is never read

Files that bittensor made work here and the other way round. A key file is created once and never
overwritten. A missing file is the operator's to make (``ConfigurationError``); a file that is there but
does not hold the key it should is ``CorruptStateError``, and no new key takes its place.

What this does **not** promise: protection from other processes of the same user.
"""

import logging
import os
import re
from pathlib import Path
from typing import Self

from bittensor_core import (
    CRYPTO_SR25519,
    KeyfileError,
    Keypair,
    WrongPasswordError,
    decrypt_keyfile_data,
    deserialize_keypair_from_keyfile_data,
    keyfile_data_is_encrypted,
    serialized_keypair_to_keyfile_data,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ralph.chain.keyfiles import create_key_file, open_to_others, read_key_file
from ralph.errors import ConfigurationError, CorruptStateError, UntrustedInputError
from ralph.protocol.keys import DIGEST_BYTES, hotkey_public_key, record_key_id

logger = logging.getLogger(__name__)

SEED_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Hotkey:
    """An sr25519 hotkey that signs 32-byte domain digests. Its ``key_id`` is its SS58 address."""

    __slots__ = ("_keypair",)

    def __init__(self, keypair: Keypair) -> None:
        if keypair.crypto_type != CRYPTO_SR25519:
            raise ConfigurationError("a hotkey must be an sr25519 key; this key file holds another kind")
        hotkey_public_key(keypair.ss58_address)
        self._keypair = keypair

    def __repr__(self) -> str:
        return f"Hotkey({self.key_id})"

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Derive a hotkey from a 32-byte seed: for development chains, where keys must repeat."""
        if len(seed) != SEED_BYTES:
            raise ConfigurationError(f"a hotkey seed has {SEED_BYTES} bytes, not {len(seed)}")
        return cls(Keypair.from_seed(seed))

    @classmethod
    def create(cls, directory: Path, cold: str, hot: str, *, seed: bytes | None = None) -> Self:
        """Make a hotkey and write its key file; never overwrite one.

        Give a seed of 32 bytes for a key that must repeat (development chains), none for a fresh key.

        Raises:
            ConfigurationError: the file exists already, or a name is not acceptable.
        """
        path = hotkey_path(directory, cold, hot)
        hotkey = cls(Keypair.from_mnemonic(Keypair.generate_mnemonic(12))) if seed is None else cls.from_seed(seed)
        create_key_file(path, bytes(serialized_keypair_to_keyfile_data(hotkey._keypair)))
        public = path.with_name(f"{hot}pub.txt")
        public.unlink(missing_ok=True)
        create_key_file(public, bytes(serialized_keypair_to_keyfile_data(Keypair(ss58_address=hotkey.key_id))))
        return hotkey

    @classmethod
    def load(cls, directory: Path, cold: str, hot: str, *, password: str | None = None) -> Self:
        """Read a hotkey from bittensor's layout.

        Raises:
            ConfigurationError: no such file, or it is encrypted and the password is missing or wrong.
            CorruptStateError: the file does not hold a private sr25519 key.
        """
        path = hotkey_path(directory, cold, hot)
        data = read_key_file(path)
        if open_to_others(path):
            logger.warning("key file %s is readable by other users: chmod 600 it", path)
        try:
            if keyfile_data_is_encrypted(data):
                if password is None:
                    raise ConfigurationError(f"the key file {path} is encrypted: give its password")
                data = bytes(decrypt_keyfile_data(data, password))
            keypair = deserialize_keypair_from_keyfile_data(data)
            keypair.sign(bytes(DIGEST_BYTES))
        except WrongPasswordError as error:
            raise ConfigurationError(f"wrong password for the key file {path}") from error
        except (KeyfileError, ValueError) as error:
            raise CorruptStateError(f"{path} does not hold a private key: {error}") from error
        return cls(keypair)

    @property
    def key_id(self) -> str:
        """Return the SS58 address."""
        return str(self._keypair.ss58_address)

    def sign(self, digest: bytes) -> bytes:
        """Return the (randomised) signature over a 32-byte domain digest."""
        _check_digest(digest)
        return bytes(self._keypair.sign(digest))


class RecordKey:
    """An ed25519 key that signs Records. The file holds 64 raw bytes: seed, then public key."""

    __slots__ = ("_key", "_public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ConfigurationError(f"a record key seed has {SEED_BYTES} bytes, not {len(seed)}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"RecordKey({self.key_id})"

    @classmethod
    def create(cls, path: Path, *, seed: bytes | None = None) -> Self:
        """Make a record key and write its file with mode 0600; never overwrite one."""
        material = os.urandom(SEED_BYTES) if seed is None else seed
        key = cls(material)
        create_key_file(path, material + key.public_key)
        return key

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record key.

        Raises:
            ConfigurationError: no such file, or other users can read it.
            CorruptStateError: not 64 bytes, or the two halves are not one key.
        """
        data = read_key_file(path)
        if open_to_others(path):
            raise ConfigurationError(f"the record key {path} is open to other users: chmod 600 it")
        if len(data) != 2 * SEED_BYTES:
            raise CorruptStateError(f"the record key {path} has {len(data)} bytes, must have {2 * SEED_BYTES}")
        key = cls(data[:SEED_BYTES])
        if key.public_key != data[SEED_BYTES:]:
            raise CorruptStateError(f"the record key {path} is damaged: its public half does not belong to its seed")
        return key

    @property
    def public_key(self) -> bytes:
        """Return the 32-byte public key."""
        return self._public

    @property
    def key_id(self) -> str:
        """Return the id that spells out the public key."""
        return record_key_id(self._public)

    def sign(self, digest: bytes) -> bytes:
        """Return the signature over a 32-byte domain digest; the same every time."""
        _check_digest(digest)
        return self._key.sign(digest)


def hotkey_path(directory: Path, cold: str, hot: str) -> Path:
    """Return where bittensor keeps this hotkey. Raises ConfigurationError for a name that is no plain name."""
    for name in (cold, hot):
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"not a wallet name: {name[:80]!r} (letters, digits, . _ -, at most 64)")
    return directory / cold / "hotkeys" / hot


def write_coldkey_address(directory: Path, cold: str, address: str) -> None:
    """Write ``coldkeypub.txt``: the public half is all that we ever keep of a coldkey."""
    path = hotkey_path(directory, cold, "unused").parent.parent / "coldkeypub.txt"
    _address(path, address)
    create_key_file(path, bytes(serialized_keypair_to_keyfile_data(Keypair(ss58_address=address))))


def read_coldkey_address(directory: Path, cold: str) -> str:
    """Return the coldkey's SS58 address from ``coldkeypub.txt``."""
    path = hotkey_path(directory, cold, "unused").parent.parent / "coldkeypub.txt"
    try:
        address = str(deserialize_keypair_from_keyfile_data(read_key_file(path)).ss58_address)
    except (KeyfileError, ValueError) as error:
        raise CorruptStateError(f"{path} does not hold a public key: {error}") from error
    return _address(path, address)


def _address(path: Path, address: str) -> str:
    try:
        hotkey_public_key(address)
    except UntrustedInputError as error:
        raise ConfigurationError(f"{path}: {error.detail}") from error
    return address


def _check_digest(digest: bytes) -> None:
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
        raise ValueError(f"only {DIGEST_BYTES}-byte domain digests are signed")
