"""Recipe trees as directories of plain files.

``read_tree`` takes a directory into memory, ``materialise`` writes one for the sandbox to read. Neither
follows a link, runs a filter or keeps a mode bit: a tree is paths and bytes. Names that begin with a dot and
``__pycache__`` are not part of any recipe and are passed over when a directory is read.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ralph.errors import ConfigurationError, InfrastructureError, UntrustedInputError
from ralph.protocol.patch import MAX_TREE_BYTES, MAX_TREE_FILES, RecipeTree, check_path

MAX_DIRECTORY_ENTRIES = 1024
"""Entries looked at in all, those passed over included."""
IGNORED = "__pycache__"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read_tree(directory: Path, *, max_file_bytes: int = MAX_TREE_BYTES) -> RecipeTree:
    """Read a directory of plain files.

    Raises:
        UntrustedInputError: ``INT-SCOPE`` for a link, a special file or an unacceptable name, ``INT-SIZE`` over a limit.
        ConfigurationError: There is no such directory.
        InfrastructureError: The file system does not answer.
    """
    files: dict[str, bytes] = {}
    total = 0
    try:
        for path in _walk(directory):
            name = path.relative_to(directory).as_posix()
            check_path(name)
            files[name] = _read(path, name, max_file_bytes)
            total += len(files[name])
            if len(files) > MAX_TREE_FILES or total > MAX_TREE_BYTES:
                raise UntrustedInputError("INT-SIZE", f"more than {MAX_TREE_FILES} files or {MAX_TREE_BYTES} bytes in {directory}")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigurationError(f"cannot read the recipe in {directory}: {error}") from error
    except OSError as error:
        raise InfrastructureError(f"cannot read the recipe in {directory}: {error}") from error
    return RecipeTree(files=files)


def materialise(tree: RecipeTree, directory: Path) -> None:
    """Write the files of ``tree`` into ``directory``, which must be absent or empty.

    Files are 0644 and directories 0755 whatever the umask, so that a sandbox under another uid can read them.

    Raises:
        ConfigurationError: The directory is not empty.
        InfrastructureError: The file system refuses.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise ConfigurationError(f"{directory} is not empty")
        directory.chmod(0o755)
        for name, data in tree.files.items():
            path = directory / name
            for parent in reversed(path.relative_to(directory).parents[:-1]):
                (directory / parent).mkdir(exist_ok=True)
                (directory / parent).chmod(0o755)
            _write(path, data)
    except OSError as error:
        raise InfrastructureError(f"cannot write the recipe to {directory}: {error}") from error


def _walk(directory: Path) -> Iterator[Path]:
    """Yield every file below ``directory`` in order of name. Links are yielded, never followed."""
    seen = 0
    pending = [directory]
    while pending:
        current = pending.pop()
        with os.scandir(current) as entries:
            listed: list[os.DirEntry[str]] = []
            for entry in entries:
                seen += 1
                if seen > MAX_DIRECTORY_ENTRIES:
                    raise UntrustedInputError("INT-SIZE", f"more than {MAX_DIRECTORY_ENTRIES} entries in {directory}")
                if not entry.name.startswith(".") and entry.name != IGNORED:
                    listed.append(entry)
        listed.sort(key=lambda entry: entry.name)
        pending += [Path(entry.path) for entry in listed if entry.is_dir(follow_symlinks=False)]
        yield from (Path(entry.path) for entry in listed if not entry.is_dir(follow_symlinks=False))


def _read(path: Path, name: str, limit: int) -> bytes:
    if path.is_symlink():
        raise UntrustedInputError("INT-SCOPE", f"{name} is a link")
    descriptor = os.open(path, _READ)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UntrustedInputError("INT-SCOPE", f"{name} is not a plain file")
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise UntrustedInputError("INT-SIZE", f"{name} is larger than {limit} bytes")
    return data


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, _WRITE, 0o644)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, 0o644)
        stream.write(data)
