"""Wait for processes of others without sleeping."""

import os
import select
from pathlib import Path


def alive(processes: tuple[int, ...]) -> list[int]:
    """Return those that still run; what has ended but was not collected does not."""
    return [process for process in processes if not _ended(process)]


def wait_for_end(processes: tuple[int, ...], timeout_s: float = 20.0) -> None:
    """Return when none of them runs."""
    for process in processes:
        try:
            descriptor = os.pidfd_open(process)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], timeout_s)[0], f"process {process} still runs"
        finally:
            os.close(descriptor)


def _ended(process: int) -> bool:
    try:
        return b") Z" in Path(f"/proc/{process}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
