"""Directories that appear complete or not at all.

Files are written to a directory beside the target, synced, and renamed into place. An interrupted
build leaves the target as it was; what a killed one leaves beside it is removed by the next. A lock on
the staging directory keeps two builds of one target apart.
"""

import fcntl
import hashlib
import os
import shutil
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
        path = self.path / name
        with disk_errors(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._mode & 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        return StoredFile(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).digest())

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
