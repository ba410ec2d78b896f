"""Text that is already on this machine: the Python standard library of the running interpreter.

A document is the source of one function (source ``code``) or a piece of about 800 characters of
documentation (source ``docs``: docstrings of modules and classes, help topics of ``pydoc``). Whole files
make bad documents: a row of 64 tokens would see nothing but the licence.

The text depends on the patch version of Python, so digests of data differ between machines; on one
machine the documents and their order are always the same. Anybody with the same Python can make the same
text: as a hidden pool it is good for demos and tests, not for secrets.
"""

import ast
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

CODE = "code"
DOCS = "docs"
MIN_DOCUMENT_BYTES = 200
"""Shorter pieces are mostly signatures without a body."""
PIECE_CHARACTERS = 800
"""Documentation is cut at the first blank line after this many characters."""
SKIPPED_DIRECTORIES = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "distutils", "ensurepip", "site-packages", "dist-packages", "__pycache__"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text and the named source it belongs to."""

    source: str
    text: str


class Corpus(Protocol):
    """Documents to prepare data from."""

    @property
    def name(self) -> str:
        """Return where the text comes from, for the manifest."""
        ...

    @property
    def identity(self) -> str | None:
        """Return what two corpora share only if they have the same documents in the same order; None where nobody can say."""
        ...

    def documents(self, skip: int) -> Iterator[Document]:
        """Yield the documents in a fixed order, without the first ``skip``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Documents that somebody has at hand. A preparation of them cannot be continued by another process."""

    texts: Iterable[Document]
    name: str = "documents"
    identity: str | None = None

    def documents(self, skip: int) -> Iterator[Document]:
        """Yield the documents."""
        return islice(self.texts, skip, None)


def stdlib() -> Given:
    """Return the standard library of the running Python as a corpus. Reading it takes seconds, so it is never continued."""
    return Given(texts=stdlib_documents(), name=stdlib_name())


def stdlib_name() -> str:
    """Return what the manifest says about the origin of this corpus."""
    return f"standard library of {platform.python_implementation()} {platform.python_version()}"


def stdlib_documents(root: Path | None = None) -> Iterator[Document]:
    """Yield documents of the standard library in a fixed order, duplicates included.

    Args:
        root: Directory of the library; None means that of the running interpreter.
    """
    for directory, children, names in os.walk(root or sysconfig.get_path("stdlib")):
        children[:] = sorted(set(children) - SKIPPED_DIRECTORIES)
        for name in sorted(names):
            if name.endswith(".py"):
                yield from _file_documents(Path(directory, name))


def _file_documents(path: Path) -> Iterator[Document]:
    try:
        text = path.read_text("utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(text)
    except (SyntaxError, ValueError):  # a template or a file in another encoding: no text for us
        return
    lines = text.splitlines(keepends=True)
    pieces = chain(_documentation(module), _topics(module) if path.parent.name == "pydoc_data" else ())
    yield from (Document(source=DOCS, text=piece) for piece in pieces if _is_long_enough(piece))
    functions = ("".join(lines[start:end]) for start, end in _function_lines(module))
    yield from (Document(source=CODE, text=function) for function in functions if _is_long_enough(function))


def _is_long_enough(text: str) -> bool:
    return len(text.encode("utf-8", "surrogatepass")) >= MIN_DOCUMENT_BYTES


def _function_lines(node: ast.AST) -> Iterator[tuple[int, int]]:
    """Yield [start, end) lines of functions and methods; what is nested in a function belongs to it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            yield first - 1, child.end_lineno or child.lineno
        elif isinstance(child, (ast.stmt, ast.excepthandler)):
            yield from _function_lines(child)


def _documentation(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    yield from cut((ast.get_docstring(node) or "").splitlines(keepends=True))
    for child in node.body:
        if isinstance(child, ast.ClassDef):
            yield from _documentation(child)


def _topics(module: ast.Module) -> Iterator[str]:
    """Yield pieces of the help topics: a module whose last statement assigns a dict of texts."""
    for statement in module.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            for value in statement.value.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield from cut(value.value.splitlines(keepends=True))


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield pieces of about ``PIECE_CHARACTERS``, cut at blank lines, or at any line past twice as many."""
    piece: list[str] = []
    size = 0
    for line in lines:
        blank = not line.strip()
        if size >= PIECE_CHARACTERS * 2 or (blank and size >= PIECE_CHARACTERS):
            yield "".join(piece)
            piece, size = [], 0
        if piece or not blank:
            piece.append(line)
            size += len(line)
    if piece:
        yield "".join(piece)
