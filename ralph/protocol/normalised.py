"""The meaning of a recipe file, without its spelling, and the opaque bytes it carries.

Two texts with the same normal form run the same: comments, docstrings and other statements without effect,
layout, quotes, redundant parentheses and the spelling of numbers are gone; names stay. Renaming therefore
makes a new normal form; a copy with new names is caught by its trajectory, not here.

Source is hostile. Everything here is bounded by the size of the file, and whatever cannot be parsed, or is
nested deeper than any honest recipe, is its own normal form: raw bytes, never an error. Limits are well
below the interpreter's own, so that the answer does not depend on the caller's stack or the Python version.
"""

import ast
import hashlib
import re
import tomllib
import warnings
from collections import Counter
from types import EllipsisType
from typing import Any

from ralph.protocol.canonical import blob_digest, encode

MAX_SOURCE_BYTES = 1 << 18
MAX_SYNTAX_DEPTH = 100
MAX_TOML_DOTS = 64
"""Dots in one line: tomllib takes quadratic time and more over a long dotted key."""
MAX_NAME_BYTES = 32
GRAMMAR = (3, 11)
_SPELLING = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_COOKIE = re.compile(rb"^[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)", re.MULTILINE)
_TOKEN = re.compile(
    rb"""(?P<comment>\#[^\n]*)
    | (?P<string>\"\"\"[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:\"\"\"|\\?\Z)
    |            '''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*(?:'''|\\?\Z)
    |            "[^"\\\n]*(?:\\.[^"\\\n]*)*"?
    |            '[^'\\\n]*(?:\\.[^'\\\n]*)*'?)
    | (?P<number>[0-9][0-9A-Za-z_.]*)
    | (?P<name>[A-Za-z_\x80-\xff][0-9A-Za-z_\x80-\xff]*)
    | (?P<open>[(\[{]) | (?P<close>[)\]}])""",
    re.DOTALL | re.VERBOSE,
)


class _Mark(str):
    """A piece of structure, as opposed to an identifier, on the stack of ``_digest_of_syntax``."""

    __slots__ = ()


_CLOSE, _END = _Mark(")"), _Mark("]")


def normal_form(path: str, data: bytes) -> bytes:
    """Return the normal form of a file; empty when the file says nothing to a training run."""
    if path.endswith(".md"):
        return b""
    form: bytes | None = None
    if len(data) <= MAX_SOURCE_BYTES:
        if path.endswith(".py"):
            form = _python(data)
        elif path.endswith(".toml"):
            form = _toml(data)
    return b"raw:" + blob_digest(data) if form is None else form


def literals(path: str, data: bytes) -> Counter[bytes]:
    """Return the opaque pieces of a file with their counts.

    Python source is scanned by a lexer of our own, whether it parses or not: strings, numbers, comments, and
    names longer than 32 bytes. It does not look into nested quotes of f-strings. In other files every line counts.
    """
    if not path.endswith(".py"):
        return Counter(line.strip() for line in data.split(b"\n"))
    found: Counter[bytes] = Counter()
    for match in _TOKEN.finditer(data):
        if match.lastgroup in ("comment", "string", "number") or (match.lastgroup == "name" and len(match[0]) > MAX_NAME_BYTES):
            found[match[0]] += 1
    return found


def _python(data: bytes) -> bytes | None:
    """Return the digest of the syntax tree, empty for a module without effect, None for what is not readable."""
    cookie = _COOKIE.search(b"\n".join(data.split(b"\n", 2)[:2]))
    if cookie and cookie[1].lower().replace(b"_", b"-") not in (b"utf-8", b"utf8", b"ascii"):
        return None
    if _nesting(data) > MAX_SYNTAX_DEPTH:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data.decode("utf-8-sig"), feature_version=GRAMMAR)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return _digest_of_syntax(tree) if _effective(tree.body) else b""


def _nesting(data: bytes) -> int:
    depth = deepest = 0
    for match in _TOKEN.finditer(data):
        if match.lastgroup == "open":
            depth += 1
            deepest = max(deepest, depth)
        elif match.lastgroup == "close":
            depth -= 1
    return deepest


def _digest_of_syntax(tree: ast.AST) -> bytes | None:
    """Return the digest of an unambiguous pre-order dump, None when it is too deep.

    ``ast.dump`` would recurse, fail on huge integers and differ between Python versions.
    """
    hasher = hashlib.sha256()
    stack: list[tuple[Any, int]] = [(tree, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > MAX_SYNTAX_DEPTH:
            return None
        if isinstance(item, _Mark):
            piece = b"mark:" + item.encode()
        elif isinstance(item, list):
            piece = b"mark:["
            stack.append((_END, depth))
            stack.extend((member, depth) for member in reversed(item))
        elif isinstance(item, ast.Constant):
            piece = b"constant:" + _atom(item.value)
        elif isinstance(item, ast.AST):
            piece = b"mark:(" + type(item).__name__.encode()
            stack.append((_CLOSE, depth))
            for name, value in reversed(list(ast.iter_fields(item))):
                said = _said(item, value)
                if said is not None and said != [] and name not in _SPELLING:
                    stack += [(said, depth + 1), (_Mark(name), depth)]
        else:
            piece = _atom(item)
        hasher.update(len(piece).to_bytes(4, "little") + piece)
    return b"syntax:" + hasher.digest()


def _effective(items: list[Any]) -> list[Any]:
    """Return a list of nodes without the statements that do nothing: docstrings, other bare constants and ``pass``."""
    return [
        item
        for item in items
        if not isinstance(item, ast.Pass) and not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
    ]


def _said(node: ast.AST, value: Any) -> Any:
    """Return what a field says, without the empty pieces of f-strings, which depend on the Python version."""
    if isinstance(node, ast.JoinedStr):
        return [piece for piece in value if not (isinstance(piece, ast.Constant) and piece.value == "")]
    return _effective(value) if isinstance(value, list) else value


def _atom(value: str | bytes | int | float | complex | EllipsisType | None) -> bytes:
    if isinstance(value, str):
        return b"str:" + value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return b"bytes:" + value
    if isinstance(value, bool) or value is None or value is ...:
        return f"constant:{value}".encode()
    if isinstance(value, int):
        return f"int:{value:x}".encode()
    if isinstance(value, float):
        return f"float:{value.hex()}".encode()
    return f"complex:{value.real.hex()},{value.imag.hex()}".encode()


def _toml(data: bytes) -> bytes | None:
    """Return the canonical encoding of the document's values, None for what is not readable or deeper than that encoding goes."""
    if any(line.count(b".") > MAX_TOML_DOTS for line in data.split(b"\n")):
        return None
    try:
        document = tomllib.loads(data.decode("utf-8"))
        return b"toml:" + encode(_textual(document)) if document else b""
    except (ValueError, TypeError, RecursionError):
        return None


def _textual(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _textual(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_textual(item) for item in value]
    if isinstance(value, str):
        return f"str:{value}"
    if isinstance(value, (bool, int, float)):
        return _atom(value).decode()
    return f"{type(value).__name__}:{value.isoformat()}"
