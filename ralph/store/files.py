"""Files that appear complete or not at all, and what it means when the disk refuses."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ralph.errors import ConfigurationError, InfrastructureError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Put ``data`` in the place of the file at ``path``, synced before it appears under its name.

    Raises:
        ConfigurationError: Writing there is forbidden.
        InfrastructureError: OPS-DISK, no room; OPS-INFRA, the disk does not answer.
    """
    temporary = path.with_name(f".{path.name}.new")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make renames inside ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn failures of writing into ours: OPS-DISK when there is no room, a setting when it is forbidden."""
    try:
        yield
    except PermissionError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}; choose a directory of your own") from error
    except OSError as error:
        if error.errno in FULL:
            raise InfrastructureError(f"no room to write {path}: {error.strerror}; free space and start again", code="OPS-DISK") from error
        raise InfrastructureError(f"{path} cannot be written: {error.strerror}") from error
