"""podman's command line for one sandbox.

Everything that an engine would take from the machine, from its configuration or from habit is named here and switched off or replaced: the
environment, hosts and user files, hooks, proxies, volumes of images, its own control groups. Host paths appear as numbers below the stage.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from ralph.errors import SandboxUnavailable
from ralph.interfaces import SandboxLimits
from ralph.sandbox import gpu
from ralph.sandbox.interpreter import Interpreter
from ralph.sandbox.options import TMP, WORKER, environment, package_folders

DESCRIPTORS = 2
"""Channel and output, from number 3 on; podman hands over nothing else."""
_RUN = (
    *("--cgroups", "disabled", "--network", "none", "--ipc", "none", "--hostname", "worker", "--no-hosts", "--passwd=false"),
    *("--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *(
        "--security-opt",
        "label=disable",
        "--security-opt",
        "apparmor=unconfined",
        "--unsetenv-all",
        "--http-proxy=false",
        "--systemd",
        "false",
        "--sdnotify",
        "ignore",
    ),
    *("--ulimit", "host", "--log-driver", "none", "--workdir", TMP, "--preserve-fds", str(DESCRIPTORS)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The programs of the host, and the operator's store of images where one is used."""

    podman: str
    runtime: str
    images: Path | None = None

    def command(self, stage: str) -> tuple[str, ...]:
        """Return podman with everything that it keeps below ``stage``."""
        places = ("--root", f"{stage}/store", "--runroot", f"{stage}/run", "--tmpdir", f"{stage}/tmp", "--hooks-dir", f"{stage}/hooks")  # noqa: S108
        network = ("--network-config-dir", f"{stage}/hooks")  # there is no network; podman takes a lock in that folder nevertheless
        driver = ("vfs",) if self.images is None else ("overlay", "--storage-opt", f"additionalimagestore={self.images}")
        books = ("--cgroup-manager", "cgroupfs", "--events-backend", "none", "--storage-driver", *driver)
        return (self.podman, "--runtime", self.runtime, *places, *network, *books)

    def mount_image(self, stage: str, reference: str) -> str:
        """Return a shell command that mounts an image and prints where.

        An image of a store that may only be read has to be mounted as that of a container; this one is never started.
        """
        podman = shlex.join(self.command(stage))
        made = f"made=$({podman} create --pull never --cgroups disabled {shlex.quote(reference)} nothing)"
        return f'{made} && [ -n "$made" ] && {podman} mount "$made"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One folder or file that is inside, and where it comes from."""

    source: str
    target: str


def bound(interpreter: Interpreter, limits: SandboxLimits) -> tuple[Bound, ...]:
    """Return what is bound read-only from the host or from an image.

    Raises:
        SandboxUnavailable: A path cannot be written on podman's command line.
    """
    system = (
        tuple(Bound(source=folder, target=folder) for folder in gpu.FOLDERS)
        if limits.gpus
        else tuple(Bound(source=str(interpreter.source(path)), target=str(path)) for path in interpreter.system)
    )
    same = tuple(Bound(source=str(interpreter.source(path)), target=str(path)) for path in interpreter.home)
    packages = zip(interpreter.packages, package_folders(interpreter), strict=True)
    result = (*system, *same, *(Bound(source=str(interpreter.source(path)), target=target) for path, target in packages))
    for one in result:
        if ":" in one.target:
            raise SandboxUnavailable(
                f"podman cannot bind {one.target}, whose name has a colon; use another interpreter", code="OPS-SANDBOX"
            )
    return result


def run(
    engine: Engine, stage: str, *, user: int, limits: SandboxLimits, folders: tuple[Bound, ...], command: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the whole command line.

    Args:
        engine: What to start.
        stage: Prepared by ``stage.script``; ``folders`` are below it by their number.
        user: Who the worker is inside.
        limits: Threads and GPUs.
        folders: What is bound.
        command: The bootstrap's command line.
    """
    result = [*engine.command(stage), "run", *_RUN, "--user", f"{user}:{user}", "--security-opt", f"seccomp={stage}/seccomp.json"]
    volumes = [f"{stage}/{number}:{folder.target}:ro" for number, folder in enumerate(folders)]
    volumes += [f"{stage}/scratch:{TMP}:rw,nosuid,nodev", f"{stage}/closed/mqueue:/dev/mqueue:ro"]
    if not limits.gpus:
        volumes.append(f"{stage}/closed/sys:/sys:ro")
    for volume in volumes:
        result += ["--volume", volume]
    for name, value in (*environment(limits.threads), *gpu.environment(limits.gpus)):
        result += ["--env", f"{name}={value}"]
    for device in gpu.require(limits.gpus):
        result += ["--device", f"{device}:/dev/{device.name}"]
    first, *python = command
    flags = python[: python.index(f"{WORKER}/bootstrap.py")]
    return (*result, "--rootfs", f"{stage}/root", first, *flags, f"{WORKER}/container_init.py", *command)
