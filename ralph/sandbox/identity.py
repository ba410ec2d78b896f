"""Who starts the sandbox: as root, a shell that prepares mounts and then becomes an unprivileged user; otherwise nothing.

Root outside is dangerous inside: "nobody" of a namespace made by root is still root to every file of the host that is not
namespaced, such as ``/proc/sys/kernel/core_pattern``. So root never executes bubblewrap: it binds what the sandbox needs to a place
that the unprivileged user can reach, in a mount namespace of its own that ends with the sandbox, and drops to that user.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from ralph.errors import SandboxUnavailable
from ralph.interfaces import SandboxLimits
from ralph.sandbox import scope
from ralph.sandbox.limits import STAGE_BYTES, TMP_FILES

FIRST_UID = 64321
UIDS = 64
TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"
_STAGES = ("/media", "/mnt", "/srv", "/opt")
"""Folders of every Linux; one of them is covered inside the private mount namespace only."""
_CHOOM = "/usr/bin/choom"
"""Makes the sandbox the first to go should the machine run out of memory."""
_SCRIPT = """
set -e
umask 022
echo 1000 > /proc/$$/oom_score_adj
stage=$1 user=$2 stage_bytes=$3 tmp_bytes=$4 tmp_files=$5
shift 5
while [ "$1" != -- ]; do echo $$ > "$1"; shift; done
shift
mount -n -t tmpfs -o "size=$stage_bytes,nr_inodes=64,mode=0711,nosuid,nodev" tmpfs "$stage"
mkdir "$stage/tmp"
mount -n -t tmpfs -o "size=$tmp_bytes,nr_inodes=$tmp_files,mode=0700,uid=$user,gid=$user,nosuid,nodev" tmpfs "$stage/tmp"
number=0
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir "$stage/$number"; else : > "$stage/$number"; fi
  mount -n --bind "$1" "$stage/$number"
  number=$((number + 1))
  shift
done
shift
exec setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all env -i "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start bubblewrap for one sandbox."""

    prefix: tuple[str, ...]
    """Command line that goes before bubblewrap's own."""
    environment: dict[str, str]
    sources: tuple[str, ...]
    """Where the wanted host paths are to be bound from, in their order."""
    tmp: str | None
    """A prepared scratch file system to bind, or None to let bubblewrap make one."""


def as_user(paths: tuple[Path, ...], *, limits: SandboxLimits, scoped: bool) -> Launch:
    """Return the launch of an ordinary user: bubblewrap directly or in a scope of the user's systemd, with an empty environment."""
    first = (_CHOOM, "-n", "1000", "--") if Path(_CHOOM).exists() else ()
    return Launch(
        prefix=(*first, *(scope.prefix(limits) if scoped else ())),
        environment=scope.environment(os.geteuid()) if scoped else {},
        sources=tuple(str(path) for path in paths),
        tmp=None,
    )


def as_root(paths: tuple[Path, ...], *, uid: int, limits: SandboxLimits, groups: tuple[Path, ...]) -> Launch:
    """Return the launch that stages ``paths``, enters control groups and drops to ``uid``.

    Args:
        paths: Host files and folders that the sandbox needs.
        uid: User and group to become; must not be 0.
        limits: Size of the scratch file system.
        groups: Folders of control groups to enter.

    Raises:
        SandboxUnavailable: No folder is free to stage in.
    """
    if uid == 0:
        raise SandboxUnavailable("a sandbox cannot run as user 0; choose an unprivileged worker user", code="OPS-SANDBOX")
    stage = free_stage(paths)
    arguments = [stage, uid, STAGE_BYTES, limits.tmp_bytes, TMP_FILES, *(folder / "cgroup.procs" for folder in groups), "--", *paths, "--"]
    shell = ("unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", _SCRIPT, "sh")
    return Launch(
        prefix=(*shell, *(str(argument) for argument in arguments)),
        environment={"PATH": TOOLS},
        sources=tuple(f"{stage}/{number}" for number in range(len(paths))),
        tmp=str(Path(stage) / "tmp"),
    )


def free_stage(paths: tuple[Path, ...]) -> str:
    """Return a folder that no sandbox needs and that can be covered. Raises SandboxUnavailable."""
    for stage in _STAGES:
        if Path(stage).is_dir() and not any(path.is_relative_to(stage) for path in paths):
            return stage
    raise SandboxUnavailable(f"none of {', '.join(_STAGES)} is a folder that can be covered", code="OPS-SANDBOX")
