"""One number for each cell, on a disk instead of in memory, while an evaluation needs it.

The file has no name from the start (``O_TMPFILE``; where a file system lacks that, the name is removed at once), so nobody else can
open it, nothing is left behind by an error or a kill, and its room is free again as soon as nothing refers to the numbers.
They are written and not mapped for writing, because a full disk must be an error and not a signal.

Not promised: that memory stays free where the directory is a file system in memory, or secrecy from root or from who reads the disk.
"""

import mmap
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from ralph.evaluate.cells import Cells, Floats, Integers
from ralph.store.files import disk_errors

NUMBER = np.dtype("<f8")


class Sheet:
    """Take the numbers of whole rows in any order, then give them all, by cell. A row that was not written is 0."""

    def __init__(self, cells: Cells, scratch: Path | None) -> None:
        self._cells, self._directory = cells, scratch or Path(tempfile.gettempdir())
        self._ends = NUMBER.itemsize * cells.offsets
        with disk_errors(self._directory):
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - closed by __exit__
            self._file.truncate(int(self._ends[-1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def write(self, rows: Integers, values: Floats) -> None:
        """Keep the values of these rows: float64[R, T], of which a row's first ``length`` count."""
        data = np.ascontiguousarray(values, NUMBER).view(np.uint8).reshape(-1).data
        width = values.shape[1] * NUMBER.itemsize
        with disk_errors(self._directory):
            for line, (start, end) in enumerate(zip(self._ends[rows].tolist(), self._ends[rows + 1].tolist(), strict=True)):
                first = line * width
                _write(self._file.fileno(), data[first : first + end - start], start)

    def frozen(self) -> Floats:
        """Return all values, float64[C], read-only; the file lives as long as they do."""
        if not self._cells.count:
            return np.zeros(0)
        with disk_errors(self._directory):
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, NUMBER)


def _write(descriptor: int, data: memoryview, place: int) -> None:
    written = os.pwrite(descriptor, data, place)
    if written < len(data):  # an interrupted write, or the last bytes of a disk: the next one says which
        _write(descriptor, data[written:], place + written)
