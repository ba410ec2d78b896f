"""Meet the bootstrap inside a container, below an engine that reports nothing."""

import contextlib
import os
from pathlib import Path

from ralph.errors import SandboxUnavailable
from ralph.sandbox import usage
from ralph.sandbox.cgroups import Cgroup
from ralph.sandbox.spawn import Ends


class ContainerEnds(Ends):
    """Both ends of what connects the host with one container.

    The kernel says which processes are where: the launcher's only child is the first one of the namespace that everything is
    in, and the container's own first one is a first one again, one level deeper. Both are read while only our code runs.

    Args:
        named: As for ``Ends``.
        group: Control group that the container's processes enter before foreign code runs. The engine stays outside: it would
            be ended with the worker that took too much, and its memory is not the worker's.
    """

    def __init__(self, *, named: bool, group: Cgroup | None) -> None:
        super().__init__(named=named)
        self._group = group
        self.inside = -1
        self._inherited.remove(self.report_end)
        os.close(self.report_end)

    def _open_first(self, launcher: int) -> int:
        """Return a pidfd of the first process of the outer namespace; note the first one of the inner."""
        children = [process for process in usage.tree(launcher) if _parent(process) == launcher]
        if len(children) != 1:
            raise ValueError(f"launcher {launcher} has children {children}")
        descriptor = os.pidfd_open(children[0])
        try:
            self.inside = self._find(launcher, depth=len(_numbers(children[0])) + 1)
            if self._group is not None:
                self._group.enter(usage.tree(self.inside))
        except (OSError, ValueError, SandboxUnavailable) as error:
            os.close(descriptor)
            raise ValueError(str(error)) from error
        return descriptor

    def _find(self, launcher: int, *, depth: int) -> int:
        for process in usage.tree(launcher):
            with contextlib.suppress(OSError):
                numbers = _numbers(process)
                if len(numbers) == depth and numbers[-1] == 1:
                    return process
        raise ValueError(f"no container below {launcher}")


def _numbers(process: int) -> list[int]:
    """Return the numbers that a process has in its namespaces, the outermost first."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("NSpid:"))
    return [int(number) for number in line.split()[1:]]


def _parent(process: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[1])
    return -1
