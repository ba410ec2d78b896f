"""Patches between recipe trees: apply a hostile one, make one, merge two.

The text of a diff is never parsed to decide anything. ``apply_patch`` gives it to ``git apply --cached`` in a bare
repository that holds nothing but the parent and is thrown away, asks git for the raw difference of the two trees
(modes, blobs, paths), and judges that. There is no work tree, so there is nothing for a link, hook, filter or
attribute to act on. The one thing looked for in the text is ``GIT binary patch``: it expands a small patch to
hundreds of megabytes before there is a tree to judge.
"""

import re
import tempfile
from pathlib import Path

from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.protocol.patch import FILE_MODE, RecipeTree
from ralph.protocol.rules import PatchRules
from ralph.repository.plumbing import CPU_LIMIT_S, Finished, GitDirectory, RawChange, still_writable, workbench
from ralph.repository.scope import check_count, check_file_size, check_place, check_scope

_BINARY = re.compile(rb"^GIT binary patch", re.MULTILINE)
_MERGE_ERROR = 128
"""``git merge-file`` ends with the number of conflicts, at most 127, or with a status beyond."""


def apply_patch(scratch: Path, parent: RecipeTree, patch: bytes, rules: PatchRules) -> RecipeTree:
    """Return the tree that ``patch`` makes of ``parent``, if it stays within ``rules``.

    Args:
        scratch: A directory for temporary files; nothing stays in it.
        parent: The king's tree.
        patch: A unified diff, as hostile as it likes.
        rules: What may be touched.

    Raises:
        UntrustedInputError: ``INT-SIZE`` over a limit, ``INT-NOAPPLY`` when git refuses it, it changes nothing or takes
            too long, ``INT-SCOPE`` when the tree it makes differs where it may not.
        InfrastructureError: No git, no disk, or past the deadline while the machine is busy.
    """
    if len(patch) > rules.max_patch_bytes:
        raise UntrustedInputError("INT-SIZE", f"{len(patch)} bytes of patch, limit {rules.max_patch_bytes}")
    if _BINARY.search(patch):
        raise UntrustedInputError("INT-SCOPE", "a binary patch; patches are text")
    with workbench(scratch) as bench:
        before = bench.write_tree(parent)
        _apply(bench, patch)
        changes = bench.raw_changes(before, _tree_of(bench))
        files = {**parent.files, **_judged_files(bench, changes, rules)}
    removed = {change.path.decode("ascii") for change in changes if change.status == "D"}
    child = RecipeTree(files={path: data for path, data in files.items() if path not in removed})
    check_scope(parent, child, rules)
    return child


def diff(scratch: Path, parent: RecipeTree, child: RecipeTree) -> bytes:
    """Return a unified diff that makes ``child`` of ``parent``; the same bytes for the same trees, empty for equal ones."""
    with workbench(scratch) as bench:
        before, after = bench.write_tree(parent), bench.write_tree(child)
        return bench.call(
            *("diff-tree", "-r", "-p", "--no-renames", "--full-index", "--text", "--no-color", "--no-ext-diff", "--no-textconv"),
            *("--diff-algorithm=myers", "--unified=3", "--src-prefix=a/", "--dst-prefix=b/", before, after),
        )


def merge(scratch: Path, base: RecipeTree, ours: RecipeTree, theirs: RecipeTree) -> RecipeTree | None:
    """Bring the change from ``base`` to ``theirs`` over to ``ours``, file by file; None when they conflict.

    A file that only one side changed, added or removed is taken from that side. One that both changed is merged line
    by line; one that is binary, that both added or one removed, is a conflict, unless both did the same.
    """
    files: dict[str, bytes] = {}
    with workbench(scratch) as bench:
        for path in {*base.files, *ours.files, *theirs.files}:
            old, our, their = (tree.files.get(path) for tree in (base, ours, theirs))
            merged = their if our in (old, their) else our
            if our not in (old, their) and their != old:
                if old is None or our is None or their is None or b"\0" in old + our + their:
                    return None
                merged = _merge_file(bench, old, our, their)
                if merged is None:
                    return None
            if merged is not None:
                files[path] = merged
    return RecipeTree(files=files)


def _apply(bench: GitDirectory, patch: bytes) -> None:
    finished = bench.run("apply", "--cached", "--whitespace=nowarn", "-", stdin=patch)
    if finished.status != 0:
        still_writable(bench.scratch)
        raise UntrustedInputError("INT-NOAPPLY", _refusal(finished))


def _tree_of(bench: GitDirectory) -> str:
    """Return the tree of the patched index, which git refuses to write when its paths contradict each other."""
    finished = bench.run("write-tree")
    if finished.status != 0:
        still_writable(bench.scratch)
        raise UntrustedInputError("INT-NOAPPLY", _refusal(finished))
    return finished.output.decode("ascii").strip()


def _refusal(finished: Finished) -> str:
    if finished.exhausted:
        return f"applying it takes more than {CPU_LIMIT_S} CPU seconds or makes too large a file"
    return f"git says: {finished.message()}"


def _judged_files(bench: GitDirectory, changes: tuple[RawChange, ...], rules: PatchRules) -> dict[str, bytes]:
    """Return the changed and added files after every check that needs no content."""
    check_count(len(changes), rules)
    for change in changes:
        path = change.path.decode("ascii", "backslashreplace")
        check_place(path, change.status, rules)
        if change.status != "D" and change.mode != FILE_MODE:
            raise UntrustedInputError("INT-SCOPE", f"{path} would have mode {change.mode}, only {FILE_MODE} is allowed")
    kept = [change for change in changes if change.status != "D"]
    blobs = [change.blob for change in kept]
    for change, size in zip(kept, bench.sizes(blobs), strict=True):
        check_file_size(change.path.decode("ascii"), size, rules)
    return {change.path.decode("ascii"): data for change, data in zip(kept, bench.objects(blobs), strict=True)}


def _merge_file(bench: GitDirectory, old: bytes, our: bytes, their: bytes) -> bytes | None:
    with tempfile.TemporaryDirectory(dir=bench.scratch, prefix="merge-") as folder:
        names = [f"{Path(folder).name}/{name}" for name in ("ours", "base", "theirs")]
        for name, data in zip(names, (our, old, their), strict=True):
            (bench.scratch / name).write_bytes(data)
        finished = bench.run("merge-file", "--stdout", "--quiet", "--diff3", *names)
    if finished.status == 0:
        return finished.output
    if finished.exhausted or 0 < finished.status < _MERGE_ERROR:
        return None
    raise InfrastructureError(f"git merge-file ended with status {finished.status}: {finished.message()}")
