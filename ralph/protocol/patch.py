"""Recipe trees and patches: what a tree is, and its digests.

A patch is judged by the tree it results in, never by the text of its diff. The tree digest is over a
canonical listing of (path, mode, content digest); the normalised digest is over what the files mean,
so that comments, docstrings, layout and spelling do not make a new patch (``normalised.py``).

A ``RecipeTree`` that exists is well formed: acceptable paths, no two of them equal without regard to
case, sizes within limits. What the files say is not checked here.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import blob_digest, digest, envelope, open_envelope
from ralph.protocol.normalised import literals, normal_form

TREE_TAG = "recipe-net/tree/v1"
NORMALISED_TAG = "recipe-net/normalised-tree/v1"
FILE_MODE = "100644"
MAX_TREE_FILES = 256
MAX_TREE_BYTES = 16 * 1024 * 1024
MAX_LISTING_BYTES = 1 << 16
MAX_PATH_LENGTH = 200
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeTree:
    """The files of a recipe: path (POSIX, relative) -> bytes. Every file has mode 100644.

    Raises:
        UntrustedInputError: ``INT-SCOPE`` for a path or a pair of paths that no tree may hold,
            ``INT-SIZE`` for more than 256 files or 16 MiB.
    """

    files: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.files) > MAX_TREE_FILES:
            raise UntrustedInputError("INT-SIZE", f"a tree of {len(self.files)} files, limit {MAX_TREE_FILES}")
        size = sum(len(data) for data in self.files.values())
        if size > MAX_TREE_BYTES:
            raise UntrustedInputError("INT-SIZE", f"a tree of {size} bytes, limit {MAX_TREE_BYTES}")
        check_paths(self.files)
        object.__setattr__(self, "files", {path: self.files[path] for path in sorted(self.files)})

    def listing(self) -> list[list[str | bytes]]:
        """Return [path, mode, sha256] sorted by path."""
        return [[path, FILE_MODE, blob_digest(data)] for path, data in self.files.items()]

    def to_bytes(self) -> bytes:
        """Return the listing's envelope, the object under which a store keeps a tree."""
        return envelope(TREE_TAG, self.listing())

    def digest(self) -> bytes:
        """Return the digest of the listing."""
        return digest(TREE_TAG, self.listing())

    def normalised_digest(self) -> bytes:
        """Return the digest over what the files mean, blind to comments, docstrings, layout and spelling.

        Files that say nothing (prose, modules without a statement) do not count, not even their names.
        """
        forms = ((path, normal_form(path, data)) for path, data in self.files.items())
        return digest(NORMALISED_TAG, [[path, form] for path, form in forms if form])


def parse_listing(data: bytes, *, limit: int = MAX_LISTING_BYTES) -> dict[str, bytes]:
    """Parse a stored tree listing into path -> content digest."""
    rows = open_envelope(TREE_TAG, data, limit=limit)
    if not isinstance(rows, list) or len(rows) > MAX_TREE_FILES:
        raise UntrustedInputError("INT-SCHEMA", f"a tree is a list of at most {MAX_TREE_FILES} files")
    listing: dict[str, bytes] = {}
    for row in rows:
        match row:
            case [str(path), str(mode), bytes(content)] if mode == FILE_MODE and len(content) == 32:
                listing[path] = content
            case _:
                raise UntrustedInputError("INT-SCHEMA", "a tree entry is [path, mode, digest]")
    if list(listing) != sorted(listing) or len(listing) != len(rows):
        raise UntrustedInputError("INT-SCHEMA", "tree entries are not sorted and unique")
    check_paths(listing)
    return listing


def check_path(path: str, *, max_length: int = MAX_PATH_LENGTH) -> None:
    """Refuse a path that is absolute, climbs, hides, looks like an option, or is not plain ASCII.

    Every part is letters, digits and ``_ . + -``, begins with a letter, digit or ``_`` and does not end in a dot,
    so a path is the same file on every file system and needs no quoting in a diff, a shell or a page.
    """
    parts = path[: max_length + 1].split("/")
    if len(path) > max_length or any(not _PART.fullmatch(part) or part.endswith(".") for part in parts):
        raise UntrustedInputError("INT-SCOPE", f"not an acceptable path: {path[:80]!a}")


def check_paths(paths: Iterable[str]) -> None:
    """Refuse unacceptable paths, and two paths that are one file or file and directory when case is ignored."""
    seen: dict[str, tuple[str, bool]] = {}
    for path in paths:
        check_path(path)
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            prefix, is_file = "/".join(parts[:count]), count == len(parts)
            other, other_is_file = seen.setdefault(prefix.lower(), (prefix, is_file))
            if (other, other_is_file) != (prefix, is_file):
                raise UntrustedInputError("INT-SCOPE", f"{path} and {other} differ in case only, or are file and directory")


def literal_bytes(before: bytes, after: bytes, *, path: str = "module.py") -> int:
    """Return how many bytes of opaque content ``after`` has that ``before`` has not.

    Counted as a multiset, so that old literals cannot be traded in for new ones. In Python source opaque
    means strings, numbers, comments and names longer than 32 bytes; in every other file each line does.
    """
    return _bytes_of(literals(path, after) - literals(path, before))


def added_lines(before: bytes, after: bytes) -> int:
    """Return how many lines ``after`` has that ``before`` has not, wherever they stand.

    A multiset difference: linear in time and independent of any diff algorithm and its version.
    """
    return (Counter(_lines(after)) - Counter(_lines(before))).total()


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _bytes_of(tokens: Counter[bytes]) -> int:
    return sum(len(token) * count for token, count in tokens.items())
