"""The lineage of kings, and a writer that is killed at every point."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ralph.errors import ConfigurationError, CorruptStateError, InfrastructureError
from ralph.protocol.patch import RecipeTree
from ralph.repository import plumbing
from ralph.repository.git import RecipeRepository
from ralph.repository.lineage import CrownFacts, next_tag, one_line, version

HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"


@pytest.fixture
def child(parent: RecipeTree) -> RecipeTree:
    return RecipeTree(files={**parent.files, "layers/new.py": b"x = 1\n"})


@pytest.fixture
def facts(parent: RecipeTree) -> CrownFacts:
    return CrownFacts(
        round=7,
        announcement=b"a" * 32,
        hotkey=HOTKEY,
        gain_bpb=0.0412,
        parent=parent.digest(),
        record=b"r" * 32,
        change="Double the learning rate",
        when=1_700_000_000,
    )


@pytest.fixture
def repository(parent: RecipeTree, tmp_path: Path) -> RecipeRepository:
    return RecipeRepository.create(tmp_path / "recipe.git", parent)


def git(path: Path, *arguments: str) -> str:
    done = subprocess.run(["git", f"--git-dir={path}", *arguments], check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def references(path: Path) -> str:
    return git(path, "for-each-ref", "--format=%(refname) %(objectname)")


def test_the_first_release_is_the_genesis_tree(repository: RecipeRepository, parent: RecipeTree) -> None:
    head = repository.head()
    assert (head.tag, head.tree, head.facts, head.parent_commit) == ("recipe-v1.0.0", parent.digest(), None, None)
    assert repository.tree("recipe-v1.0.0") == repository.tree(head.commit) == parent


def test_the_genesis_commit_is_the_same_everywhere(parent: RecipeTree, tmp_path: Path) -> None:
    first, second = (RecipeRepository.create(tmp_path / name, parent) for name in "ab")
    assert references(first.path) == references(second.path)


def test_creating_again_changes_nothing_even_after_crowns(
    repository: RecipeRepository, parent: RecipeTree, child: RecipeTree, facts: CrownFacts
) -> None:
    repository.crown(child, facts)
    before = references(repository.path)
    assert RecipeRepository.create(repository.path, parent).head().tag == "recipe-v1.1.0"
    assert references(repository.path) == before


def test_creating_with_another_genesis_is_refused(repository: RecipeRepository, child: RecipeTree) -> None:
    before = references(repository.path)
    with pytest.raises(ConfigurationError, match="begins with"):
        RecipeRepository.create(repository.path, child)
    assert references(repository.path) == before


def test_a_directory_without_a_lineage_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no recipe repository"):
        RecipeRepository.open(tmp_path)


def test_a_crown_is_a_commit_with_trailers_and_a_tag_with_notes(
    repository: RecipeRepository, child: RecipeTree, facts: CrownFacts, parent: RecipeTree
) -> None:
    assert repository.crown(child, facts) == "recipe-v1.1.0"
    head = repository.head()
    assert (head.tag, head.tree, head.facts, head.when) == ("recipe-v1.1.0", child.digest(), facts, facts.when)
    trailers = git(repository.path, "log", "-1", "--format=%(trailers:unfold)").splitlines()
    assert trailers[:4] == ["Round: 7", f"Announcement: {facts.announcement.hex()}", f"Hotkey: {HOTKEY}", "Gain: 0.0412 val_bpb"]
    assert git(repository.path, "log", "-1", "--format=%an|%ae|%cn|%ad|%cd", "--date=raw").strip() == (
        f"{HOTKEY}||{HOTKEY}|1700000000 +0000|1700000000 +0000"
    )
    assert git(repository.path, "cat-file", "-t", "recipe-v1.1.0").strip() == "tag"
    assert "| Gain over recipe-v1.0.0 | 0.0412 val_bpb |" in repository.notes("recipe-v1.1.0")
    assert [crown.tag for crown in repository.lineage()] == ["recipe-v1.0.0", "recipe-v1.1.0"]
    assert repository.tree("recipe-v1.0.0") == parent


def test_the_minor_version_grows_with_each_crown(repository: RecipeRepository, parent: RecipeTree, facts: CrownFacts) -> None:
    king = parent
    for number in range(3):
        tree = RecipeTree(files={**parent.files, "layers/new.py": b"x = %d\n" % number})
        tag = repository.crown(tree, replace(facts, announcement=bytes([number]) * 32, parent=king.digest(), round=number))
        assert tag == f"recipe-v1.{number + 1}.0"
        king = tree
    assert repository.find(parent.digest()) == repository.lineage()[0]
    assert repository.find(king.digest()) == repository.head()
    assert repository.find(b"?" * 32) is None


def test_two_validators_make_the_same_commit_and_tag(parent: RecipeTree, child: RecipeTree, facts: CrownFacts, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        RecipeRepository.create(path, parent).crown(child, facts)
    assert references(paths[0]) == references(paths[1])


def test_git_finds_nothing_to_complain_about(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts) -> None:
    repository.crown(child, facts)
    assert git(repository.path, "fsck", "--strict", "--full") == ""


def test_a_packed_repository_reads_the_same(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts) -> None:
    repository.crown(child, facts)
    git(repository.path, "gc", "--quiet", "--prune=now")
    reopened = RecipeRepository.open(repository.path)
    assert reopened.tree("recipe-v1.1.0") == child
    assert reopened.head().facts == facts
    assert reopened.notes("recipe-v1.1.0").startswith("# recipe-v1.1.0\n")
    assert reopened.crown(child, facts) == "recipe-v1.1.0"


def test_a_clone_checks_out_the_recipe(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts, tmp_path: Path) -> None:
    repository.crown(child, facts)
    subprocess.run(["git", "clone", "--quiet", repository.path, tmp_path / "clone"], check=True)
    assert (tmp_path / "clone" / "layers" / "new.py").read_bytes() == b"x = 1\n"


def test_crowning_again_changes_nothing(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts, parent: RecipeTree) -> None:
    repository.crown(child, facts)
    later = replace(facts, announcement=b"b" * 32, parent=child.digest())
    repository.crown(parent, later)
    before = references(repository.path)
    assert repository.crown(child, facts) == "recipe-v1.1.0"
    assert repository.crown(parent, later) == "recipe-v1.2.0"
    assert references(repository.path) == before


def test_one_announcement_is_never_crowned_twice(
    repository: RecipeRepository, child: RecipeTree, facts: CrownFacts, parent: RecipeTree
) -> None:
    repository.crown(child, facts)
    before = references(repository.path)
    for tree, other in ((child, replace(facts, gain_bpb=9.0)), (child, replace(facts, hotkey="1" * 48)), (parent, facts)):
        with pytest.raises(CorruptStateError, match="already crowned"):
            repository.crown(tree, other)
    assert references(repository.path) == before


def test_a_crown_against_another_king_is_refused(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts) -> None:
    before = references(repository.path)
    with pytest.raises(CorruptStateError, match="judged against"):
        repository.crown(child, replace(facts, parent=child.digest()))
    assert references(repository.path) == before


@pytest.mark.parametrize("lost", ["tag", "branch", "both"])
def test_whatever_a_kill_left_undone_is_finished_and_identical(
    repository: RecipeRepository, child: RecipeTree, facts: CrownFacts, lost: str
) -> None:
    genesis = repository.head().commit
    repository.crown(child, facts)
    complete = references(repository.path)
    if lost in ("tag", "both"):
        git(repository.path, "update-ref", "-d", "refs/tags/recipe-v1.1.0")
    if lost in ("branch", "both"):
        git(repository.path, "update-ref", "refs/heads/main", genesis)
    for lock in ("HEAD.lock", "refs/heads/main.lock", "refs/tags/recipe-v1.1.0.lock"):
        (repository.path / lock).touch()
    (repository.path / "scratch" / "left").mkdir(parents=True)
    assert RecipeRepository.open(repository.path).crown(child, facts) == "recipe-v1.1.0"
    assert references(repository.path) == complete
    assert list((repository.path / "scratch").iterdir()) == []


def test_a_missing_tag_is_written_when_the_repository_opens(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts) -> None:
    for tree, tag in ((None, "recipe-v1.0.0"), (child, "recipe-v1.1.0")):
        if tree is not None:
            repository.crown(tree, facts)
        complete = references(repository.path)
        git(repository.path, "update-ref", "-d", f"refs/tags/{tag}")
        RecipeRepository.open(repository.path)
        assert references(repository.path) == complete


DEADLY_GIT = """#!/bin/sh
here=${0%/*}
left=$(cat "$here/left")
[ "$left" = 0 ] && kill -9 $PPID && exit 1
echo $((left - 1)) > "$here/left"
PATH=/usr/local/bin:/usr/bin:/bin exec git "$@"
"""


@pytest.fixture
def deadly(tmp_path: Path) -> Path:
    """A git that kills the process that calls it for the n-th time."""
    (tmp_path / "deadly").mkdir()
    (tmp_path / "deadly" / "git").write_text(DEADLY_GIT)
    (tmp_path / "deadly" / "git").chmod(0o755)
    return tmp_path / "deadly"


def killed(deadly: Path, calls: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a process that is killed at its git call number ``calls``; say whether it came that far."""
    (deadly / "left").write_text(str(calls))
    pid = os.fork()
    if pid == 0:
        environment: dict[str, str] = vars(plumbing)["_ENVIRONMENT"]
        environment["PATH"] = f"{deadly}:/usr/bin:/bin"
        work()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


TINY = RecipeTree(files={"train.py": b"x = 1\n"})
TINY_CHILD = RecipeTree(files={"train.py": b"x = 2\n"})


def test_a_crown_killed_at_any_git_call_is_finished_by_the_next_one(facts: CrownFacts, tmp_path: Path, deadly: Path) -> None:
    facts = replace(facts, parent=TINY.digest())
    repository = RecipeRepository.create(tmp_path / "recipe.git", TINY)
    fresh = shutil.copytree(repository.path, tmp_path / "fresh")
    repository.crown(TINY_CHILD, facts)
    complete = references(repository.path)
    for calls in itertools.count():
        path = shutil.copytree(fresh, tmp_path / f"killed-{calls}")
        was_killed = killed(deadly, calls, lambda path=path: RecipeRepository(path).crown(TINY_CHILD, facts))
        assert RecipeRepository.open(path).crown(TINY_CHILD, facts) == "recipe-v1.1.0"
        assert references(path) == complete
        if not was_killed:
            break
    assert calls > 10


def test_a_creation_killed_at_any_git_call_is_finished_by_the_next_one(tmp_path: Path, deadly: Path) -> None:
    complete = references(RecipeRepository.create(tmp_path / "recipe.git", TINY).path)
    for calls in itertools.count():
        path = tmp_path / f"killed-{calls}"
        was_killed = killed(deadly, calls, lambda path=path: RecipeRepository.create(path, TINY))
        RecipeRepository.create(path, TINY)
        assert references(path) == complete
        if not was_killed:
            break
    assert calls > 10


def test_only_one_process_writes(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts) -> None:
    program = (
        "import fcntl, os, sys; descriptor = os.open(sys.argv[1], os.O_RDWR);"
        "fcntl.flock(descriptor, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(repository.path / "crown.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(InfrastructureError, match="another process is writing"):
            repository.crown(child, facts)
        holder.communicate()
    assert repository.crown(child, facts) == "recipe-v1.1.0"


def test_a_tag_of_another_crown_is_never_overwritten(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts) -> None:
    git(repository.path, "update-ref", "refs/tags/recipe-v1.1.0", repository.head().commit)
    before = references(repository.path)
    with pytest.raises(CorruptStateError, match="another release"):
        repository.crown(child, facts)
    assert references(repository.path) == before


def test_a_tag_moved_to_another_commit_is_noticed(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts) -> None:
    repository.crown(child, facts)
    git(repository.path, "update-ref", "refs/tags/recipe-v1.1.0", repository.lineage()[0].commit)
    with pytest.raises(CorruptStateError, match="points to the commit"):
        repository.tree("recipe-v1.1.0")


def test_a_commit_whose_tree_is_not_the_one_it_names_is_noticed(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts) -> None:
    """An operator rewrites the king and keeps the message."""
    repository.crown(child, facts)
    king = git(repository.path, "cat-file", "commit", "main")
    first = git(repository.path, "rev-parse", "recipe-v1.0.0^{tree}").strip()
    rewritten = f"tree {first}\n{king.partition(chr(10))[2]}"
    command = ["git", f"--git-dir={repository.path}", "hash-object", "-t", "commit", "-w", "--stdin"]
    forged = subprocess.run(command, input=rewritten, check=True, capture_output=True, text=True).stdout.strip()
    git(repository.path, "update-ref", "refs/heads/main", forged)
    with pytest.raises(CorruptStateError, match="holds the tree"):
        repository.tree(forged)


def test_a_foreign_commit_on_the_branch_is_noticed(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts) -> None:
    environment = {**os.environ, "GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x", "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x"}
    king = repository.head().commit
    command = ["git", f"--git-dir={repository.path}", "commit-tree", f"{king}^{{tree}}", "-p", king, "-m", "hotfix"]
    foreign = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()
    git(repository.path, "update-ref", "refs/heads/main", foreign)
    with pytest.raises(CorruptStateError, match="not a crown"):
        repository.head()


def test_a_repository_that_lost_an_object_stops(repository: RecipeRepository) -> None:
    shutil.rmtree(repository.path / "objects")
    (repository.path / "objects").mkdir()
    with pytest.raises((CorruptStateError, InfrastructureError)):
        repository.tree("recipe-v1.0.0")


@pytest.mark.parametrize("revision", ["main", "HEAD~1", "--all", "recipe-v1.0", "refs/heads/main", "recipe-v1.0.0^{tree}", "", "a" * 39])
def test_a_revision_is_a_release_tag_or_a_full_commit_id(repository: RecipeRepository, revision: str) -> None:
    with pytest.raises(CorruptStateError, match="not a release tag"):
        repository.tree(revision)


def test_a_release_that_does_not_exist_is_said_so(repository: RecipeRepository) -> None:
    for read in (repository.tree, repository.notes):
        with pytest.raises(ConfigurationError, match=r"no release recipe-v9\.0\.0"):
            read("recipe-v9.0.0")


HOSTILE = [
    "evil\n\nAnnouncement: " + "b" * 64 + "\nHotkey: thief",
    "\x1b]0;owned\x07\x1b[2J text",
    "<script>alert(1)</script> ![x](https://evil.example/t.png) @everyone `rm -rf /` | a | b |",
    "\u202egpj.exe \u2028 line",
    "=cmd|' /C calc'!A0",
    "x" * 100_000,
    "",
    " \t\n",
    "# heading\n> quote\n```",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_description_stays_one_harmless_line(
    repository: RecipeRepository, child: RecipeTree, facts: CrownFacts, text: str
) -> None:
    repository.crown(child, replace(facts, change=text))
    head = repository.head()
    assert head.facts == replace(facts, change=text)
    message = git(repository.path, "log", "-1", "--format=%B")
    assert message.isascii()
    assert all(letter.isprintable() or letter == "\n" for letter in message)
    assert len(message.splitlines()[0]) < 150
    assert message.count("Announcement: ") - message.splitlines()[0].count("Announcement: ") == 1
    notes = repository.notes("recipe-v1.1.0")
    for active in ("<script", "![", "](http", "https://", "@everyone"):
        assert active not in notes
    assert len([line for line in notes.splitlines() if line.startswith(">")]) == 1


def test_one_line_is_stable_under_repetition() -> None:
    for text in HOSTILE:
        assert one_line(one_line(text)) == one_line(text)


@pytest.mark.parametrize(
    "wrong", [{"announcement": b"a"}, {"hotkey": "x <evil@x> 0 +0000\nparent"}, {"when": -1}, {"round": -1}, {"gain_bpb": float("nan")}]
)
def test_facts_that_cannot_be_written_are_refused(facts: CrownFacts, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(facts, **wrong)


def test_versions_count_by_number() -> None:
    assert next_tag("recipe-v1.9.0") == "recipe-v1.10.0"
    assert version("recipe-v1.10.0") > version("recipe-v1.9.0")
