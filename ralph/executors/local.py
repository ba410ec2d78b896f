"""Run jobs on this machine, a few at a time.

A job's heavy work happens in sandboxed processes, so threads are enough here: a thread only feeds one
worker and waits for it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class LocalExecutor:
    """Run up to ``slots`` jobs at once; one per core is best, because a run uses one thread."""

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Yield results in the order of the jobs. An error of a job is raised at its turn; jobs not yet started are dropped."""
        pool = ThreadPoolExecutor(max_workers=self._slots, thread_name_prefix="job")
        try:
            futures = [pool.submit(function, job) for job in jobs]
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
