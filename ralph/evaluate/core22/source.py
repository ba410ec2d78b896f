"""Where a bundle's files come from: a folder, or a zip archive that is read in place and never unpacked.

An archive is judged by its directory before a byte of it is inflated: number of entries, names, declared sizes, links, encryption.
Nothing is written to disk and no name of the archive becomes a path, so a hostile name could at most be confusing; it is refused all
the same. What is read is compared with its declared size and checksum.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from ralph.errors import ConfigurationError
from ralph.evaluate.core22.items import CODE

MAX_ENTRIES = 4096
MAX_ENTRY_BYTES = 256 << 20
MAX_TOTAL_BYTES = 1 << 30
MAX_NAME = 255
MAX_DIRECTORY_BYTES = 4 << 20
"""Of the archive's directory, which is parsed as a whole."""
ENCRYPTED = 0x1
"""Bit 0 of a zip entry's flags (APPNOTE 4.4.4)."""
_END = struct.Struct("<4s16x4s8xLLH")
"""The last 42 bytes: where a zip64 locator would be (APPNOTE 4.3.15), and the end record: signature, size and place of the directory,
size of a comment (4.3.16)."""


class Source(Protocol):
    """Files by relative name."""

    def holds(self, name: str) -> bool:
        """Return whether there is such a file."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes; raises ConfigurationError ``OPS-DATA`` if there are more than ``limit``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """Implements ``Source``. Only names that this package knows are ever asked for."""

    path: Path

    def holds(self, name: str) -> bool:
        return (self.path / name).is_file()

    def read(self, name: str, limit: int) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise ConfigurationError(f"{self.path / name} cannot be read: {error.strerror}", code=CODE) from error
        return _within(data, limit, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Implements ``Source``.

    Args:
        path: The zip file.
        entries: Its files, checked.
    """

    path: Path
    entries: dict[str, zipfile.ZipInfo] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> "Archive":
        """Check an archive's directory.

        Raises:
            ConfigurationError: ``OPS-DATA``, no zip file, or an entry that no honest bundle has.
        """
        _check_end(path)
        with _readable(path) as archive:
            listed = archive.infolist()
        if len(listed) > MAX_ENTRIES:
            raise ConfigurationError(f"{path} has {len(listed)} entries, limit {MAX_ENTRIES}", code=CODE)
        total = sum(entry.file_size for entry in listed)
        if total > MAX_TOTAL_BYTES:
            raise ConfigurationError(f"{path} unpacks to {total} bytes, limit {MAX_TOTAL_BYTES}", code=CODE)
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in listed:
            fault = _fault(entry)
            if fault is None and entry.filename in entries:
                fault = "is there twice"
            if fault is not None:
                raise ConfigurationError(f"{path}: entry {entry.filename[:MAX_NAME]!r} {fault}", code=CODE)
            entries[entry.filename] = entry
        return cls(path=path, entries={name: entry for name, entry in entries.items() if not entry.is_dir()})

    def holds(self, name: str) -> bool:
        return name in self.entries

    def read(self, name: str, limit: int) -> bytes:
        entry = self.entries[name]
        if entry.file_size > limit:
            raise ConfigurationError(f"{name} has {entry.file_size} bytes, limit {limit}", code=CODE)
        with _readable(self.path) as archive, archive.open(entry) as file:
            data = file.read(limit + 1)
        if len(data) != entry.file_size:
            raise ConfigurationError(f"{self.path}: {name} has {len(data)} bytes and declares {entry.file_size}", code=CODE)
        return data


def open_source(path: Path) -> Source:
    """Return the files of a folder or of a zip archive."""
    return Folder(path=path) if path.is_dir() else Archive.open(path)


def _check_end(path: Path) -> None:
    """Refuse a directory that is too large before the library parses it: the end record must be the plain one, without a comment."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _END.size))
            locator, signature, directory_bytes, _, comment_bytes = _END.unpack(file.read().rjust(_END.size))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", code=CODE) from error
    if signature != b"PK\x05\x06" or comment_bytes or locator == b"PK\x06\x07":
        raise ConfigurationError(f"{path} is no zip file, or one with a comment or in the zip64 format", code=CODE)
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise ConfigurationError(f"{path} has a directory of {directory_bytes} bytes, limit {MAX_DIRECTORY_BYTES}", code=CODE)


@contextmanager
def _readable(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", code=CODE) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise ConfigurationError(f"{path} is no zip file that can be read: {error}", code=CODE) from error


def _fault(entry: zipfile.ZipInfo) -> str | None:
    name = entry.filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    parts = name.removesuffix("/").split("/")
    if len(name) > MAX_NAME or not name.isprintable() or "\\" in name or ":" in name:
        return "has a name that is too long or holds what no name should"
    if PurePosixPath(name).is_absolute() or any(part in ("", ".", "..") for part in parts):
        return "has a path that leaves the archive or is not plain"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a special file"
    if entry.flag_bits & ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is encrypted or packed in an unusual way"
    if entry.file_size > MAX_ENTRY_BYTES:
        return f"unpacks to {entry.file_size} bytes, limit {MAX_ENTRY_BYTES}"
    return None


def _within(data: bytes, limit: int, name: str) -> bytes:
    if len(data) > limit:
        raise ConfigurationError(f"{name} has more than {limit} bytes", code=CODE)
    return data
