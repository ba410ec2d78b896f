"""What foreign code runs on, held in memory: a copy of interpreter, packages and system libraries that remembers nothing.

Two sandboxes that may only read the same files of a disk can still pass bits: a file that was read is in the page cache, a name that was
looked up in vain is in the directory cache, and whoever comes later sees both in the time that it takes. A worker that has
seen hidden text could so tell it to the one that must not know it, thousands of bits a second. Files in a file system in memory
(tmpfs) have no such state: all pages are always there, all names are always known, and names that are not there are never kept.

The copy holds what a worker needs and no more: the standard library without its tests and tools, torch and numpy with what they require,
and the shared libraries that these are linked with. Processes of one user share it; the last one that ends removes it, and what a
crash leaves is removed by the next start.

Not promised: silence between sandboxes that run at the same time. Processor caches, memory bandwidth and load are theirs to watch.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import stat
from pathlib import Path

from ralph.errors import SandboxUnavailable
from ralph.sandbox.contents import Entry, contents, identity
from ralph.sandbox.interpreter import Interpreter

PLACE = Path("/dev/shm")  # noqa: S108 - the one file system in memory that every Linux has
SPARE_BYTES = 256 << 20
"""Room that is left free."""


class Resident:
    """A copy in memory, from now until ``close`` or the end of this process.

    Args:
        interpreter: What is copied.
        place: A file system in memory.

    Raises:
        SandboxUnavailable: There is no such file system that may hold programs, it has no room, or somebody else sits on our name.
    """

    def __init__(self, interpreter: Interpreter, *, place: Path = PLACE) -> None:
        _check(place)
        self._folder = place / f"{_prefix()}{identity(interpreter)}"
        self._lock = _Lock(self._folder)
        _sweep(place, keep=self._folder)
        if self._lock.is_alone and not self._folder.exists():
            try:
                self._make(contents(interpreter), place)
            except SandboxUnavailable:
                self._lock.forget()
                self._lock.release()
                raise
        self._lock.share()
        if not _is_ours(self._folder):
            self._lock.release()
            raise SandboxUnavailable(f"{self._folder} belongs to somebody else; remove it", code="OPS-SANDBOX")
        self.size_bytes = self._lock.size_bytes()
        self.interpreter = interpreter.read_from(self._folder)
        atexit.register(self.close)

    def close(self) -> None:
        """Give the copy up; it is removed when nobody else uses it."""
        atexit.unregister(self.close)
        if self._lock.alone():
            _remove(self._folder)
            self._lock.forget()
        self._lock.release()

    def _make(self, entries: tuple[Entry, ...], place: Path) -> None:
        system = os.statvfs(place)
        room, size_bytes = system.f_bavail * system.f_frsize, sum(entry.size_bytes for entry in entries)
        if room < size_bytes + SPARE_BYTES:
            needed, there = (size_bytes + SPARE_BYTES) >> 20, room >> 20
            step = f"`mount -o remount,size=4G {place}` as root makes room, in a container its shared memory size does"
            raise SandboxUnavailable(f"{place} has {there} MiB left, the worker's programs need {needed}; {step}", code="OPS-SANDBOX")
        part = self._folder.with_suffix(".part")
        _remove(part)
        try:
            part.mkdir(mode=0o755)
            for entry in entries:
                entry.copy_below(part)
            self._lock.write(size_bytes)
            part.rename(self._folder)
        except OSError as error:
            _remove(part)
            raise SandboxUnavailable(f"cannot copy the worker's programs to {place}: {error}", code="OPS-SANDBOX") from error


class _Lock:
    """A lock beside a folder: shared by those who use it, exclusive for who makes or removes it.

    Asking for the other kind gives up the one that is held (flock(2)), so who uses the folder does not ask again before the end.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder.with_suffix(".lock")
        while True:
            try:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise SandboxUnavailable(f"cannot open {self._path}: {error}; remove it", code="OPS-SANDBOX") from error
            self.is_alone = self.alone()
            if self.is_alone or self.share():
                return
            self.release()

    def alone(self) -> bool:
        """Take the lock for ourselves if nobody else has it, and the file is still the one at its path."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return self._current()

    def share(self) -> bool:
        """Wait until nobody has the lock alone and share it; return whether the file is still the one at its path."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        return self._current()

    def write(self, size_bytes: int) -> None:
        """Keep the size of the copy in the lock's file."""
        os.pwrite(self._descriptor, size_bytes.to_bytes(8, "little"), 0)

    def size_bytes(self) -> int:
        """Return the size of the copy."""
        return int.from_bytes(os.pread(self._descriptor, 8, 0), "little")

    def forget(self) -> None:
        """Remove the lock's file."""
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)

    def _current(self) -> bool:
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._descriptor)
        return (there.st_ino, here.st_uid) == (here.st_ino, os.geteuid())


def _prefix() -> str:
    return f"ralph-programs-{os.geteuid()}-"


def _sweep(place: Path, *, keep: Path) -> None:
    """Remove our copies that nobody uses any more."""
    for lock in place.glob(f"{_prefix()}*.lock"):
        folder = lock.with_suffix("")
        if folder == keep:
            continue
        with contextlib.suppress(OSError), lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)
            _remove(folder.with_suffix(".part"))
            lock.unlink()


def _remove(folder: Path) -> None:
    """Remove a folder of ours; another user's is left where it is."""
    if folder.is_dir() and not folder.is_symlink() and folder.lstat().st_uid == os.geteuid():
        shutil.rmtree(folder)


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _check(place: Path) -> None:
    """Raise SandboxUnavailable unless ``place`` is in memory and may hold programs."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    kinds = {Path(fields[1]): (fields[2], fields[3].split(",")) for fields in mounts}
    kind, options = next((kinds[folder] for folder in (place, *place.parents) if folder in kinds), ("none", [""]))
    if kind != "tmpfs" or "noexec" in options:
        what = f"{place} is {kind}{' without programs (noexec)' if 'noexec' in options else ''}"
        step = f"`mount -o remount,exec {place}` as root, or `mount -t tmpfs -o size=4G tmpfs {place}`"
        raise SandboxUnavailable(f"{what}, not a file system in memory that may hold programs; {step}", code="OPS-SANDBOX")
