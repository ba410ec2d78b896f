"""What a sandbox leaves behind although it can write nothing: which files the machine still has in memory.

Reading a file that nobody reads leaves it in the page cache, and whoever can read it later can tell by the time that takes. So
one sandbox can pass what it saw to a later one over files that both may only read: hundreds of bits a second, without an error.
Evicting those files in between takes that away, as an ordinary user too. Pages that a living process has mapped stay; what
the later sandbox had mapped before it ran foreign code tells it nothing.

Not promised: silence between sandboxes that run foreign code at the same time, and the memory of the processor and of the
file system's directory, which a more patient observer can time. Against those, use different machines.
"""

import os
from collections.abc import Iterator
from pathlib import Path


def evict(roots: tuple[Path, ...]) -> int:
    """Drop every file below ``roots`` from the page cache, as far as nobody has it mapped.

    Returns:
        How many files were dropped. What cannot be opened is skipped: a sandbox cannot open it either.
    """
    count = 0
    for file in _files(roots):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
        count += 1
    return count


def _files(roots: tuple[Path, ...]) -> Iterator[str]:
    """Return every regular file below ``roots``, or that is one of them. Strings, not paths: there are tens of thousands."""
    waiting = [str(root) for root in roots if root.is_dir()]
    yield from (str(root) for root in roots if root.is_file())
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path
