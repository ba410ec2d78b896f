"""Recipe trees and patches: their digests, and what a patch may touch.

A patch is judged by the tree it results in, never by the text of its diff. The tree digest is over a
canonical listing of (path, mode, content digest); the normalised digest is over token streams without
comments, docstrings and whitespace, so that cosmetic edits do not make a new patch.
"""

import ast
import io
import tokenize
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import blob_digest, digest, encode, envelope, open_envelope

TREE_TAG = "recipe-net/tree/v1"
NORMALISED_TAG = "recipe-net/normalised-tree/v1"
FILE_MODE = "100644"
MAX_TREE_FILES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeTree:
    """The files of a recipe: path (POSIX, relative) -> bytes. Every file has mode 100644."""

    files: Mapping[str, bytes] = field(repr=False)

    def listing(self) -> list[list[Any]]:
        """Return [path, mode, sha256] sorted by path."""
        return [[path, FILE_MODE, blob_digest(self.files[path])] for path in sorted(self.files)]

    def to_bytes(self) -> bytes:
        """Return the listing's envelope, the object under which a store keeps a tree."""
        return envelope(TREE_TAG, self.listing())

    def digest(self) -> bytes:
        """Return the digest of the listing."""
        return digest(TREE_TAG, self.listing())

    def normalised_digest(self) -> bytes:
        """Return the digest over token streams, blind to comments, docstrings and layout."""
        return digest(NORMALISED_TAG, [[path, _normalise(path, self.files[path])] for path in sorted(self.files)])


def parse_listing(data: bytes, *, limit: int = 1 << 16) -> dict[str, bytes]:
    """Parse a stored tree listing into path -> content digest."""
    rows = open_envelope(TREE_TAG, data, limit=limit)
    if not isinstance(rows, list) or len(rows) > MAX_TREE_FILES:
        raise UntrustedInputError("INT-SCHEMA", "a tree is a list of at most 256 files")
    listing: dict[str, bytes] = {}
    for row in rows:
        if not (isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and row[1] == FILE_MODE and isinstance(row[2], bytes) and len(row[2]) == 32):
            raise UntrustedInputError("INT-SCHEMA", "a tree entry is [path, mode, digest]")
        check_path(row[0])
        listing[row[0]] = row[2]
    if list(listing) != sorted(listing) or len(listing) != len(rows):
        raise UntrustedInputError("INT-SCHEMA", "tree entries are not sorted and unique")
    return listing


def check_path(path: str, *, max_length: int = 200) -> None:
    """Refuse a path that is absolute, climbs, hides or is not plain printable ASCII."""
    parts = path.split("/")
    if not path or len(path) > max_length or not path.isascii() or not path.isprintable() or "\\" in path:
        raise UntrustedInputError("INT-SCOPE", f"not an acceptable path: {path[:80]!r}")
    if path.startswith("/") or any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        raise UntrustedInputError("INT-SCOPE", f"not an acceptable path: {path[:80]!r}")


def _normalise(path: str, data: bytes) -> bytes:
    if path.endswith(".py"):
        return _normalise_python(data)
    if path.endswith(".toml"):
        return _normalise_toml(data)
    if path.endswith(".md"):
        return b""
    return blob_digest(data)


def _normalise_python(data: bytes) -> bytes:
    """Return the canonical dump of the syntax tree without docstrings; names stay as they are."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return blob_digest(data)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    try:
        return blob_digest(ast.dump(tree).encode("utf-8", "backslashreplace"))
    except RecursionError:
        return blob_digest(data)


def _normalise_toml(data: bytes) -> bytes:
    try:
        return encode(_textual(tomllib.loads(data.decode("utf-8"))))
    except (ValueError, TypeError, RecursionError):
        return blob_digest(data)


def _textual(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _textual(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_textual(item) for item in value]
    return f"{type(value).__name__}:{value!r}"


def literal_bytes(before: bytes, after: bytes) -> int:
    """Return how many bytes of string, bytes and number literals ``after`` has beyond ``before``."""
    return max(0, _count_literals(after) - _count_literals(before))


def _count_literals(data: bytes) -> int:
    total = 0
    try:
        for token in tokenize.tokenize(io.BytesIO(data).readline):
            if token.type in (tokenize.NUMBER, tokenize.STRING) or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
                total += len(token.string.encode())
    except (tokenize.TokenError, SyntaxError, IndentationError, UnicodeDecodeError):
        return len(data)
    return total
