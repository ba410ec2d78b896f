"""Directories that appear complete or not at all.

Files are written to a directory beside the target, synced, and renamed into place. An interrupted
build leaves the target as it was; what a killed one leaves beside it is removed by the next. A lock on
the staging directory keeps two builds of one target apart.
"""

import fcntl
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ralph.data.layout import MANIFEST
from ralph.errors import ConfigurationError, InfrastructureError
from ralph.protocol.data import StoredFile
from ralph.store.files import disk_errors, sync_directory

PUBLIC_MODE = 0o755
PRIVATE_MODE = 0o700


class Staging:
    """A directory under construction. Use as a context manager; without ``commit`` nothing remains.

    Args:
        target: Where the directory belongs. Replaced only if it is empty or holds prepared data.
        mode: Permissions of the directory; files get the same without execute bits.
    """

    def __init__(self, target: Path, *, mode: int = PUBLIC_MODE) -> None:
        self.target = target.absolute()
        self.path = self.target.with_name(f".{self.target.name}.preparing")
        self._replaced = self.target.with_name(f".{self.target.name}.replaced")
        self._mode = mode
        self._lock = -1
        self._files: list[StagedFile] = []

    def __enter__(self) -> Self:
        with disk_errors(self.target):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._refuse_foreign()
            self._acquire()
        try:
            with disk_errors(self.target):
                self._recover()
                for leftover in self.path.iterdir():
                    leftover.unlink()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._release()

    def write(self, name: str, data: bytes | memoryview) -> StoredFile:
        """Write and sync one file; return what a manifest says about it."""
        file = self.open(name)
        file.write(data)
        return file.close()

    def open(self, name: str) -> "StagedFile":
        """Return a new file to be written piece by piece."""
        self._files.append(StagedFile(self.path / name, self._mode & 0o666))
        return self._files[-1]

    def commit(self) -> None:
        """Put the finished directory in place of the target."""
        with disk_errors(self.target):
            os.fsync(self._lock)
            if self.target.exists():
                self.target.rename(self._replaced)
            self.path.rename(self.target)
            sync_directory(self.target.parent)
            shutil.rmtree(self._replaced, ignore_errors=True)

    def _release(self) -> None:
        """Remove what was not committed and let go of the lock."""
        for file in self._files:
            file.abandon()
        if self._is_locked_path():
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def _recover(self) -> None:
        """Finish or undo a replacement that was killed half-way."""
        if self._replaced.exists():
            if self.target.exists():
                shutil.rmtree(self._replaced, ignore_errors=True)
            else:
                self._replaced.rename(self.target)

    def _refuse_foreign(self) -> None:
        if not self.target.exists() or (self.target / MANIFEST).is_file():
            return
        if not self.target.is_dir() or any(self.target.iterdir()):
            raise ConfigurationError(f"{self.target} exists and holds no prepared data; name another directory")

    def _acquire(self) -> None:
        """Make the staging directory and lock it; again if the one that was locked has been moved meanwhile."""
        while True:
            self.path.mkdir(mode=self._mode, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._lock)
                raise InfrastructureError(f"{self.target} is being prepared by another process; wait for it") from error
            if self._is_locked_path():
                self.path.chmod(self._mode)
                return
            os.close(self._lock)

    def _is_locked_path(self) -> bool:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return False
        locked = os.fstat(self._lock)
        return (status.st_dev, status.st_ino) == (locked.st_dev, locked.st_ino)


class StagedFile:
    """A file under construction, hashed while it is written."""

    def __init__(self, path: Path, mode: int) -> None:
        self._path, self._hash, self._size = path, hashlib.sha256(), 0
        with disk_errors(path):
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb")

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        with disk_errors(self._path):
            self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def close(self) -> StoredFile:
        """Sync; return what a manifest says about the file."""
        with disk_errors(self._path), self._file as file:
            file.flush()
            os.fsync(file.fileno())
        return StoredFile(name=self._path.name, size_bytes=self._size, sha256=self._hash.digest())

    def abandon(self) -> None:
        """Close an unfinished file; what is in it no longer counts."""
        with suppress(OSError):
            self._file.close()
