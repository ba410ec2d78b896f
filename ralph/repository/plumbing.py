"""Run git on bare directories, with nothing of ours in its environment.

Every git process is started here: a fixed environment (no HOME, no system or user configuration, no
attributes, no hooks, no replaced objects, one locale), an explicit git directory, no work tree, a deadline and
limits on CPU seconds, memory and file size. What goes in and comes out are trees, ids and bytes; nothing is ever
checked out, so no filter, attribute or hook can run.
"""

import errno
import logging
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ralph.errors import CorruptStateError, InfrastructureError, UntrustedInputError
from ralph.protocol.patch import FILE_MODE, MAX_TREE_BYTES, MAX_TREE_FILES, RecipeTree

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0
CPU_LIMIT_S = 5
MEMORY_LIMIT_BYTES = 1 << 30
FILE_LIMIT_BYTES = 64 << 20
STDERR_LIMIT = 300
INDEX = "index"

_SETTINGS = {"core.hooksPath": "/dev/null", "core.fsmonitor": "false", "core.attributesFile": "/dev/null", "gc.auto": "0"}
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "TZ": "UTC",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_DEFAULT_REF_FORMAT": "files",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A git process that came to its own end, or was ended by one of its resource limits."""

    status: int
    output: bytes = field(repr=False)
    error: bytes = field(repr=False)

    @property
    def exhausted(self) -> bool:
        """Say whether the CPU or file size limit ended it."""
        return self.status in (-signal.SIGXCPU, -signal.SIGXFSZ)

    def message(self) -> str:
        """Return the first line that git wrote, made printable and short."""
        first = self.error.decode("ascii", "replace").strip().partition("\n")[0]
        return "".join(letter if " " <= letter <= "~" else "?" for letter in first[:STDERR_LIMIT])


@dataclass(frozen=True, slots=True, kw_only=True)
class RawChange:
    """One line of ``git diff-tree --raw``: what git says changed, path as bytes."""

    mode: str
    status: str
    blob: str
    path: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GitDirectory:
    """A bare git directory and an index file of its own choosing.

    Args:
        path: The git directory.
        scratch: A directory for the index and temporary files; not shared with anyone.
        durable: Write objects and references through to the disk.
    """

    path: Path
    scratch: Path
    durable: bool = False

    def run(self, *arguments: str, stdin: bytes = b"") -> Finished:
        """Run git to its end. Raises InfrastructureError past the deadline or when a signal of no limit of ours ends it."""
        command = ["git", *arguments]
        try:
            with subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
                cwd=self.scratch,
                start_new_session=True,
            ) as process:
                _limit(process.pid)
                try:
                    output, error = process.communicate(stdin, timeout=TIMEOUT_S)
                except subprocess.TimeoutExpired as late:
                    raise InfrastructureError(f"git {arguments[0]} did not finish in {TIMEOUT_S} s") from late
                finally:
                    process.kill()
        except FileNotFoundError as missing:
            raise InfrastructureError(f"cannot start git: {missing}; is it installed (Debian: apt install git)?") from missing
        finished = Finished(status=process.returncode, output=output, error=error)
        if finished.status < 0 and not finished.exhausted:
            raise InfrastructureError(f"git {arguments[0]} was ended by signal {-finished.status}")
        return finished

    def call(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run git, which has no reason to fail, and return what it wrote. Raises InfrastructureError when it fails."""
        finished = self.run(*arguments, stdin=stdin)
        if finished.status != 0:
            raise InfrastructureError(f"git {arguments[0]} ended with status {finished.status}: {finished.message()}")
        return finished.output

    def initialise(self) -> None:
        """Make the directory a bare repository without hooks or templates. Idempotent."""
        self.call("init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--initial-branch=main")

    def write_tree(self, tree: RecipeTree) -> str:
        """Write the objects of ``tree``, leave the index at it and return the git tree's id."""
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="blobs-") as folder:
            names = [f"{Path(folder).name}/{number}" for number in range(len(tree.files))]
            for name, data in zip(names, tree.files.values(), strict=True):
                (self.scratch / name).write_bytes(data)
            written = self.call("hash-object", "-w", "--no-filters", "--stdin-paths", stdin="".join(f"{name}\n" for name in names).encode())
        blobs = written.decode("ascii").split()
        entries = [f"{FILE_MODE} {blob}\t{path}\0" for blob, path in zip(blobs, tree.files, strict=True)]
        (self.scratch / INDEX).unlink(missing_ok=True)
        self.call("update-index", "-z", "--add", "--index-info", stdin="".join(entries).encode())
        return self.tree_of_index()

    def tree_of_index(self) -> str:
        """Write the index as a tree and return its id."""
        return self.call("write-tree").decode("ascii").strip()

    def raw_changes(self, before: str, after: str) -> tuple[RawChange, ...]:
        """Return what differs between two trees, renames being a removal and an addition."""
        output = self.call("diff-tree", "-r", "-z", "--no-renames", "--raw", "--full-index", before, after)
        fields = output.split(b"\0")[:-1]
        changes = []
        for description, path in zip(fields[::2], fields[1::2], strict=True):
            _, mode, _, blob, status = description.decode("ascii").removeprefix(":").split(" ")
            changes.append(RawChange(mode=mode, status=status, blob=blob, path=path))
        return tuple(changes)

    def sizes(self, blobs: Sequence[str]) -> list[int]:
        """Return the size in bytes of each blob without reading it."""
        lines = self.call("cat-file", "--batch-check", stdin="".join(f"{blob}\n" for blob in blobs).encode()).decode("ascii").splitlines()
        described = [line.split(" ") for line in lines]
        if [line[:2] for line in described] != [[blob, "blob"] for blob in blobs]:
            raise CorruptStateError(f"objects are missing or not blobs in {self.path}")
        return [int(line[2]) for line in described]

    def objects(self, names: Sequence[str], kind: str = "blob") -> list[bytes]:
        """Return the content of each object, in order. Raises CorruptStateError when one is missing or of another kind."""
        output = self.call("cat-file", "--batch", stdin="".join(f"{name}\n" for name in names).encode())
        contents: list[bytes] = []
        at = 0
        for name in names:
            end = output.index(b"\n", at)
            described = output[at:end].decode("ascii").split(" ")
            if described[:2] != [name, kind]:
                raise CorruptStateError(f"object {name} is missing or not a {kind} in {self.path}")
            contents.append(output[end + 1 : end + 1 + int(described[2])])
            at = end + 1 + int(described[2]) + 1
        return contents

    def write_object(self, kind: str, content: str) -> str:
        """Write a commit or a tag, whose form git checks, and return its id."""
        return self.call("hash-object", "-t", kind, "-w", "--stdin", stdin=content.encode()).decode("ascii").strip()

    def reference(self, name: str) -> str | None:
        """Return the object id that a full reference name holds, None when there is no such reference."""
        listed = self.call("for-each-ref", "--format=%(objectname)", name).decode("ascii").split()
        return listed[0] if listed else None

    def read_tree(self, treeish: str) -> RecipeTree:
        """Return the recipe tree under an id, checking modes, count and sizes before any content is read."""
        listed = self.call("ls-tree", "-r", "-z", "-l", "--full-tree", treeish).split(b"\0")[:-1]
        paths: list[str] = []
        blobs: list[str] = []
        total = 0
        for entry in listed:
            description, _, path = entry.partition(b"\t")
            mode, kind, blob, size = description.decode("ascii").split()
            if (mode, kind) != (FILE_MODE, "blob"):
                raise CorruptStateError(f"{treeish} holds an entry of mode {mode}")
            paths.append(path.decode("ascii", "replace"))
            blobs.append(blob)
            total += int(size)
        if len(paths) > MAX_TREE_FILES or total > MAX_TREE_BYTES:
            raise CorruptStateError(
                f"{treeish} has {len(paths)} files and {total} bytes; a recipe has at most {MAX_TREE_FILES} and {MAX_TREE_BYTES}"
            )
        try:
            return RecipeTree(files=dict(zip(paths, self.objects(blobs), strict=True)))
        except UntrustedInputError as error:
            raise CorruptStateError(f"{treeish} is not a recipe: {error.detail}") from error

    def _environment(self) -> Mapping[str, str]:
        settings = {**_SETTINGS, "core.fsync": "all" if self.durable else "none"}
        pairs = {f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(settings)}
        pairs |= {f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(settings.values())}
        places = {"GIT_DIR": str(self.path), "GIT_INDEX_FILE": str(self.scratch / INDEX)}
        return {**_ENVIRONMENT, **pairs, **places, "GIT_CONFIG_COUNT": str(len(settings))}


@contextmanager
def workbench(scratch: Path) -> Iterator[GitDirectory]:
    """Lend an empty bare repository that is gone afterwards.

    Raises:
        InfrastructureError: The scratch directory cannot be used (``OPS-DISK`` when it is full).
    """
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch, prefix="git-") as folder:
            bench = GitDirectory(path=Path(folder, "bare.git").absolute(), scratch=Path(folder).absolute())
            bench.initialise()
            yield bench
    except OSError as error:
        code = "OPS-DISK" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        raise InfrastructureError(f"cannot work in {scratch}: {error}", code=code) from error


def still_writable(folder: Path) -> None:
    """Write and sync a megabyte in ``folder``. Raises OSError when the disk, not the patch, is the problem."""
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(bytes(1 << 20))
        stream.flush()
        os.fsync(stream.fileno())


def _limit(pid: int) -> None:
    """Bound a child's resources, never above what we have. They count from its start, so setting them right after is enough."""
    limits = (
        (resource.RLIMIT_CPU, CPU_LIMIT_S, CPU_LIMIT_S + 1),
        (resource.RLIMIT_AS, MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES),
        (resource.RLIMIT_FSIZE, FILE_LIMIT_BYTES, FILE_LIMIT_BYTES),
        (resource.RLIMIT_CORE, 0, 0),
    )
    for kind, soft, hard in limits:
        ours = resource.getrlimit(kind)[1]
        ceiling = hard if ours == resource.RLIM_INFINITY else min(hard, ours)
        resource.prlimit(pid, kind, (min(soft, ceiling), ceiling))
