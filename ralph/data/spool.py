"""Documents on disk, sorted without ever being in memory together.

A document goes to the bucket of the first hexadecimal digit of its digest. A bucket that grew too large is dealt out by the next
digit, or the next two, until every one fits into memory; read one after the other they are all documents in the order of their
digests, whatever the size of the corpus, and equal texts have met.

Every so often the lengths of all buckets are noted. After a kill the buckets are cut back to what was noted, and reading goes on
there. Nothing is synced: a record carries the digest of its text, and one that does not match is found when it is read.
"""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ralph.data.corpora import Corpus
from ralph.data.partition import PROGRESS_EVERY, Entry, Progress, document_digest, has_utf8
from ralph.errors import ConfigurationError, CorruptStateError, UntrustedInputError
from ralph.protocol.canonical import envelope, open_envelope
from ralph.store.files import disk_errors, replace_file

TAG = "recipe-net/data/spool/v1"
STATE = "spooled"
MAX_STATE_BYTES = 1 << 20
MAX_DOCUMENT_BYTES = 16 << 20
BUFFER_BYTES = 32 << 20
"""Text that is held before it is written and noted."""
LEAF_BYTES = 16 << 20
"""A bucket larger than this is dealt out."""
DIGITS = 1
"""Hexadecimal digits of the first buckets."""
MAX_DIGITS = 12
"""Past these a bucket holds copies of one text, of which only one is read."""
_RECORD = struct.Struct("<32sHI")


class Spool:
    """The documents of one corpus in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._buckets = directory, directory / "buckets"
        self._state_path = directory / STATE
        self._consumed, self._complete = 0, False
        self._sizes: dict[str, int] = {}
        self.sources: list[str] = []
        """Names of the sources in the order in which they appeared: what a record's number means."""

    def fill(self, corpus: Corpus, report: Callable[[Progress], None]) -> None:
        """Read the corpus to its end, from where an earlier process came to.

        Raises:
            ConfigurationError: OPS-DATA, a document that is too long.
        """
        self._buckets.mkdir(parents=True, exist_ok=True)
        self._restore()
        if self._complete:
            return
        buffers: dict[str, bytearray] = {}
        held = 0
        for document in corpus.documents(self._consumed):
            if self._consumed % PROGRESS_EVERY == 0:
                report(Progress(stage="read", done=self._consumed, total=None))
            self._consumed += 1
            if not has_utf8(document.text):
                continue
            record = self._record(document.source, document.text)
            buffers.setdefault(record[:DIGITS].hex()[:DIGITS], bytearray()).extend(record)
            held += len(record)
            if held >= BUFFER_BYTES:
                self._write(buffers)
                held = 0
        self._complete = True
        self._write(buffers)

    def leaves(self) -> Iterator[tuple[str, Path]]:
        """Yield (first digits, file) of every bucket in the order of the digests; each fits into memory."""
        for digits in _names(DIGITS, ""):
            yield from self._leaves(digits)

    def _record(self, source: str, text: str) -> bytes:
        data = text.encode("utf-8")
        if len(data) > MAX_DOCUMENT_BYTES:
            detail = f"document {self._consumed} has {len(data)} bytes, at most {MAX_DOCUMENT_BYTES} are allowed; cut it into documents"
            raise ConfigurationError(detail, code="OPS-DATA")
        if source not in self.sources:
            self.sources.append(source)
        return _RECORD.pack(document_digest(text), self.sources.index(source), len(data)) + data

    def _write(self, buffers: dict[str, bytearray]) -> None:
        for digits, data in buffers.items():
            _append(self._file(digits), data)
            self._sizes[digits] = self._sizes.get(digits, 0) + len(data)
        buffers.clear()
        state = {"consumed": self._consumed, "complete": self._complete, "sizes": self._sizes, "sources": self.sources}
        replace_file(self._state_path, envelope(TAG, state))

    def _restore(self) -> None:
        """Go back to what was noted last."""
        if self._state_path.exists():
            try:
                state: dict[str, Any] = open_envelope(TAG, self._state_path.read_bytes(), limit=MAX_STATE_BYTES)
            except UntrustedInputError as error:
                raise _damaged(self._state_path) from error
            self._consumed, self._complete = state["consumed"], state["complete"]
            self._sizes, self.sources = state["sizes"], state["sources"]
        if not self._complete:  # a complete spool may already be dealt out
            for path in self._buckets.iterdir():
                size = self._sizes.get(path.stem, 0)
                if path.stat().st_size < size:
                    raise _damaged(path)
                os.truncate(path, size)

    def _leaves(self, digits: str) -> Iterator[tuple[str, Path]]:
        path = self._file(digits)
        dealt = {count: self._buckets / f"{digits}.dealt{count}" for count in (1, 2)}
        if path.exists() and not any(mark.exists() for mark in dealt.values()):
            size = path.stat().st_size
            if size <= LEAF_BYTES or len(digits) >= MAX_DIGITS:
                yield digits, path
                return
            count = 2 if size > 16 * LEAF_BYTES else 1
            self._deal(path, digits, count)
            dealt[count].touch()
        for count, mark in dealt.items():
            if mark.exists():
                path.unlink(missing_ok=True)
                for longer in _names(count, digits):
                    yield from self._leaves(longer)

    def _deal(self, path: Path, digits: str, count: int) -> None:
        """Deal a bucket out by its next ``count`` digits; what a killed process dealt is dealt again."""
        buffers: dict[str, bytearray] = {}
        for name in _names(count, digits):
            self._file(name).unlink(missing_ok=True)
        held = 0
        for digest, source, data in _records(path):
            record = _RECORD.pack(digest, source, len(data)) + data
            buffers.setdefault(digest.hex()[: len(digits) + count], bytearray()).extend(record)
            held += len(record)
            if held >= LEAF_BYTES:
                _flush(self._file, buffers)
                held = 0
        _flush(self._file, buffers)

    def _file(self, digits: str) -> Path:
        return self._buckets / f"{digits}.docs"


def read_leaf(path: Path, sources: list[str]) -> list[Entry]:
    """Return the distinct documents of a bucket sorted by digest; of equal texts the first one's source counts.

    Raises:
        CorruptStateError: A record that is not what was written.
    """
    entries: dict[bytes, Entry] = {}
    for digest, source, data in _records(path):
        if digest in entries:
            continue
        text = data.decode("utf-8", errors="replace")
        if document_digest(text) != digest or source >= len(sources):
            raise _damaged(path)
        entries[digest] = Entry(digest=digest, source=sources[source], text=text)
    return [entries[digest] for digest in sorted(entries)]


def _names(count: int, prefix: str) -> Iterator[str]:
    return (prefix + format(number, f"0{count}x") for number in range(16**count))


def _flush(file: Callable[[str], Path], buffers: dict[str, bytearray]) -> None:
    for digits, data in buffers.items():
        _append(file(digits), data)
    buffers.clear()


def _append(path: Path, data: bytes | bytearray) -> None:
    with disk_errors(path), path.open("ab") as stream:
        stream.write(data)


def _records(path: Path) -> Iterator[tuple[bytes, int, bytes]]:
    with path.open("rb") as file:
        while head := file.read(_RECORD.size):
            if len(head) < _RECORD.size:
                raise _damaged(path)
            digest, source, size = _RECORD.unpack(head)
            data = file.read(size) if size <= MAX_DOCUMENT_BYTES else b""
            if len(data) != size:
                raise _damaged(path)
            yield digest, source, data


def _damaged(path: Path) -> CorruptStateError:
    return CorruptStateError(f"{path} is damaged; remove {path.parent.parent} and prepare the data again", code="OPS-DATA")
