"""The default launcher: bubblewrap in all namespaces, a minimal read-only root, no network, one channel.

What is inside: the system libraries, one interpreter and its packages (read-only from the host), copies of our few worker files and of
the recipe in a file system that is made read-only before anything runs, a bounded ``/tmp``, and descriptor 3. Copies are snapshots:
what happens to the recipe's folder later does not matter, and no host path of it can be read inside. Nothing is shared between
two sandboxes.

Not promised: protection against a bug in the kernel's own surface that the system call filter leaves open. That is what the split
between the machine with the keys and the machine with the workers is for.
"""

import contextlib
import itertools
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ralph.errors import SandboxUnavailable
from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox import bootstrap, cgroups, identity
from ralph.sandbox.channel import Channel, ChannelClosed, ChannelStalled
from ralph.sandbox.files import Copied, program_files, recipe_files
from ralph.sandbox.interpreter import Interpreter, describe
from ralph.sandbox.running import RunningSandbox, printable
from ralph.sandbox.seccomp import PROGRAMS

START_TIMEOUT_S = 60.0
"""How long our own code inside may take to stand; nobody else's code runs in that time."""
SEARCH = "/usr/bin:/usr/local/bin:/bin:/run/current-system/sw/bin"
WORKER = "/worker"
RECIPE = "/recipe"
_launches = itertools.count(os.getpid())


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What the bootstrap runs inside."""

    module: str = "ralph.worker.main"
    function: str = "main"
    files: tuple[Path, ...] = ()
    """Further files that appear in ``/worker`` under their own name."""


class BubblewrapSandbox:
    """Implements ``interfaces.Sandbox``.

    Args:
        python: Interpreter to run inside, also one of a virtual environment; the running one by default.
        worker_uid: User to become when started as root; by default each launch takes the next of 64 numbers from 64321 on.
        packages: Folders with installed packages in place of the interpreter's own.
        program: What to run inside.

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
    ) -> None:
        executable = shutil.which("bwrap", path=SEARCH)
        if executable is None:
            raise SandboxUnavailable("bubblewrap is not installed: sudo apt install bubblewrap", code="OPS-SANDBOX")
        if platform.machine() not in PROGRAMS:
            raise SandboxUnavailable(f"no system call filter for {platform.machine()}", code="OPS-SANDBOX")
        self._bwrap = executable
        self._worker_uid = worker_uid
        self._interpreter = describe(Path(python), packages=packages)
        self._program = program or Program()
        self._controllers = cgroups.available()

    def running(self, program: Program) -> "BubblewrapSandbox":
        """Return the same sandbox with another program inside: for attack suites."""
        other = object.__new__(BubblewrapSandbox)
        other.__dict__.update(self.__dict__, _program=program)
        return other

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

    def _start(self, spec: SandboxSpec, group: cgroups.Cgroup | None, deadline: float) -> RunningSandbox:
        paths = (self._interpreter.home, *self._interpreter.packages)
        if os.geteuid() == 0:
            uid = self._worker_uid or identity.FIRST_UID + next(_launches) % identity.UIDS
            launch = identity.as_root(paths, uid=uid, limits=spec.limits, groups=group.folders if group else ())
        else:
            launch = identity.as_user(paths)
        copied = (*program_files(self._program.files, WORKER), *recipe_files(spec.recipe, RECIPE))
        with contextlib.ExitStack() as stack:
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            output, output_end = os.pipe()
            info, info_end = os.pipe()
            stack.callback(os.close, output_end)
            inherited: list[int] = []
            options = self._options(launch, spec.limits, copied, inherited, info_end)
            arguments = _memory_file(b"".join(option.encode() + b"\0" for option in options))
            for descriptor in (arguments, *inherited):
                stack.callback(os.close, descriptor)
            process = subprocess.Popen(
                [*launch.prefix, self._bwrap, "--args", str(arguments), *self._command(spec.limits)],
                env=launch.environment,
                stdin=theirs,
                stdout=output_end,
                stderr=output_end,
                pass_fds=(arguments, info_end, *inherited),
                start_new_session=True,
            )
            os.close(info_end)
        channel = Channel(ours)
        first = self._handshake(process, channel, info, output)
        return RunningSandbox(
            process=process, first=first, output=output, channel=channel, limits=spec.limits, deadline=deadline, cgroup=group
        )

    def _options(
        self, launch: identity.Launch, limits: SandboxLimits, copied: tuple[Copied, ...], inherited: list[int], info: int
    ) -> list[str]:
        """Return bubblewrap's options; opens what they refer to and adds the descriptors to ``inherited``."""

        def pass_on(data: bytes) -> str:
            inherited.append(_memory_file(data))
            return str(inherited[-1])

        options = "--unshare-all --unshare-user --disable-userns --die-with-parent --new-session --cap-drop ALL --clearenv".split()
        options += ["--hostname", "worker", "--info-fd", str(info)]
        for name, value in _environment(limits.threads):
            options += ["--setenv", name, value]
        options += ["--ro-bind", "/usr/lib", "/usr/lib", "--ro-bind-try", "/usr/lib64", "/usr/lib64"]
        options += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev"]
        options += ["--bind", launch.tmp, "/tmp"] if launch.tmp else ["--size", str(limits.tmp_bytes), "--tmpfs", "/tmp"]
        for source, target in zip(launch.sources, (str(self._interpreter.home), *self._package_folders()), strict=True):
            options += ["--ro-bind", source, target]
        for file in copied:
            options += ["--perms", "0444", "--file", pass_on(file.data), file.target]
        options += ["--chdir", "/tmp", "--seccomp", pass_on(PROGRAMS[platform.machine()])]
        return [*options, "--remount-ro", "/dev", "--remount-ro", "/"]

    def _package_folders(self) -> list[str]:
        return [f"/packages/{number}" for number in range(len(self._interpreter.packages))]

    def _command(self, limits: SandboxLimits) -> list[str]:
        values = (limits.memory_bytes, limits.processes, limits.open_files, limits.file_bytes)
        entry = (self._program.module, self._program.function)
        # -I would also ignore PYTHONHASHSEED; with an environment made here, -s -S -P leave nothing else of it to fear
        python = (str(self._interpreter.executable), "-s", "-S", "-P", "-B", f"{WORKER}/bootstrap.py")
        return [*python, *(str(value) for value in values), *entry, WORKER, *self._package_folders()]

    def _handshake(self, process: subprocess.Popen[bytes], channel: Channel, info: int, output: int) -> int:
        """Wait until our bootstrap stands inside, let it go on, and return a pidfd of the first process inside."""
        answer = memoryview(bytearray(1))
        try:
            channel.receive_into(answer, time.monotonic() + START_TIMEOUT_S)
            first = _open_first(info, process.pid)
            channel.send(bootstrap.GO, time.monotonic() + START_TIMEOUT_S)
            return first
        except (ChannelClosed, ChannelStalled, OSError, ValueError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            process.kill()
            process.wait()
            os.set_blocking(output, False)
            with contextlib.suppress(BlockingIOError):
                said = printable(os.read(output, 4096))
            os.close(output)
            channel.close()
            raise SandboxUnavailable(f"the sandbox did not start: {said}", code="OPS-SANDBOX") from error
        finally:
            os.close(info)


def _environment(threads: int) -> tuple[tuple[str, str], ...]:
    """Return the whole environment inside. Hashes of strings are fixed: iteration over a set must repeat."""
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    fixed = (("HOME", "/tmp"), ("TMPDIR", "/tmp"), ("LANG", "C.UTF-8"), ("USER", "worker"), ("PYTHONHASHSEED", "0"))
    return (*((name, str(threads)) for name in counts), *fixed)


def _memory_file(data: bytes) -> int:
    descriptor = os.memfd_create("ralph")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _open_first(info: int, launcher: int) -> int:
    """Return a pidfd of the namespace's first process, made sure to be the launcher's child."""
    first = int(json.loads(os.read(info, 4096))["child-pid"])
    descriptor = os.pidfd_open(first)
    parent = int(Path(f"/proc/{first}/stat").read_bytes().rpartition(b")")[2].split()[1])
    if parent != launcher:
        os.close(descriptor)
        raise ValueError(f"process {first} is a child of {parent}, not of {launcher}")
    return descriptor
