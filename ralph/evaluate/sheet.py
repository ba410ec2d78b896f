"""One number for each cell, on a disk instead of in memory, while an evaluation needs it.

The file has no name from the start (``O_TMPFILE``; where a file system lacks that, the name is removed at once), so nobody else can
open it, nothing is left behind by an error or a kill, and its room is free again as soon as nothing refers to the numbers.
They are written and not mapped for writing, because a full disk must be an error and not a signal.

Not promised: that memory stays free where the directory is a file system in memory, or secrecy from root or from who reads the disk.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ralph.evaluate.cells import Cells, Floats, Integers
from ralph.store.files import disk_errors

NUMBER = np.dtype("<f8")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheet:
    """Take the numbers of whole rows in any order, then give them all, by cell. A row that was not written is 0."""

    cells: Cells
    directory: Path
    descriptor: int

    def write(self, rows: Integers, values: Floats) -> None:
        """Keep the values of these rows: float64[R, T], of which a row's first ``length`` count."""
        data = np.ascontiguousarray(values, NUMBER).view(np.uint8).reshape(-1).data
        width = values.shape[1] * NUMBER.itemsize
        starts, ends = ((NUMBER.itemsize * self.cells.offsets[of]).tolist() for of in (rows, rows + 1))
        with disk_errors(self.directory):
            for line, (start, end) in enumerate(zip(starts, ends, strict=True)):
                first = line * width
                _write(self.descriptor, data[first : first + end - start], start)

    def frozen(self) -> Floats:
        """Return all values, float64[C], read-only; the file lives as long as they do."""
        if not self.cells.count:
            return np.zeros(0)
        with disk_errors(self.directory):
            mapped = mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, NUMBER)


@contextmanager
def new_sheet(cells: Cells, scratch: Path | None) -> Iterator[Sheet]:
    """Open a sheet in a directory, None for the system's; what was frozen outlives it.

    Raises:
        InfrastructureError: ``OPS-DISK``, no room.
    """
    directory = scratch or Path(tempfile.gettempdir())
    with disk_errors(directory):
        file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - opened inside, closed outside of the error's reach
    with file:
        with disk_errors(directory):
            file.truncate(NUMBER.itemsize * cells.count)
        yield Sheet(cells=cells, directory=directory, descriptor=file.fileno())


def _write(descriptor: int, data: memoryview, place: int) -> None:
    written = os.pwrite(descriptor, data, place)
    if written < len(data):  # an interrupted write, or the last bytes of a disk: the next one says which
        _write(descriptor, data[written:], place + written)
