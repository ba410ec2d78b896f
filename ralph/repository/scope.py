"""The scope of a change: two trees compared against what a patch may touch.

This is the boundary. It knows nothing of diffs: it sees the parent's tree and the tree that came out, so renames,
copies, quotes and repeated headers of a diff's text cannot matter. An ordered allow-list decides, then limits.

A file may be modified where the Rules name it or a directory above it; added likewise; removed only below a
directory that the Rules name, because the host and the worker rely on the files that are named one by one.
"""

from dataclasses import dataclass

from ralph.errors import UntrustedInputError
from ralph.protocol.patch import RecipeTree, added_lines, check_path, literal_bytes
from ralph.protocol.rules import PatchRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One changed file with what was measured of it."""

    path: str
    status: str
    """A added, M modified, D removed."""
    size_bytes: int
    added_lines: int
    literal_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a change touches, within the Rules."""

    changes: tuple[Change, ...]

    @property
    def added_lines(self) -> int:
        """Return the lines that the parent's files did not have."""
        return sum(change.added_lines for change in self.changes)

    @property
    def literal_bytes(self) -> int:
        """Return the opaque bytes that the parent's files did not have."""
        return sum(change.literal_bytes for change in self.changes)


def check_scope(parent: RecipeTree, child: RecipeTree, rules: PatchRules) -> Scope:
    """Compare two trees and return what changed.

    Raises:
        UntrustedInputError: ``INT-NOAPPLY`` when nothing changed, ``INT-SCOPE`` for a path or suffix that is not
            patchable, ``INT-SIZE`` over a limit; the detail has the measured value and the limit.
    """
    paths = sorted(path for path in {*parent.files, *child.files} if parent.files.get(path) != child.files.get(path))
    check_count(len(paths), rules)
    for path in paths:
        check_place(path, _status(path, parent, child), rules)
        check_file_size(path, len(child.files.get(path, b"")), rules)
    scope = Scope(changes=tuple(_measure(path, parent, child) for path in paths))
    _check_limit("lines added", scope.added_lines, rules.max_added_lines)
    _check_limit("bytes of literals, comments and long names added", scope.literal_bytes, rules.max_literal_bytes)
    return scope


def check_count(count: int, rules: PatchRules) -> None:
    """Refuse a change of nothing and a change of too many files."""
    if count == 0:
        raise UntrustedInputError("INT-NOAPPLY", "0 files changed, at least 1 is needed")
    _check_limit("files changed", count, rules.max_changed_files)


def check_place(path: str, status: str, rules: PatchRules) -> None:
    """Refuse a change of a file that is not patchable, or of another kind than adding, modifying, removing."""
    check_path(path)
    below = any(place.endswith("/") and path.startswith(place) for place in rules.patchable)
    if not below and path not in rules.patchable:
        raise UntrustedInputError("INT-SCOPE", f"{path} is not patchable; patchable are {_shown(rules.patchable)}")
    if not path.endswith(rules.suffixes):
        raise UntrustedInputError("INT-SCOPE", f"{path} is not of a patchable type; types are {_shown(rules.suffixes)}")
    if status not in ("A", "M") and not (status == "D" and below):
        raise UntrustedInputError("INT-SCOPE", f"{path} may be modified, not removed or replaced (git status {status})")


def check_file_size(path: str, size: int, rules: PatchRules) -> None:
    """Refuse a file that comes out too large."""
    _check_limit(f"bytes in {path}", size, rules.max_file_bytes)


def _status(path: str, parent: RecipeTree, child: RecipeTree) -> str:
    if path not in parent.files:
        return "A"
    return "M" if path in child.files else "D"


def _measure(path: str, parent: RecipeTree, child: RecipeTree) -> Change:
    before, after = parent.files.get(path, b""), child.files.get(path, b"")
    return Change(
        path=path,
        status=_status(path, parent, child),
        size_bytes=len(after),
        added_lines=added_lines(before, after),
        literal_bytes=literal_bytes(before, after, path=path),
    )


def _check_limit(what: str, value: int, limit: int) -> None:
    if value > limit:
        raise UntrustedInputError("INT-SIZE", f"{value} {what}, limit {limit}")


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:12]) or "none"
