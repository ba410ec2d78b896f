"""A bundle store in a directory, shared by any number of processes.

    objects/ab/cdef...   blobs under their SHA-256, in 256 shards
    names/<name>         named references; ``/`` in a name is ``%`` in the file name
    tmp/                 files being written, each locked by its writer

A file appears only when it is complete (temp file, fsync, ``os.replace``), and what is read is hashed
before it is returned. Whoever can write to the directory is hostile: no link is ever followed, nothing
but a regular file is read, and the size is checked before the first byte.

What this does **not** promise: secrecy from root and from backups, or that an object stays. Losing one is ``StoreUnavailable``.
"""

import errno
import fcntl
import hashlib
import mmap
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from ralph.errors import InfrastructureError, StoreUnavailable, UntrustedInputError

DIGEST_BYTES = 32
MAX_OBJECT_BYTES = 1 << 30
MAX_NAMED_BYTES = 1 << 20
MAX_NAME_LENGTH = 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_A_FILE_ERRORS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO})
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK_BYTES = 1 << 20


class DirectoryStore:
    """Implements ``interfaces.BundleStore`` and ``PrivateStore`` over one directory, which is made when it is missing.

    Args:
        path: The store's root. It may be a link; nothing below it may.
        max_object_bytes: Largest blob accepted by ``put``.
        private: Let nobody but this user into the directory, also where it was open before.
    """

    def __init__(self, path: Path, *, max_object_bytes: int = MAX_OBJECT_BYTES, private: bool = False) -> None:
        self._path = path
        self._max_object_bytes = max_object_bytes
        with self._reported("cannot be opened"):
            path.mkdir(parents=True, exist_ok=True)
            if private:
                path.chmod(0o700)
            for part in ("objects", "names", "tmp"):
                (path / part).mkdir(exist_ok=True)
            self._sweep()

    def put(self, data: bytes | memoryview) -> bytes:
        """Keep ``data`` and return its SHA-256. Putting the same bytes again changes nothing.

        Raises:
            UntrustedInputError: ``INT-SIZE`` over the store's limit.
            InfrastructureError: ``OPS-DISK`` when the disk is full.
        """
        if len(data) > self._max_object_bytes:
            raise UntrustedInputError("INT-SIZE", f"an object of {len(data)} bytes, the store takes {self._max_object_bytes}")
        digest = hashlib.sha256(data).digest()
        if not self._holds(digest, len(data)):
            name = digest.hex()
            with self._reported(f"cannot keep {name}"):
                self._make_shard(name[:2])
                self._write(("objects", name[:2]), name[2:], data)
        return digest

    def get(self, digest: bytes, *, limit: int) -> bytes:
        """Return the object, at most ``limit`` bytes, after checking its digest.

        Raises:
            StoreUnavailable: it is not there (yet), or the disk does not answer.
            UntrustedInputError: ``INT-SIZE`` over the limit; ``INT-HASH`` other bytes or no regular file.
        """
        name = _object_name(digest)
        data = self._read(("objects", name[:2]), name[2:], limit)
        if hashlib.sha256(data).digest() != digest:
            raise UntrustedInputError("INT-HASH", f"object {name} does not have the bytes that its name promises")
        return data

    def map(self, digest: bytes, *, limit: int) -> memoryview:
        """Return the object as ``get`` does, its bytes left on the disk.

        Only where nobody else can write: who shortens the file later ends this process. The errors are those of ``get``.
        """
        name = _object_name(digest)
        with self._opened(("objects", name[:2]), name[2:], limit) as file:
            empty = os.fstat(file.fileno()).st_size == 0
            data = memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if hashlib.sha256(data).digest() != digest:
            raise UntrustedInputError("INT-HASH", f"object {name} does not have the bytes that its name promises")
        return data

    def has(self, digest: bytes) -> bool:
        """Return whether an object of this name is there. Only ``get`` says whether it is the right one."""
        name = _object_name(digest)
        with self._reported(f"cannot look for {name}"):
            try:
                with self._directory(("objects", name[:2])) as directory:
                    return stat.S_ISREG(os.stat(name[2:], dir_fd=directory, follow_symlinks=False).st_mode)
            except FileNotFoundError:
                return False

    def put_named(self, name: str, data: bytes) -> None:
        """Point ``name`` at ``data``, replacing what was there in one step.

        Raises:
            UntrustedInputError: ``INT-SCHEMA`` for a name outside the syntax, ``INT-SIZE`` over 1 MiB.
            InfrastructureError: ``OPS-DISK`` when the disk is full.
        """
        file_name = _file_name(name)
        if len(data) > MAX_NAMED_BYTES:
            raise UntrustedInputError("INT-SIZE", f"{len(data)} bytes under the name {name}, limit {MAX_NAMED_BYTES}")
        with self._reported(f"cannot keep {name}"):
            self._write(("names",), file_name, data)

    def get_named(self, name: str, *, limit: int) -> bytes:
        """Return what ``name`` points at: somebody's claim, to be verified by its reader.

        Raises:
            StoreUnavailable: there is no such name (yet).
            UntrustedInputError: ``INT-SCHEMA``, ``INT-SIZE``, or ``INT-HASH`` when it is no regular file.
        """
        return self._read(("names",), _file_name(name), min(limit, MAX_NAMED_BYTES))

    def _holds(self, digest: bytes, size_bytes: int) -> bool:
        name, hasher, left = digest.hex(), hashlib.sha256(), size_bytes + 1
        try:
            with self._opened(("objects", name[:2]), name[2:], size_bytes) as file:
                while data := file.read(min(left, _CHUNK_BYTES)):
                    hasher.update(data)
                    left -= len(data)
        except (StoreUnavailable, UntrustedInputError):
            return False
        return hasher.digest() == digest

    def _read(self, parents: tuple[str, ...], name: str, limit: int) -> bytes:
        with self._opened(parents, name, limit) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise UntrustedInputError("INT-SIZE", f"{'/'.join((*parents, name))} grew beyond {limit} bytes while it was read")
        return data

    @contextmanager
    def _opened(self, parents: tuple[str, ...], name: str, limit: int) -> Iterator[BinaryIO]:
        """Open a regular file of at most ``limit`` bytes."""
        label = "/".join((*parents, name))
        with self._reported(f"cannot read {label}"), self._directory(parents) as directory:
            descriptor = os.open(name, _READ, dir_fd=directory)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise UntrustedInputError("INT-HASH", f"{label} is not a regular file")
                if status.st_size > limit:
                    raise UntrustedInputError("INT-SIZE", f"{label} has {status.st_size} bytes, limit {limit}")
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    yield file
            finally:
                os.close(descriptor)

    def _write(self, parents: tuple[str, ...], name: str, data: bytes | memoryview) -> None:
        """Write a file completely, then let it appear under its name."""
        temporary = f"{os.getpid()}-{os.urandom(8).hex()}"
        with self._directory(("tmp",)) as scratch, self._directory(parents) as target:
            descriptor = os.open(temporary, _WRITE, 0o644, dir_fd=scratch)
            try:
                with os.fdopen(descriptor, "wb", buffering=0) as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    view = memoryview(data)
                    while view:
                        view = view[file.write(view[:_CHUNK_BYTES]) :]
                    os.fsync(descriptor)
                    os.replace(temporary, name, src_dir_fd=scratch, dst_dir_fd=target)
            except OSError:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=scratch)
                raise
            os.fsync(target)

    def _make_shard(self, shard: str) -> None:
        with self._directory(("objects",)) as objects:
            try:
                os.mkdir(shard, dir_fd=objects)
            except FileExistsError:
                return
            os.fsync(objects)

    def _sweep(self) -> None:
        """Remove the temp files of writers that died: nobody holds their lock any more."""
        with self._directory(("tmp",)) as scratch:
            for name in os.listdir(scratch):  # noqa: PTH208 - a path cannot name an open directory
                try:
                    descriptor = os.open(name, _READ, dir_fd=scratch)
                except OSError:
                    continue
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=scratch)
                except OSError:  # somebody is writing it, or it is no file of ours
                    continue
                finally:
                    os.close(descriptor)

    @contextmanager
    def _directory(self, parents: tuple[str, ...]) -> Iterator[int]:
        """Open a directory below the root, one component at a time, following no link."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parents:
                inner = os.open(part, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _raise(f"store {self._path} {what}", error)


def _raise(what: str, error: OSError) -> NoReturn:
    """Say whose fault a failed file operation is."""
    if error.errno in _DISK_ERRORS:
        raise InfrastructureError(f"{what}: {error.strerror}", code="OPS-DISK") from error
    if error.errno in _NOT_A_FILE_ERRORS:
        raise UntrustedInputError("INT-HASH", f"{what}: a link or something else that is no regular file: {error.strerror}") from error
    raise StoreUnavailable(f"{what}: {error.strerror}") from error


def _object_name(digest: bytes) -> str:
    if len(digest) != DIGEST_BYTES:
        raise UntrustedInputError("INT-SCHEMA", f"a digest has {DIGEST_BYTES} bytes, not {len(digest)}")
    return digest.hex()


def _file_name(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise UntrustedInputError("INT-SCHEMA", f"not a name for a reference: {name[:80]!r}")
    return name.replace("/", "%")
