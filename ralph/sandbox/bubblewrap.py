"""The default launcher: bubblewrap in all namespaces, a minimal read-only root, no network, one channel.

What is inside: the system libraries, one interpreter and its packages (read-only from the host), copies of our few worker files and of
the recipe in a file system that is made read-only before anything runs, a bounded ``/tmp``, and descriptor 3. Copies are snapshots:
what happens to the recipe's folder later does not matter, and no host path of it can be read inside. No writable storage is shared
between two sandboxes.

Not promised: protection against a bug in the kernel's own surface that the system call filter leaves open, and secrecy between two
sandboxes that run foreign code at the same time (load, locks on read-only files and timing are signals) or, without ``in_memory``,
one after the other. The first is what the split between the machine with the keys and the machine with the workers is for; the second
is why a sandbox that knows claims and one that answers probes about the same documents must never overlap.
"""

import itertools
import os
import platform
import shutil
import sys
from pathlib import Path

from ralph.errors import SandboxUnavailable
from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox import cgroups, diagnose, identity, scope
from ralph.sandbox.files import program_files, recipe_files
from ralph.sandbox.interpreter import describe
from ralph.sandbox.launcher import SandboxLauncher
from ralph.sandbox.options import RECIPE, WORKER, Program, command, options
from ralph.sandbox.running import RunningSandbox
from ralph.sandbox.seccomp import PROGRAMS
from ralph.sandbox.spawn import Ends, StartFailed

SEARCH = "/usr/bin:/usr/local/bin:/bin:/run/current-system/sw/bin"
_launches = itertools.count(os.getpid())


class BubblewrapSandbox(SandboxLauncher):
    """Implements ``interfaces.Sandbox``.

    Args:
        python: Interpreter to run inside, also one of a virtual environment; the running one by default.
        worker_uid: User to become when started as root; by default each launch takes the next of 64 numbers from 64321 on.
        packages: Folders with installed packages in place of the interpreter's own.
        program: What to run inside.
        in_memory: Run copies that are held in memory (``resident``), so that nothing that one sandbox has read can be told by a later one.

    Raises:
        SandboxUnavailable: bubblewrap is not installed, or this machine's architecture has no system call filter.
    """

    name = "bubblewrap"

    def __init__(
        self,
        *,
        python: Path | str = sys.executable,
        worker_uid: int | None = None,
        packages: tuple[Path, ...] | None = None,
        program: Program | None = None,
        in_memory: bool = False,
    ) -> None:
        executable = shutil.which("bwrap", path=SEARCH)
        if executable is None:
            raise SandboxUnavailable(diagnose.INSTALL, code="OPS-SANDBOX")
        if platform.machine() not in PROGRAMS:
            raise SandboxUnavailable(f"no system call filter for {platform.machine()}, only for {', '.join(PROGRAMS)}", code="OPS-SANDBOX")
        self._bwrap = executable
        self._worker_uid = worker_uid
        super().__init__(describe(Path(python), packages=packages), program=program, in_memory=in_memory)
        self._scoped = not self._root and scope.available(os.geteuid())

    @property
    def bounds_total_memory(self) -> bool:
        """Whether the kernel bounds the memory of all processes inside together, not only of each."""
        return self._controllers is not None or self._scoped

    def _start(self, spec: SandboxSpec, group: cgroups.Cgroup | None, deadline: float) -> RunningSandbox:
        launch = self._launch(spec.limits, group)
        copied = (*program_files(WORKER), *self._program.files, *recipe_files(spec.recipe, RECIPE))
        inside = command(interpreter=self._interpreter, program=self._program, limits=spec.limits)
        ends = Ends(named=spec.limits.ranks > 1 or spec.limits.gpus > 0)
        try:
            chosen = options(
                launch=launch,
                interpreter=self._interpreter,
                limits=spec.limits,
                copied=copied,
                info=ends.report_end,
                pass_on=ends.pass_on,
            )
            file = ends.pass_on(b"".join(option.encode() + b"\0" for option in chosen))
            process = ends.start((*launch.prefix, self._bwrap, "--args", str(file), *inside), launch.environment)
            first = ends.meet(process)
        except StartFailed as error:
            ends.close()
            reason = diagnose.explain(str(error), diagnose.this_machine(), executable=self._bwrap)
            raise SandboxUnavailable(f"{reason}. It printed: {error}", code="OPS-SANDBOX") from error
        except BaseException:
            ends.close()
            raise
        channel, output = ends.hand_over()
        return RunningSandbox(
            process=process,
            first=first,
            output=output,
            channel=channel,
            limits=spec.limits,
            deadline=deadline,
            cgroup=group,
            programs_bytes=self.programs_bytes,
        )

    def _launch(self, limits: SandboxLimits, group: cgroups.Cgroup | None) -> identity.Launch:
        paths = tuple(self._interpreter.source(path) for path in (*self._interpreter.home, *self._interpreter.packages))
        if not self._root:
            return identity.as_user(paths, limits=limits, scoped=self._scoped)
        uid = identity.FIRST_UID + next(_launches) % identity.UIDS if self._worker_uid is None else self._worker_uid
        return identity.as_root(paths, uid=uid, limits=limits, groups=group.folders if group else ())
