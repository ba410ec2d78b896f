"""Files that hold a secret: created once, for their owner only, never overwritten."""

import os
import stat
from pathlib import Path

from ralph.errors import ConfigurationError, CorruptStateError

MAX_KEY_FILE_BYTES = 16 * 1024


def open_to_others(path: Path) -> bool:
    """Return whether other users may read or write the file."""
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def read_key_file(path: Path) -> bytes:
    """Read a key file.

    Raises:
        ConfigurationError: no such file, or it cannot be read.
        CorruptStateError: far larger than a key.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no key file {path}: create it, or correct the wallet's path and names") from error
    except OSError as error:
        raise ConfigurationError(f"the key file {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_KEY_FILE_BYTES:
        raise CorruptStateError(f"the key file {path} has more than {MAX_KEY_FILE_BYTES} bytes")
    return data


def create_key_file(path: Path, data: bytes) -> None:
    """Write a new file with mode 0600 completely or not at all; refuse when there is one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        finally:
            temporary.unlink()
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists already; keys are never overwritten") from error
    except OSError as error:
        raise ConfigurationError(f"the key file {path} cannot be written: {error.strerror}") from error
