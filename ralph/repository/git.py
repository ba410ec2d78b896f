"""The lineage: a bare repository with one commit and one release tag for each crown and each restoration of an earlier king.

Contents are read with ``cat-file``, never checked out. Every git process goes through ``plumbing.py``; GitPython is not
used because it hands the operator's whole environment on to git and reads part of it itself.

``crown`` and ``restore`` may be killed at any point and called again with the same arguments. Objects come first, and nothing refers to
them until the tree that was committed has been read back and found to be the judged one; then branch and tag move in
one transaction. What a kill leaves behind is either unreachable objects or a missing branch or tag, and all of it heals
on the next call because commit and tag are pure functions of the arguments. A release that would differ is never overwritten.
"""

import fcntl
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ralph.errors import ConfigurationError, CorruptStateError, InfrastructureError
from ralph.protocol.patch import RecipeTree
from ralph.repository.lineage import (
    FIRST_TAG,
    VALIDATOR,
    Crown,
    CrownFacts,
    Facts,
    RestorationFacts,
    commit_of,
    message_of,
    next_tag,
    parse,
    restored_tag,
    tag_of,
    version,
)
from ralph.repository.plumbing import GitDirectory

logger = logging.getLogger(__name__)

BRANCH = "refs/heads/main"
TAGS = "refs/tags/"
AUTHOR_OF_GENESIS = "genesis"
NO_OBJECT = "0" * 40
_SCRATCH = "scratch"
_LOCK = "crown.lock"
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)


class RecipeRepository:
    """A bare git repository that holds the kings."""

    def __init__(self, path: Path) -> None:
        """Use the repository at ``path`` as it is; see ``create`` and ``open``."""
        self.path = path.absolute()
        self._reader = GitDirectory(path=self.path, scratch=self.path)

    @classmethod
    def create(cls, path: Path, genesis: RecipeTree, *, when: int = 0, author: str = AUTHOR_OF_GENESIS) -> "RecipeRepository":
        """Make a repository whose first release is ``genesis``. Repeating it, also after a kill, changes nothing.

        Args:
            path: Where; made with its parents.
            genesis: The first recipe.
            when: Unix seconds of its commit. The default gives everyone the same commit.
            author: Name in the commit.

        Raises:
            ConfigurationError: There is a repository that begins with another tree, author or date.
        """
        repository = cls(path)
        with repository._writing() as writer:
            writer.initialise()
            commit = repository._commit(writer, genesis, FIRST_TAG, None, author=author, when=when, parent=None)
            if writer.reference(BRANCH) is None:
                repository._publish(writer, repository._crown(commit), None)
        first = repository.lineage()[0]
        if first.commit != commit:
            raise ConfigurationError(f"{path} already holds a lineage that begins with {first.commit}, not with {commit}")
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> "RecipeRepository":
        """Open a repository and finish what a kill interrupted. Raises ConfigurationError when there is none."""
        repository = cls(path)
        if not (repository.path / "HEAD").is_file() or repository._reader.reference(BRANCH) is None:
            raise ConfigurationError(f"{path} holds no recipe repository; create it first")
        if repository._reader.reference(TAGS + repository.head().tag) is None:
            with repository._writing() as writer:
                repository._heal(writer)
        return repository

    def head(self) -> Crown:
        """Return the king's commit."""
        tip = self._reader.reference(BRANCH)
        if tip is None:
            raise CorruptStateError(f"{self.path} has no {BRANCH}")
        return self._crown(tip)

    def lineage(self) -> tuple[Crown, ...]:
        """Return every crown, the first one first."""
        commits = self._reader.call("rev-list", "--reverse", "--first-parent", BRANCH).decode("ascii").split()
        return tuple(parse(commit, content) for commit, content in zip(commits, self._reader.objects(commits, "commit"), strict=True))

    def find(self, tree: bytes) -> Crown | None:
        """Return the newest crown with this tree digest, None when it was never king."""
        return next((crown for crown in reversed(self.lineage()) if crown.tree == tree), None)

    def tree(self, revision: str) -> RecipeTree:
        """Return the tree of a release tag or a commit id.

        Raises:
            ConfigurationError: There is no such release.
            CorruptStateError: What is stored is not the tree that its commit names.
        """
        if _COMMIT.fullmatch(revision):
            crown = self._crown(revision)
        else:
            crown = self._crown(self._object_of(revision, "commit"))
            if crown.tag != revision:
                raise CorruptStateError(f"the tag {revision} points to the commit of {crown.tag}")
        return _verified(self._reader, crown.commit, crown.tree)

    def notes(self, tag: str) -> str:
        """Return the release notes of a tag in Markdown, as its annotated tag holds them."""
        content = self._reader.objects([self._object_of(tag, "tag")], "tag")[0]
        return content.decode("ascii", "replace").partition("\n\n")[2]

    def crown(self, tree: RecipeTree, facts: CrownFacts) -> str:
        """Commit ``tree`` as the new king and return its release tag. Idempotent: each announcement is crowned once.

        Raises:
            CorruptStateError: The king is not the parent that the facts name, this announcement is already crowned with
                other facts or another tree, or the committed tree is not the judged one. Nothing was changed.
            InfrastructureError: Another process is writing, or git or the disk failed.
        """
        with self._writing() as writer:
            self._heal(writer)
            lineage = self.lineage()
            for crown in lineage:
                if isinstance(crown.facts, CrownFacts) and crown.facts.announcement == facts.announcement:
                    if (crown.facts, crown.tree) != (facts, tree.digest()):
                        raise CorruptStateError(
                            f"announcement {facts.announcement.hex()} is already crowned as {crown.tag} with other facts"
                        )
                    return crown.tag
            king = lineage[-1]
            if king.tree != facts.parent:
                raise CorruptStateError(f"the king's tree is {king.tree.hex()}, the crown was judged against {facts.parent.hex()}")
            tag = next_tag(king.tag)
            commit = self._commit(writer, tree, tag, facts, author=facts.hotkey, when=facts.when, parent=king.commit)
            self._publish(writer, self._crown(commit), king)
        logger.info("crowned %s: commit %s, announcement %s", tag, commit, facts.announcement.hex())
        return tag

    def restore(self, facts: RestorationFacts) -> str:
        """Commit the tree of an earlier king as the king's again and return its release tag. Idempotent: each Record restores once.

        Raises:
            CorruptStateError: The king is not the one that the facts demote, the restored tree was never king, or what is stored is
                another tree. Nothing was changed.
            InfrastructureError: Another process is writing, or git or the disk failed.
        """
        with self._writing() as writer:
            self._heal(writer)
            lineage = self.lineage()
            done = next((one for one in lineage if isinstance(one.facts, RestorationFacts) and one.facts.record == facts.record), None)
            if done is not None and done.facts != facts:
                raise CorruptStateError(f"record {facts.record.hex()} already restored {done.tag} with other facts")
            if done is not None:
                return done.tag
            king, before = lineage[-1], next((one for one in reversed(lineage) if one.tree == facts.restored), None)
            if king.tree != facts.demoted or before is None:
                raise CorruptStateError(
                    f"the king's tree is {king.tree.hex()}, not {facts.demoted.hex()}, or the restored one was never king"
                )
            tree, tag = _verified(writer, before.commit, facts.restored), restored_tag(king.tag)
            commit = self._commit(writer, tree, tag, facts, author=VALIDATOR, when=facts.when, parent=king.commit)
            self._publish(writer, self._crown(commit), king)
        logger.warning("restored %s as %s: commit %s, record %s", before.tag, tag, commit, facts.record.hex())
        return tag

    def _commit(self, writer: GitDirectory, tree: RecipeTree, tag: str, facts: Facts, *, author: str, when: int, parent: str | None) -> str:
        """Write blobs, tree and commit, read the tree back, and return the commit that nothing refers to yet."""
        git_tree = writer.write_tree(tree)
        _verified(writer, git_tree, tree.digest())
        message = message_of(tag, tree.digest(), facts)
        return writer.write_object("commit", commit_of(git_tree, parent, message, author=author, when=when))

    def _publish(self, writer: GitDirectory, crown: Crown, previous: Crown | None) -> None:
        """Write the tag object and move branch and tag in one transaction."""
        tag = writer.write_object("tag", tag_of(crown, previous.tag if previous else None))
        present = writer.reference(TAGS + crown.tag)
        if present not in (None, tag):
            raise CorruptStateError(f"{crown.tag} exists already and is another release: {present}, not {tag}")
        commands = ["start", f"update {BRANCH} {crown.commit} {writer.reference(BRANCH) or NO_OBJECT}"]
        if present is None:
            commands.append(f"create {TAGS}{crown.tag} {tag}")
        for name in ("HEAD", BRANCH, TAGS + crown.tag):
            (self.path / f"{name}.lock").unlink(missing_ok=True)
        writer.call("update-ref", "--stdin", stdin="\n".join([*commands, "prepare", "commit", ""]).encode())

    def _heal(self, writer: GitDirectory) -> None:
        """Write the king's tag if a kill came between branch and tag."""
        king = self.head()
        if writer.reference(TAGS + king.tag) is None:
            self._publish(writer, king, self._crown(king.parent_commit) if king.parent_commit else None)

    def _crown(self, commit: str) -> Crown:
        return parse(commit, self._reader.objects([commit], "commit")[0])

    def _object_of(self, tag: str, kind: str) -> str:
        """Return the id of a release tag's annotated tag object or of its commit."""
        version(tag)
        if self._reader.reference(TAGS + tag) is None:
            raise ConfigurationError(f"no release {tag} in {self.path}")
        return self._reader.call("rev-parse", "--verify", "--end-of-options", f"{TAGS}{tag}^{{{kind}}}").decode("ascii").strip()

    @contextmanager
    def _writing(self) -> Iterator[GitDirectory]:
        """Hold the writer's lock, and lend a git directory with a scratch folder that is empty."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)
                (self.path / _SCRATCH).mkdir()
                with tempfile.TemporaryDirectory(dir=self.path / _SCRATCH) as folder:
                    yield GitDirectory(path=self.path, scratch=Path(folder), durable=True)
            finally:
                os.close(descriptor)
        except BlockingIOError as error:
            raise InfrastructureError(f"another process is writing to {self.path}") from error
        except OSError as error:
            raise InfrastructureError(f"cannot write to {self.path}: {error}") from error


def _verified(directory: GitDirectory, treeish: str, digest: bytes) -> RecipeTree:
    """Read a tree and compare its digest. Raises CorruptStateError when it is another tree."""
    tree = directory.read_tree(treeish)
    if tree.digest() != digest:
        raise CorruptStateError(f"{treeish} holds the tree {tree.digest().hex()}, not {digest.hex()}")
    return tree
