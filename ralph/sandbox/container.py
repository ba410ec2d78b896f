"""The second launcher: a podman container with the same worker, channel, limits and promises as under bubblewrap.

It is for machines on which containers are what the operator knows how to allow and to watch, and for production images: the interpreter
and its packages come either from the host, bound read-only as bubblewrap does it, or from the ``/usr`` of one image that is named
by its digest. The root around it is ours in both cases. Each sandbox has an engine of its own (see ``stage``), started before
and ended after it, and processes of the operator's own containers are never touched.

As root the worker is one of 64 dedicated users without a capability; as an ordinary user it is one of the operator's
subordinate users. Memory of all processes together is bounded where root can make control groups.

Not promised, beyond what ``bubblewrap`` does not promise: docker. It cannot hand over an open descriptor, and a path inside to connect to
would be a second way out. A container of an ordinary user has no control group, whether or not there is a systemd for that user.
"""

import itertools
import os
import platform
import pwd
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from ralph.errors import ConfigurationError, SandboxUnavailable
from ralph.interfaces import SandboxLimits, SandboxSpec
from ralph.sandbox import cgroups, container_options, diagnose, diagnose_container, identity, stage
from ralph.sandbox.container_ends import ContainerEnds
from ralph.sandbox.container_options import Engine
from ralph.sandbox.files import Copied, program_files, recipe_files
from ralph.sandbox.interpreter import Interpreter, describe
from ralph.sandbox.launcher import SandboxLauncher
from ralph.sandbox.options import RECIPE, WORKER, Program, command
from ralph.sandbox.running import RunningSandbox
from ralph.sandbox.spawn import StartFailed

LINGER_S = 2.0
"""An engine takes a tenth of a second to notice that its container has ended, on a busy machine more."""
_PROFILES = Path(__file__).with_name("profiles")
_INIT = Path(__file__).with_name("container_init.py")
_PINNED = re.compile(r"[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}")
_TAGGED = re.compile(r":[^/]*@")
_ROOTS_IMAGES = Path("/var/lib/containers/storage")
_launches = itertools.count(os.getpid())


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image of which ``/usr`` is used and nothing else.

    Raises:
        ConfigurationError: It is not named by its digest alone.
    """

    reference: str
    """Repository and digest: ``registry.example/ralph/worker@sha256:...``."""
    python: Path
    """The interpreter in it, below ``/usr``, and no link."""
    packages: tuple[Path, ...]
    """Folders with installed packages in it, below ``/usr``."""
    store: Path | None = None
    """podman's store with the image in it; by default the one of the user who runs this."""

    def __post_init__(self) -> None:
        if not _PINNED.fullmatch(self.reference) or _TAGGED.search(self.reference.partition("/")[2] or self.reference):
            detail = f"the image {self.reference!r} is not named by its digest: a tag can be moved to another image"
            step = "`podman image inspect --format '{{.RepoDigests}}' NAME` shows the name to use, NAME@sha256:..."
            raise ConfigurationError(f"{detail}; {step}")
        for path in (self.python, *self.packages):
            if not path.is_relative_to("/usr") or ".." in path.parts:
                raise ConfigurationError(f"{path} is not below /usr, and nothing else of an image is inside a sandbox")

    def interpreter(self) -> Interpreter:
        """Return what the sandbox binds of it."""
        return Interpreter(executable=self.python, home=(), packages=self.packages, system=(Path("/usr"),))


class ContainerSandbox(SandboxLauncher):
    """Implements ``interfaces.Sandbox``.

    Args:
        python: Interpreter of the host to run inside, also one of a virtual environment; the running one by default.
        packages: Folders with installed packages in place of the interpreter's own.
        image: Run an image's interpreter and packages instead of the host's.
        program: What to run inside.
        in_memory: Run copies of the host's programs that are held in memory, see ``resident``.

    Raises:
        ConfigurationError: An image cannot be held in memory.
        SandboxUnavailable: podman or a part of it is not installed, or this machine's architecture has no system call filter.
    """

    name = "podman"

    def __init__(
        self,
        *,
        python: Path | str = sys.executable,
        packages: tuple[Path, ...] | None = None,
        image: Image | None = None,
        program: Program | None = None,
        in_memory: bool = False,
    ) -> None:
        if image is not None and in_memory:
            raise ConfigurationError("an image cannot be held in memory yet, and without that sandboxes can tell later ones what they read")
        self._engine = _engine(root=os.geteuid() == 0, image=image)
        self._image = image
        interpreter = describe(Path(python), packages=packages) if image is None else image.interpreter()
        super().__init__(interpreter, program=program, in_memory=in_memory)

    @property
    def bounds_total_memory(self) -> bool:
        """Whether the kernel bounds the memory of all processes inside together, not only of each."""
        return self._controllers is not None

    @property
    def shared(self) -> tuple[Path, ...]:
        """Files and folders of the host that every sandbox may read; for an image, the store that it is in."""
        if self._engine.images is not None:
            return (self._engine.images,)
        return super().shared

    def _start(self, spec: SandboxSpec, group: cgroups.Cgroup | None, deadline: float) -> RunningSandbox:
        init = Copied(target=f"{WORKER}/{_INIT.name}", data=_INIT.read_bytes())
        copied = (*program_files(WORKER), init, *self._program.files, *recipe_files(spec.recipe, RECIPE))
        ends = ContainerEnds(named=spec.limits.ranks > 1 or spec.limits.gpus > 0, group=group)
        try:
            process = ends.start(self._command(spec.limits, ends, copied), {"PATH": identity.TOOLS})
            first = ends.meet(process)
        except StartFailed as error:
            ends.close()
            image = None if self._image is None else self._image.reference
            reason = diagnose_container.explain(str(error), diagnose.this_machine(), image=image)
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
            counted=ends.inside,
            linger_s=LINGER_S,
            programs_bytes=self.programs_bytes,
        )

    def _command(self, limits: SandboxLimits, ends: ContainerEnds, copied: tuple[Copied, ...]) -> tuple[str, ...]:
        if self._image is not None and limits.gpus:
            raise SandboxUnavailable("an image together with GPUs is not supported yet; leave the image out", code="OPS-SANDBOX")
        folders = container_options.bound(self._interpreter, limits)
        where = identity.free_stage(tuple(Path(folder.source) for folder in folders))
        user = identity.FIRST_UID + next(_launches) % identity.UIDS
        inside = command(interpreter=self._interpreter, program=self._program, limits=limits)
        prepared = stage.script(
            where,
            user=user,
            limits=limits,
            tree=ends.pass_on(self._tree(limits, copied)),
            mount_image="" if self._image is None else self._engine.mount_image(where, self._image.reference),
            paths=tuple(folder.source for folder in folders),
            command=container_options.run(self._engine, where, user=user, limits=limits, folders=folders, command=inside),
        )
        return (*stage.prefix(root=self._root), *prepared)

    def _tree(self, limits: SandboxLimits, copied: tuple[Copied, ...]) -> bytes:
        kind = "-gpus" if limits.gpus else "" if limits.ranks == 1 else "-ranks"
        profile = _PROFILES / f"{platform.machine()}{kind}.json"
        whole_usr, programs = limits.gpus > 0 or self._image is not None, limits.gpus > 0
        return stage.tree(copied, profile=profile.read_bytes(), whole_usr=whole_usr, programs=programs)


def _engine(*, root: bool, image: Image | None) -> Engine:
    """Find the programs of the host. Raises SandboxUnavailable with what to install."""
    if not (_PROFILES / f"{platform.machine()}.json").exists():
        raise SandboxUnavailable(f"no system call filter for {platform.machine()}", code="OPS-SANDBOX")
    needed = ("podman", "crun", "conmon", "tar", "setpriv", "unshare", *(() if root else ("newuidmap",)))
    found = {name: shutil.which(name, path=f"{identity.TOOLS}:/usr/local/bin:/usr/libexec/podman:/usr/lib/podman") for name in needed}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise SandboxUnavailable(diagnose_container.install(missing), code="OPS-SANDBOX")
    images = None if image is None else image.store or (_ROOTS_IMAGES if root else _users_images())
    return Engine(podman=str(found["podman"]), runtime=str(found["crun"]), images=images)


def _users_images() -> Path:
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".local/share/containers/storage"
    except KeyError as error:
        raise ConfigurationError(f"user {os.geteuid()} has no home directory; name the `store` of the image") from error
