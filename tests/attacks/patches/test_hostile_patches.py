"""Patches that try to leave the patchable files, to smuggle something in, or to hurt the machine (T4, T6, T8).

Each is given to ``apply_patch`` as bytes, as a miner would send it, and must end in exactly its reason code.
"""

import base64
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from ralph.errors import UntrustedInputError
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import PatchRules
from ralph.repository import plumbing
from ralph.repository.apply import apply_patch, diff

TRAIN = b"".join(b"step_%d = %d\n" % (number, number) for number in range(40))
PARENT = RecipeTree(
    files={
        "README.md": b"# A recipe\n",
        "config/base.toml": b"[learning_rate]\nvalue = 0.0025\n",
        "layers/norm.py": b"def norm(x):\n    return x\n",
        "model.py": b'"""' + b"A docstring. " * 200 + b'"""\nwidth = 64\n',
        "train.py": TRAIN,
    }
)
RULES = PatchRules(
    patchable=("model.py", "config/base.toml", "layers/"),
    suffixes=(".py", ".toml"),
    max_patch_bytes=65536,
    max_file_bytes=16384,
    max_changed_files=4,
    max_added_lines=60,
    max_literal_bytes=1024,
)
MODEL_HUNK = b"@@ -2 +2 @@\n-width = 64\n+width = 65\n"


def new_file(path: str, lines: Sequence[bytes] = (b"x = 1",), *, mode: str = "100644", end: bytes = b"\n") -> bytes:
    """Return a diff that adds a file; ``path`` is written as it is, quoted or not."""
    quoted = path if path.startswith('"') else f"b/{path}"
    old = quoted.replace("b/", "a/", 1)
    header = f"diff --git {old} {quoted}\nnew file mode {mode}\n--- /dev/null\n+++ {quoted}\n@@ -0,0 +1,{len(lines)} @@\n"
    return header.encode() + b"".join(b"+" + line + end for line in lines)


def modify(path: str, old: bytes, new: Sequence[bytes]) -> bytes:
    """Return a diff that replaces the only line of a file."""
    body = b"".join(b"+" + line + b"\n" for line in new)
    return f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1 +1,{len(new)} @@\n".encode() + b"-" + old + b"\n" + body


def removal(path: str, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    header = f"diff --git a/{path} b/{path}\ndeleted file mode 100644\n--- a/{path}\n+++ /dev/null\n@@ -1,{len(lines)} +0,0 @@\n"
    return header.encode() + b"".join(b"-" + line for line in lines)


def headers(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def replaced_by_link(path: str, data: bytes) -> bytes:
    link = new_file(path, [b"/etc/passwd"], mode="120000")
    return removal(path, data) + link + b"\\ No newline at end of file\n"


def binary_patch(path: str, data: bytes) -> bytes:
    """Return git's own binary patch format, which unpacks without any limit of git's."""
    packed = zlib.compress(data, 9)
    lines = [b"%c%s" % (_length_letter(len(part)), base64.b85encode(part, pad=True)) for part in _parts(packed, 52)]
    header = headers(f"diff --git a/{path} b/{path}", "new file mode 100644", f"index {'0' * 40}..{'1' * 40}", "GIT binary patch")
    return header + b"literal %d\n" % len(data) + b"\n".join(lines) + b"\n\n"


def _length_letter(length: int) -> int:
    return length - 1 + ord("A") if length <= 26 else length - 27 + ord("a")


def _parts(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


WEIGHTS = base64.b64encode(random.Random(0).randbytes(3000))
COMMIT_ID = "1" * 40

SCOPE = {
    "a protected file": modify("README.md", b"# A recipe", [b"# My recipe"]),
    "a protected file next to a patchable one": headers("diff --git a/model.py b/model.py", "--- a/model.py", "+++ b/model.py")
    + MODEL_HUNK
    + modify("README.md", b"# A recipe", [b"# My recipe"]),
    "a new link": new_file("layers/link.py", [b"/etc/passwd"], mode="120000"),
    "a file turned into a link": replaced_by_link("layers/norm.py", PARENT.files["layers/norm.py"]),
    "a submodule": new_file("layers/sub.py", [b"Subproject commit " + COMMIT_ID.encode()], mode="160000"),
    "an executable": new_file("layers/run.py", mode="100755"),
    "a mode change": headers("diff --git a/model.py b/model.py", "old mode 100644", "new mode 100755"),
    "a mode change with content": headers(
        "diff --git a/model.py b/model.py", "old mode 100644", "new mode 100755", "--- a/model.py", "+++ b/model.py"
    )
    + MODEL_HUNK,
    "git attributes": new_file(".gitattributes", [b"* filter=evil"]),
    "git attributes below a patchable directory": new_file("layers/.gitattributes", [b"* filter=evil"]),
    "git modules": new_file(".gitmodules", [b'[submodule "x"]']),
    "a workflow": new_file(".github/workflows/release.yml", [b"on: push"]),
    "compiled Python": new_file("layers/fast.pyc"),
    "a path file": new_file("layers/fast.pth", [b"import os"]),
    "a shared object": new_file("layers/fast.so"),
    "no suffix": new_file("layers/Makefile"),
    "a hidden file": new_file("layers/.hidden.py"),
    "sitecustomize": new_file("sitecustomize.py"),
    "usercustomize": new_file("usercustomize.py"),
    "a package that shadows numpy": new_file("numpy/__init__.py"),
    "a module that shadows torch": new_file("torch.py"),
    "a directory whose name begins like a patchable one": new_file("layers2/x.py"),
    "a file below a patchable file's name": new_file("config/base.toml.d/x.toml"),
    "another case of a patchable name": new_file("Model.py"),
    "another case of a patchable directory": new_file("Layers/x.py"),
    "two files that differ in case only": new_file("layers/NORM.py"),
    "two new files that differ in case only": new_file("layers/a.py") + new_file("layers/A.py"),
    "directories that differ in case only": new_file("layers/deep/a.py") + new_file("layers/DEEP/b.py"),
    "headers that contradict each other": headers("diff --git a/model.py b/model.py", "--- a/model.py", "+++ b/train.py") + MODEL_HUNK,
    "two names without a rename": headers("diff --git a/model.py b/train.py", "--- a/model.py", "+++ b/train.py") + MODEL_HUNK,
    "a renamed protected file": headers(
        "diff --git a/train.py b/layers/train.py", "similarity index 100%", "rename from train.py", "rename to layers/train.py"
    ),
    "a file renamed over the border": headers(
        "diff --git a/layers/norm.py b/norm.py", "similarity index 100%", "rename from layers/norm.py", "rename to norm.py"
    ),
    "a copy over the border": headers("diff --git a/model.py b/fast.py", "similarity index 100%", "copy from model.py", "copy to fast.py"),
    "a file that the Rules name removed": removal("model.py", PARENT.files["model.py"]),
    "a protected file removed": removal("train.py", TRAIN),
    "a quoted protected path": headers('diff --git "a/train\\056py" "b/train\\056py"', "deleted file mode 100644")
    + removal("train.py", TRAIN).split(b"\n", 2)[2].replace(b"a/train.py", b'"a/train\\056py"'),
    "a quoted newline": new_file('"b/layers/a\\nb.py"'),
    "a quoted control character": new_file('"b/layers/a\\033[2Jb.py"'),
    "a quoted quote": new_file('"b/layers/a\\"b.py"'),
    "a tab": new_file('"b/layers/a\\tb.py"'),
    "a backslash": new_file('"b/layers\\\\evil.py"'),
    "a space": new_file("layers/a b.py"),
    "an option": new_file("layers/-rf.py"),
    "a right-to-left mark": new_file('"b/layers/a\\342\\200\\256b.py"'),
    "bytes that are no text": new_file('"b/layers/\\377\\376.py"'),
    "a full-width dot": new_file('"b/layers/a\\357\\274\\216py.py"'),
    "a very long path": new_file("layers/" + "d/" * 120 + "x.py"),
    "a trailing dot": new_file("layers/x.py./y.py"),
    "an absolute path without a git header": headers("--- /dev/null", "+++ /etc/cron.d/x.py", "@@ -0,0 +1 @@", "+x = 1"),
    "a binary patch": binary_patch("layers/weights.py", bytes(100)),
    "a binary patch bomb": binary_patch("layers/weights.py", bytes(40_000_000)),
    "a binary delta": headers(
        "diff --git a/model.py b/model.py", f"index {'1' * 40}..{'2' * 40} 100644", "GIT binary patch", "delta 300000000", "cmZQ%"
    ),
    "a binary patch behind a prologue": b"From: me\n\n" + binary_patch("layers/weights.py", bytes(100)),
}

NO_APPLY = {
    "a path that climbs": new_file("layers/../train.py"),
    "a path that climbs out": new_file("../../etc/cron.d/x.py"),
    "a quoted path that climbs": new_file('"b/layers/\\056\\056/train.py"'),
    "a path with an empty part": new_file("layers//x.py"),
    "an absolute path": new_file("/etc/cron.d/x.py"),
    "git's own directory": new_file(".git/hooks/post-checkout", [b"#!/bin/sh"]),
    "git's own directory in another case": new_file(".GIT/config", [b"[core]"]),
    "git's own directory below": new_file("layers/.git/config", [b"[core]"]),
    "git's own directory as Windows abbreviates it": new_file("git~1/config", [b"[core]"]),
    "a file that is there already": new_file("model.py"),
    "a file and a directory of one name": new_file("layers/norm.py/x.py"),
    "line ends of another system": headers("diff --git a/model.py b/model.py", "--- a/model.py", "+++ b/model.py")
    + MODEL_HUNK.replace(b"\n", b"\r\n"),
    "a hunk that is cut off": headers("diff --git a/model.py b/model.py", "--- a/model.py", "+++ b/model.py") + b"@@ -1,9 +1,9 @@\n a\n",
    "a hunk of absurd length": headers("diff --git a/model.py b/model.py", "--- a/model.py", "+++ b/model.py")
    + b"@@ -1,18446744073709551615 +1,18446744073709551615 @@\n-a\n+b\n",
    "a binary file by reference": headers(
        "diff --git a/layers/x.py b/layers/x.py",
        "new file mode 100644",
        f"index {'0' * 40}..{'1' * 40}",
        "Binary files /dev/null and b/layers/x.py differ",
    ),
    "no change at all": headers("diff --git a/model.py b/model.py", "old mode 100644", "new mode 100644"),
    "a submodule that is a word": new_file("layers/sub.py", [b"Subproject commit ../../etc"], mode="160000"),
}

SIZE = {
    "a patch over the limit": new_file("layers/x.py", [b"#" * 100] * 700),
    "a new file over the limit": new_file("layers/x.py", [b"x" * 400] * 41),
    "one very long line": new_file("layers/x.py", [b"x" * 20000]),
    "too many files": b"".join(new_file(f"layers/{number}.py") for number in range(5)),
    "hundreds of files": b"".join(new_file(f"layers/{number}.py") for number in range(300)),
    "too many lines": new_file("layers/x.py", [b"x"] * 61),
    "too many lines over two files": new_file("layers/x.py", [b"x"] * 31) + new_file("layers/y.py", [b"x"] * 31),
    "too many lines in the same file twice": new_file("layers/x.py", [b"x"] * 60)
    + headers("diff --git a/layers/x.py b/layers/x.py", "--- a/layers/x.py", "+++ b/layers/x.py", "@@ -60,0 +61 @@", "+x", "")
    .replace(b"@@ -60,0 +61 @@\n", b"@@ -58,3 +58,4 @@\n x\n x\n x\n")
    .rstrip(b"\n")
    + b"\n",
    "copies of a file": b"".join(
        headers(f"diff --git a/train.py b/layers/{number}.py", "similarity index 100%", "copy from train.py", f"copy to layers/{number}.py")
        for number in range(2)
    ),
    "weights in a string": new_file("layers/w.py", [b"w = '" + WEIGHTS[:2000] + b"'"]),
    "weights in many strings": new_file("layers/w.py", [b"w += b'%s'" % WEIGHTS[start : start + 40] for start in range(0, 1200, 40)]),
    "weights in a triple-quoted string": new_file("layers/w.py", [b'w = """', *_parts(WEIGHTS[:1200], 60), b'"""']),
    "weights in a string that never ends": new_file("layers/w.py", [b'w = """', *_parts(WEIGHTS[:1200], 60)]),
    "weights in comments": new_file("layers/w.py", [b"# " + part for part in _parts(WEIGHTS[:1200], 60)]),
    "weights in a docstring that takes the place of another": headers(
        "diff --git a/model.py b/model.py", "--- a/model.py", "+++ b/model.py"
    )
    + b"@@ -1,2 +1,2 @@\n-"
    + PARENT.files["model.py"].split(b"\n")[0]
    + b'\n+"""'
    + WEIGHTS[:1200]
    + b'"""\n width = 64\n',
    "weights in numbers": new_file("layers/w.py", [b"w = [" + b", ".join(b"%d" % byte for byte in WEIGHTS[:600]) + b"]"]),
    "weights in one huge number": new_file("layers/w.py", [b"w = 0x" + WEIGHTS.hex().encode()[:2000]]),
    "weights in names": new_file("layers/w.py", [b"class A" + part.hex().encode() + b": pass" for part in _parts(WEIGHTS[:1200], 60)]),
    "weights in a file that does not parse": new_file("layers/w.py", [b"w = (", b"'" + WEIGHTS[:1200] + b"'"]),
    "weights in the configuration": headers(
        "diff --git a/config/base.toml b/config/base.toml", "--- a/config/base.toml", "+++ b/config/base.toml"
    )
    + b"@@ -1,2 +1,3 @@\n [learning_rate]\n value = 0.0025\n+note = '"
    + WEIGHTS[:1200]
    + b"'\n",
    "weights in the configuration's comments": headers(
        "diff --git a/config/base.toml b/config/base.toml", "--- a/config/base.toml", "+++ b/config/base.toml"
    )
    + b"@@ -1,2 +1,3 @@\n [learning_rate]\n value = 0.0025\n+# "
    + WEIGHTS[:1200]
    + b"\n",
}


def reason_of(patch: bytes, scratch: Path, rules: PatchRules = RULES) -> str:
    with pytest.raises(UntrustedInputError) as refusal:
        apply_patch(scratch, PARENT, patch, rules)
    assert "\n" not in refusal.value.detail
    assert refusal.value.detail.isprintable()
    return refusal.value.code


@pytest.mark.parametrize("name", SCOPE)
def test_leaving_the_patchable_files_is_out_of_scope(name: str, tmp_path: Path) -> None:
    assert reason_of(SCOPE[name], tmp_path) == "INT-SCOPE"


@pytest.mark.parametrize("name", NO_APPLY)
def test_what_git_refuses_does_not_apply(name: str, tmp_path: Path) -> None:
    assert reason_of(NO_APPLY[name], tmp_path) == "INT-NOAPPLY"


@pytest.mark.parametrize("name", SIZE)
def test_more_than_the_rules_allow_is_refused(name: str, tmp_path: Path) -> None:
    assert reason_of(SIZE[name], tmp_path) == "INT-SIZE"


def test_a_refused_patch_leaves_nothing_behind(tmp_path: Path) -> None:
    for patch in (SCOPE["a new link"], NO_APPLY["a path that climbs out"], SIZE["hundreds of files"]):
        reason_of(patch, tmp_path / "scratch")
        assert list((tmp_path / "scratch").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]


def test_a_copy_within_the_limits_is_judged_as_the_file_it_makes(tmp_path: Path) -> None:
    patch = headers(
        "diff --git a/layers/norm.py b/layers/other.py", "similarity index 100%", "copy from layers/norm.py", "copy to layers/other.py"
    )
    assert apply_patch(tmp_path, PARENT, patch, RULES).files["layers/other.py"] == PARENT.files["layers/norm.py"]


def test_a_rename_below_a_patchable_directory_is_a_removal_and_an_addition(tmp_path: Path) -> None:
    patch = headers(
        "diff --git a/layers/norm.py b/layers/other.py", "similarity index 100%", "rename from layers/norm.py", "rename to layers/other.py"
    )
    assert set(apply_patch(tmp_path, PARENT, patch, RULES).files) == {*PARENT.files, "layers/other.py"} - {"layers/norm.py"}


RENAME = headers(
    "diff --git a/layers/norm.py b/layers/n.py", "similarity index 100%", "rename from layers/norm.py", "rename to layers/n.py"
)


@pytest.mark.parametrize(
    "patch",
    [
        b"Subject: this changes train.py\n\n--- train.py | 9 +++\n\n" + new_file("layers/x.py"),
        new_file("layers/x.py") + removal("layers/x.py", b"x = 1\n"),
        RENAME + RENAME,
        removal("layers/norm.py", PARENT.files["layers/norm.py"]) + new_file("layers/norm.py"),
    ],
)
def test_the_tree_is_judged_whatever_the_text_says(patch: bytes, tmp_path: Path) -> None:
    """A diff may contradict itself and git may make of it what it likes: what comes out is in scope and is the answer."""
    child = apply_patch(tmp_path, PARENT, patch, RULES)
    changed = {path for path in {*child.files, *PARENT.files} if child.files.get(path) != PARENT.files.get(path)}
    assert changed
    assert all(path.startswith("layers/") for path in changed)


def test_line_ends_are_content_and_stay_as_they_are(tmp_path: Path) -> None:
    child = apply_patch(tmp_path, PARENT, new_file("layers/x.py", [b"a = 1\r", b"b = 2"]), RULES)
    assert child.files["layers/x.py"] == b"a = 1\r\nb = 2\n"


def test_a_patch_that_takes_forever_ends_at_the_cpu_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank context lines that match almost everywhere cost git the product of both lengths."""
    monkeypatch.setattr(plumbing, "CPU_LIMIT_S", 1)
    filled = new_file("layers/x.py", [b""] * 300_000 + [b"z"])
    hunk = b"@@ -7,120004 +7,120005 @@\n" + b" \n" * 120_000 + b"-y\n+x\n+x\n" + b" \n" * 3
    patch = filled + headers("diff --git a/layers/x.py b/layers/x.py", "--- a/layers/x.py", "+++ b/layers/x.py") + hunk
    with pytest.raises(UntrustedInputError, match=r"INT-NOAPPLY: .* CPU seconds"):
        apply_patch(tmp_path, PARENT, patch, RULES.model_copy(update={"max_patch_bytes": 1 << 20}))


def test_nothing_in_the_operators_home_or_environment_runs_or_changes_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile or merely unusual git configuration of the operator: filters, hooks, attributes, a work tree."""
    child = RecipeTree(files={**PARENT.files, "layers/new.py": b"a = 1\r\nb = 2  \n"})
    patch = diff(tmp_path / "quiet", PARENT, child)
    marker = tmp_path / "ran"
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\necho ran >> {marker}\nexit 1\n")
    script.chmod(0o755)
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    for hook in ("reference-transaction", "post-index-change", "applypatch-msg", "pre-applypatch", "post-checkout"):
        (hooks / hook).symlink_to(script)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitattributes").write_text("* filter=evil text eol=crlf merge=evil diff=evil\n")
    (home / ".gitconfig").write_text(
        f"[core]\n\thooksPath = {hooks}\n\tfsmonitor = {script}\n\tattributesFile = {home}/.gitattributes\n"
        f"\tautocrlf = true\n\tpager = {script}\n[init]\n\ttemplateDir = {tmp_path}/template\n"
        f"[apply]\n\twhitespace = error\n[diff]\n\texternal = {script}\n\tnoprefix = true\n"
        f'[filter "evil"]\n\tclean = {script}\n\tsmudge = {script}\n[merge "evil"]\n\tdriver = {script}\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(tmp_path / "template"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(script))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(home))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_TRACE", str(marker))
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    monkeypatch.chdir(home)
    assert diff(tmp_path / "scratch", PARENT, child) == patch
    assert apply_patch(tmp_path / "scratch", PARENT, patch, RULES) == child
    assert not marker.exists()
    assert not (tmp_path / "index").exists()
