"""Honest patches: made, applied and carried over to a new king."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import PatchRules
from ralph.repository.apply import apply_patch, diff, merge
from ralph.repository.scope import check_scope
from ralph.repository.trees import read_tree

LINE = st.sampled_from([b"", b"x = 1", b"y = 2", b"-- ", b"--- a/train.py", b"+++ b/train.py", b"@@ -1 +1 @@", b"GIT binary patch"])
ODD_LINE = st.binary(max_size=6).map(lambda data: data.replace(b"\n", b""))
CONTENT = st.builds(
    lambda lines, end, last: end.join(lines) + last,
    st.lists(LINE | ODD_LINE, max_size=8),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n"]),
)
FILES = st.dictionaries(st.sampled_from(["model.py", "layers/a.py", "layers/b.py", "layers/deep/c.py"]), CONTENT, max_size=4)


def changed(tree: RecipeTree, **files: bytes | None) -> RecipeTree:
    """Return ``tree`` with files replaced; ``layers__norm`` stands for ``layers/norm.py``, None removes."""
    named = {f"{name.replace('__', '/')}.py": data for name, data in files.items()}
    return RecipeTree(files={path: data for path, data in {**tree.files, **named}.items() if data is not None})


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(before=FILES, after=FILES)
def test_a_diff_applies_to_the_identical_tree(before: dict[str, bytes], after: dict[str, bytes], scratch: Path, rules: PatchRules) -> None:
    parent, child = RecipeTree(files={"model.py": b"", **before}), RecipeTree(files={"model.py": b"", **after})
    patch = diff(scratch, parent, child)
    if parent == child:
        assert patch == b""
    else:
        assert apply_patch(scratch, parent, patch, rules) == child


def test_a_diff_is_the_same_bytes_each_time(parent: RecipeTree, scratch: Path) -> None:
    child = changed(parent, model=b"import torch\n", layers__new=b"x = 1\n", layers__norm=None)
    assert diff(scratch, parent, child) == diff(scratch, parent, child)


def test_nothing_stays_in_the_scratch_directory(parent: RecipeTree, rules: PatchRules, scratch: Path) -> None:
    apply_patch(scratch, parent, diff(scratch, parent, changed(parent, layers__new=b"x = 1\n")), rules)
    assert list(scratch.iterdir()) == []


def test_the_scope_says_what_was_measured(parent: RecipeTree, rules: PatchRules) -> None:
    child = changed(parent, layers__new=b"name = 'abc'  # why\n\n", layers__norm=None)
    scope = check_scope(parent, child, rules)
    assert [(change.path, change.status) for change in scope.changes] == [("layers/new.py", "A"), ("layers/norm.py", "D")]
    assert (scope.added_lines, scope.literal_bytes) == (2, len("'abc'") + len("# why"))


def test_a_moved_block_adds_no_lines(parent: RecipeTree, rules: PatchRules) -> None:
    lines = parent.files["model.py"].splitlines(keepends=True)
    assert check_scope(parent, changed(parent, model=b"".join(reversed(lines))), rules).added_lines == 0


@pytest.mark.parametrize(
    ("limit", "child"),
    [
        ("max_changed_files", {"layers__a": b"", "layers__b": b"", "layers__c": b""}),
        ("max_added_lines", {"layers__a": b"a\nb\nc\n"}),
        ("max_file_bytes", {"layers__a": b"abc"}),
        ("max_literal_bytes", {"layers__a": b"'a'"}),
    ],
)
def test_a_limit_is_inclusive_and_one_more_is_refused(
    parent: RecipeTree, rules: PatchRules, scratch: Path, limit: str, child: dict[str, bytes]
) -> None:
    after = changed(parent, **child)
    patch = diff(scratch, parent, after)
    assert apply_patch(scratch, parent, patch, rules.model_copy(update={limit: 3})) == after
    with pytest.raises(UntrustedInputError, match=r"INT-SIZE: 3 .*, limit 2"):
        apply_patch(scratch, parent, patch, rules.model_copy(update={limit: 2}))


def test_the_patch_itself_has_a_limit(parent: RecipeTree, rules: PatchRules, scratch: Path) -> None:
    patch = diff(scratch, parent, changed(parent, layers__a=b"x = 1\n"))
    assert apply_patch(scratch, parent, patch, rules.model_copy(update={"max_patch_bytes": len(patch)}))
    with pytest.raises(UntrustedInputError, match="INT-SIZE"):
        apply_patch(scratch, parent, patch, rules.model_copy(update={"max_patch_bytes": len(patch) - 1}))


def test_a_patch_for_another_parent_does_not_apply(parent: RecipeTree, rules: PatchRules, scratch: Path) -> None:
    other = changed(parent, model=b"something else\n")
    with pytest.raises(UntrustedInputError, match=r"INT-NOAPPLY: git says: error: patch failed: model\.py:1"):
        apply_patch(scratch, parent, diff(scratch, other, changed(other, model=b"something\n")), rules)


@pytest.mark.parametrize("patch", [b"", b"\n", b"no patch at all\n", b"diff --git a/model.py b/model.py\n", b"\0" * 100])
def test_what_is_no_patch_does_not_apply(parent: RecipeTree, rules: PatchRules, scratch: Path, patch: bytes) -> None:
    with pytest.raises(UntrustedInputError, match="INT-NOAPPLY"):
        apply_patch(scratch, parent, patch, rules)


def test_a_scratch_directory_that_cannot_be_used_is_never_the_miners_fault(parent: RecipeTree, rules: PatchRules, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError):
        apply_patch(tmp_path / "file", parent, b"", rules)


def test_a_disk_that_refuses_writes_is_never_the_miners_fault(tmp_path: Path) -> None:
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from ralph.errors import InfrastructureError\n"
        "from ralph.protocol.patch import RecipeTree\n"
        "from ralph.protocol.rules import PatchRules\n"
        "from ralph.repository.apply import apply_patch\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "rules = PatchRules(patchable=('model.py',), suffixes=('.py',), max_patch_bytes=9999, max_file_bytes=9999,\n"
        "                   max_changed_files=9, max_added_lines=999, max_literal_bytes=9999)\n"
        "try:\n"
        "    apply_patch(Path(sys.argv[1]), RecipeTree(files={'model.py': b'a'}), b'', rules)\n"
        "except InfrastructureError:\n"
        "    sys.exit(0)\n"
        "sys.exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=Path(__file__).parents[2], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_git_that_is_not_installed_is_never_the_miners_fault(
    parent: RecipeTree, rules: PatchRules, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules["ralph.repository.plumbing"].__dict__["_ENVIRONMENT"], "PATH", "/nonexistent")
    with pytest.raises(InfrastructureError, match="cannot start git"):
        apply_patch(scratch, parent, b"", rules)


def test_changes_to_different_places_are_merged(parent: RecipeTree, scratch: Path) -> None:
    config = parent.files["config/base.toml"]
    ours = RecipeTree(files={**parent.files, "config/base.toml": config.replace(b"0.0025", b"0.005"), "layers/ours.py": b"a\n"})
    theirs = RecipeTree(files={**parent.files, "config/base.toml": config.replace(b"= 16", b"= 32"), "layers/theirs.py": b"b\n"})
    merged = merge(scratch, parent, ours, theirs)
    assert merged is not None
    assert merged.files["config/base.toml"] == config.replace(b"0.0025", b"0.005").replace(b"= 16", b"= 32")
    assert (merged.files["layers/ours.py"], merged.files["layers/theirs.py"]) == (b"a\n", b"b\n")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"model": b"ours\n"}, {"model": b"theirs\n"}),
        ({"layers__new": b"ours\n"}, {"layers__new": b"theirs\n"}),
        ({"layers__norm": None}, {"layers__norm": b"theirs\n"}),
        ({"layers__norm": b"ours\n"}, {"layers__norm": None}),
        ({"layers__norm": b"ours\0\n"}, {"layers__norm": b"theirs\0\n"}),
    ],
)
def test_a_conflict_is_none(parent: RecipeTree, scratch: Path, ours: dict[str, bytes], theirs: dict[str, bytes]) -> None:
    assert merge(scratch, parent, changed(parent, **ours), changed(parent, **theirs)) is None


@pytest.mark.parametrize("change", [{"model": b"same\n"}, {"layers__new": b"same\n"}, {"layers__norm": None}, {}])
def test_the_same_change_on_both_sides_is_no_conflict(parent: RecipeTree, scratch: Path, change: dict[str, bytes]) -> None:
    both = changed(parent, **change)
    assert merge(scratch, parent, both, both) == both
    assert merge(scratch, parent, both, parent) == both
    assert merge(scratch, parent, parent, both) == both


def test_knobs_of_the_shipped_recipe_do_not_conflict_with_their_neighbours(scratch: Path) -> None:
    recipe = read_tree(Path(__file__).parents[2] / "recipe")
    lines = recipe.files["config/base.toml"].split(b"\n")
    values = [number for number, line in enumerate(lines) if line.startswith(b"value = ")]
    ours, theirs = ([*lines], [*lines])
    for count, number in enumerate(values):
        (ours if count % 2 else theirs)[number] = b"value = 12345"
    sides = [RecipeTree(files={**recipe.files, "config/base.toml": b"\n".join(side)}) for side in (ours, theirs)]
    merged = merge(scratch, recipe, *sides)
    assert merged is not None
    assert merged.files["config/base.toml"].count(b"value = 12345") == len(values)


def test_two_processes_may_share_a_scratch_directory(parent: RecipeTree, rules: PatchRules, scratch: Path) -> None:
    child = changed(parent, layers__a=b"x = 1\n")
    patch = diff(scratch, parent, child)
    workers = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if apply_patch(scratch, parent, patch, rules) == child else 1)
        workers.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in workers] == [0, 0, 0]
