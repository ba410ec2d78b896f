"""What every launcher of sandboxes does alike: its programs, its control groups, and the life of one sandbox.

A launcher says how one sandbox is started (``_start``) and what bounds its memory.
"""

import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from ralph.interfaces import SandboxSpec
from ralph.sandbox import cgroups
from ralph.sandbox.interpreter import Interpreter
from ralph.sandbox.options import Program
from ralph.sandbox.resident import Resident
from ralph.sandbox.running import RunningSandbox


class SandboxLauncher(ABC):
    """Base of the launchers.

    Args:
        interpreter: What runs inside.
        program: What it runs.
        in_memory: Run copies that are held in memory (``resident``), so that nothing that one sandbox has read can be told by a later one.
    """

    def __init__(self, interpreter: Interpreter, *, program: Program | None, in_memory: bool) -> None:
        self._root = os.geteuid() == 0
        self._resident = Resident(interpreter) if in_memory else None
        self._interpreter = interpreter if self._resident is None else self._resident.interpreter
        self._program = program or Program()
        self._controllers = cgroups.available() if self._root else None

    @property
    def shared(self) -> tuple[Path, ...]:
        """Files and folders of the host that every sandbox may read."""
        paths = (*self._interpreter.system, *self._interpreter.home, *self._interpreter.packages)
        return tuple(self._interpreter.source(path) for path in paths)

    @property
    def programs_bytes(self) -> int:
        """Size of the programs that are held in memory, 0 where they are on a disk."""
        return 0 if self._resident is None else self._resident.size_bytes

    def running(self, program: Program) -> Self:
        """Return the same sandbox with another program inside: for attack suites."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _program=program)
        return other

    def close(self) -> None:
        """Give up the copies in memory, where there are any; sandboxes cannot be launched afterwards."""
        if self._resident is not None:
            self._resident.close()

    @contextlib.contextmanager
    def launch(self, spec: SandboxSpec) -> Iterator[RunningSandbox]:
        """Start the program over ``spec.recipe``; everything inside is dead when the context ends.

        Raises:
            SandboxUnavailable: It did not start; the message says what to install or to allow.
        """
        deadline = time.monotonic() + spec.limits.timeout_s
        group = cgroups.Cgroup(self._controllers, spec.limits) if self._controllers else None
        try:
            worker = self._start(spec, group, deadline)
        except BaseException:
            if group is not None:
                group.remove()
            raise
        try:
            yield worker
        finally:
            worker.close()

    @abstractmethod
    def _start(self, spec: SandboxSpec, group: cgroups.Cgroup | None, deadline: float) -> RunningSandbox:
        """Start one sandbox in a control group, to end at ``deadline``."""
