"""Text files of one's own as a corpus: plain text, cut into documents at blank lines, or JSON lines with a text each."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ralph.data.corpora import Document, cut
from ralph.errors import ConfigurationError
from ralph.protocol.canonical import digest
from ralph.protocol.data import SOURCE_NAME

IDENTITY_TAG = "recipe-net/data/text-files/v1"
SUFFIXES = (".txt", ".md", ".rst", ".jsonl")
JSON_LINES = ".jsonl"
TEXT = "text"
MAX_LINE = 1 << 20
"""Characters of plain text after which a line ends in any case: a file may be one line."""
MAX_JSON_LINE = 1 << 26
"""Four times the longest document, for escapes; what is cut here is no JSON any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFiles:
    """Files by the name of their source, in a fixed order."""

    files: tuple[tuple[str, Path], ...]

    @property
    def name(self) -> str:
        """Return where the text comes from; where it lies on this machine is nobody's business."""
        sources = sorted({source for source, _ in self.files})
        return f"{len(self.files)} text files ({', '.join(sources)})"

    @property
    def identity(self) -> str:
        """Return a digest of places, sizes and times of change: reading all of it again would cost as much as preparing."""
        rows = [[source, str(path), path.stat().st_size, path.stat().st_mtime_ns] for source, path in self.files]
        return digest(IDENTITY_TAG, rows).hex()

    def documents(self, skip: int) -> Iterator[Document]:
        """Yield the documents. Raises ConfigurationError, OPS-DATA, for a file that is no UTF-8 or no JSON lines."""
        return islice((Document(source=source, text=text) for source, path in self.files for text in _texts(path)), skip, None)


def text_files(wanted: dict[str, list[Path]]) -> TextFiles:
    """Return the files and everything in the directories of each source, in the order of their paths.

    Raises:
        ConfigurationError: A path that is not there, a source without text, or a name that no manifest can hold.
    """
    found: list[tuple[str, Path]] = []
    for source, paths in sorted(wanted.items()):
        if not re.fullmatch(SOURCE_NAME, source):
            detail = f"{source!r} is no name of a source: lower-case letters, digits and _, a letter first, at most 32"
            raise ConfigurationError(detail)
        files = [file for path in paths for file in _files(path)]
        if not files:
            raise ConfigurationError(f"source {source} has no files that end in {', '.join(SUFFIXES)}", code="OPS-DATA")
        found += [(source, file.absolute()) for file in files]
    return TextFiles(files=tuple(found))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigurationError(f"{path} does not exist", code="OPS-DATA")
    return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())


def _texts(path: Path) -> Iterator[str]:
    try:
        if path.suffix == JSON_LINES:
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(iter(partial(lines.readline, MAX_JSON_LINE), ""), start=1):
                    yield _text(path, number, line)
        else:
            with path.open(encoding="utf-8", newline="") as lines:
                yield from cut(iter(partial(lines.readline, MAX_LINE), ""))
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: {error}", code="OPS-DATA") from error


def _text(path: Path, number: int, line: str) -> str:
    try:
        text = json.loads(line)[TEXT]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{path}, line {number} is no JSON object with {TEXT!r}", code="OPS-DATA") from error
    if not isinstance(text, str):
        raise ConfigurationError(f"{path}, line {number}: {TEXT!r} is no string", code="OPS-DATA")
    return text
