"""Where a container engine works for one sandbox: namespaces of its own whose end takes everything along.

An engine leaves things behind when it is killed: a supervisor, mounts, a storage folder, locks. So it is started in a new mount
namespace, where every place that it writes to is a file system in memory, and in a new process namespace, whose first process it is.
The kernel ends all processes in there when that one ends, the mounts and their content go with the last of them, and it ends when
the host does. There is nothing to sweep up after a crash, and nothing of one sandbox that the next one, or the operator's own
containers, could meet.

An ordinary user does this in a user namespace with their subordinate numbers (subuid(5)), in which the engine believes to be root.

Not promised: that the kernel's end of a namespace is instant; the caller waits for it.
"""

import io
import tarfile
from pathlib import Path, PurePosixPath

from ralph.interfaces import SandboxLimits
from ralph.sandbox.files import Copied
from ralph.sandbox.limits import MAX_COPIED_BYTES, MEBIBYTE, TMP_FILES

STAGE_BYTES = MAX_COPIED_BYTES + 48 * MEBIBYTE
"""The root with everything copied, and an engine's books of one container."""
STAGE_FILES = 4096
_HIDDEN = 0o700
"""Mode of folders that an engine puts things into which are none of the worker's business."""
_UNTIL_WE_END = ("setpriv", "--pdeathsig", "KILL", "unshare")
_AS_USER = ("--user", "--map-root-user", "--map-auto")
_NAMESPACES = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--")
_SCRIPT = """
set -e
umask 022
echo 1000 > /proc/$$/oom_score_adj
exec 3<&0 4>&1 0</dev/null
stage=$1 user=$2 stage_bytes=$3 stage_files=$4 tmp_bytes=$5 tmp_files=$6 tree=$7 mount_image=$8
shift 8
export "HOME=$stage/home" "XDG_RUNTIME_DIR=$stage/run" "CONTAINERS_CONF=$stage/containers.conf"
mount -n -t tmpfs -o "size=$stage_bytes,nr_inodes=$stage_files,mode=0711,nosuid,nodev" tmpfs "$stage"
tar -x -p -C "$stage" -f "/proc/self/fd/$tree"
mount -n -t tmpfs -o "size=$tmp_bytes,nr_inodes=$tmp_files,mode=0700,uid=$user,gid=$user,nosuid,nodev" tmpfs "$stage/scratch"
mount -n -t tmpfs -o size=1m,nosuid,nodev tmpfs /dev/shm
base=
if [ -n "$mount_image" ]; then
  base=$(eval "$mount_image")
  case $base in "$stage"/*) ;; *) echo "the image is mounted nowhere: $base" >&2; exit 1 ;; esac
fi
number=0
while [ "$1" != -- ]; do
  if [ -d "$base$1" ]; then mkdir "$stage/$number"; else : > "$stage/$number"; fi
  mount -n --bind "$base$1" "$stage/$number"
  number=$((number + 1))
  shift
done
shift
mount -n -t tmpfs -o size=16m,nosuid,nodev tmpfs /run
# crun refuses to start beside a second hierarchy of control groups, even when it is to use none
if [ -d /sys/fs/cgroup/unified ]; then mount -n -t tmpfs -o ro tmpfs /sys/fs/cgroup/unified; fi
exec "$@"
"""
_HOST_LIB64 = Path("/usr/lib64")


def prefix(*, root: bool) -> tuple[str, ...]:
    """Return the command line that runs what follows in namespaces that end with the thread that starts it."""
    return (*_UNTIL_WE_END, *(() if root else _AS_USER), *_NAMESPACES)


def script(
    stage: str, *, user: int, limits: SandboxLimits, tree: int, mount_image: str, paths: tuple[str, ...], command: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the command line that prepares ``stage`` and becomes ``command``; channel and output are its descriptors 3 and 4.

    Args:
        stage: A folder of the host to cover, in the new mount namespace only.
        user: Owner of the scratch file system.
        limits: Its size.
        tree: Descriptor of an archive from ``tree``.
        mount_image: A shell command that prints where an image is mounted, or nothing for the host's own root.
        paths: What appears as ``stage/0``, ``stage/1`` and so on.
        command: The engine's command line.
    """
    values = (stage, user, STAGE_BYTES, STAGE_FILES, limits.tmp_bytes, TMP_FILES, tree, mount_image)
    return ("/bin/sh", "-c", _SCRIPT, "sh", *(str(value) for value in values), *paths, "--", *command)


def tree(copied: tuple[Copied, ...], *, profile: bytes, whole_usr: bool, programs: bool) -> bytes:
    """Return an archive of everything below the stage: the container's root, and folders for the engine.

    Args:
        copied: Files to place in the root.
        profile: The engine's system call filter.
        whole_usr: All of ``/usr`` is bound, so that no link inside it is wanted.
        programs: The worker starts programs, from ``/bin`` too.
    """
    modes = {"closed/sys": 0o500, "closed/mqueue": 0o500, "root/etc": _HIDDEN, "root/run": _HIDDEN, "root/sys": _HIDDEN}
    modes |= dict.fromkeys(("scratch", "home", "store", "run", "tmp", "hooks"), 0o700)
    modes |= dict.fromkeys(("root/dev", "root/proc", "root/tmp", "root/usr"), 0o755)
    links = {"root/lib": "usr/lib", "root/lib64": "usr/lib64"}
    if programs:
        links["root/bin"] = "usr/bin"
    if not whole_usr and _HOST_LIB64.is_symlink():
        links["root/usr/lib64"] = str(_HOST_LIB64.readlink())
    files = {f"root{file.target}": file.data for file in copied} | {"seccomp.json": profile, "containers.conf": b""}
    parents = {str(parent) for name in (*modes, *files) for parent in PurePosixPath(name).parents if str(parent) != "."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(parents | set(modes)):
            archive.addfile(_entry(name, tarfile.DIRTYPE, modes.get(name, 0o755)))
        for name, target in links.items():
            archive.addfile(_entry(name, tarfile.SYMTYPE, 0o777, target=target))
        for name, data in files.items():
            archive.addfile(_entry(name, tarfile.REGTYPE, 0o444, size=len(data)), io.BytesIO(data))
    return buffer.getvalue()


def _entry(name: str, kind: bytes, mode: int, *, target: str = "", size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, size
    return entry
