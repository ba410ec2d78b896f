"""Say why a container did not start, and exactly what to do about it.

As in ``diagnose``, the evidence is what was printed before any foreign code ran, and facts about the machine tell like causes apart.
"""

from ralph.sandbox.diagnose import CLONE_SYSCTL, CONTAINER, MAXIMUM_SYSCTL, NO_ADMINISTRATOR, NO_USER, UNREADABLE, Machine

PACKAGES = {"newuidmap": "uidmap", "setpriv": "util-linux", "unshare": "util-linux"}
"""Debian's name of the package where it is not the program's."""
MISSING = "{programs} not installed. Install: `sudo apt install {packages}` (Debian, Ubuntu; elsewhere the packages are named alike)"
OLD = "this util-linux is too old: `unshare --map-auto` needs version 2.38 or later (Debian 12, Ubuntu 23.04 and later have it)"
NO_NUMBERS = (
    "this user has no subordinate users and groups, or fewer than 65536 of them. Give some: "
    "`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER` (another range where that one is taken, see /etc/subuid; "
    "a user without an entry in /etc/passwd can have none)"
)
APPARMOR = (
    "AppArmor forbids unprivileged user namespaces. Run as root, use bubblewrap with its profile, or allow them for everybody: "
    "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
)
NO_IMAGE = "the image is not in this user's store. Get it: `podman pull {image}`"
NO_OVERLAY = (
    "podman's store of images is not kept with overlay, and images are read with that driver only. "
    "`podman info --format '{{{{.Store.GraphDriverName}}}}'` shows it; see containers-storage.conf(5)"
)
OTHER_RUNTIME = "this podman or crun lacks something that is used here: podman 4.3 and crun 1.8 (Debian 12) or later are needed"
UNKNOWN = "podman failed; `podman info` and `unshare --map-root-user --map-auto --mount true` show whether its parts work at all"
_WITH_IMAGE = (
    (NO_IMAGE, ("image not known", "no such image", "unable to find")),
    (NO_OVERLAY, ("overlay", "storage-driver", "graph driver")),
)
_CAUSES = (
    (NO_NUMBERS, ("subuid", "subgid", "uidmap", "gidmap", "uid range", "setresuid", "setresgid", "uid_map", "gid_map", "don't exist")),
    (UNREADABLE, ("executable file", "Fatal Python error", "can't open file", "No module named", "shared libraries")),
    (OTHER_RUNTIME, ("unknown flag", "not compatible with NoCgroups", "unknown option")),
)
_BLOCKED = (
    "unshare failed",
    "Operation not permitted",
    "No space left",
    "ermission denied",
    "OCI runtime error",
    "container create failed",
)


def install(missing: list[str]) -> str:
    """Return what to install for programs that were not found."""
    verb = "is" if len(missing) == 1 else "are"
    packages = sorted({PACKAGES.get(name, name) for name in missing})
    return MISSING.format(programs=f"{', '.join(missing)} {verb}", packages=" ".join(packages))


def explain(said: str, machine: Machine, *, image: str | None = None) -> str:
    """Return the cause and the remedy in one sentence or two.

    Args:
        said: What the launcher printed.
        machine: Facts about this machine.
        image: The wanted image, if any.
    """
    if "unrecognized option" in said:
        return OLD
    if image is not None and (found := _named(said, _WITH_IMAGE)) is not None:
        return found.format(image=image)
    if machine.root and not machine.system_administrator:
        return CONTAINER.format(also=" --cap-add SYS_ADMIN") if machine.container else NO_ADMINISTRATOR
    if machine.root and not machine.worker_user_mapped:
        return NO_USER
    if (found := _named(said, _CAUSES)) is not None:
        return found
    return _blocked(machine) if any(text in said for text in _BLOCKED) else UNKNOWN


def _named(said: str, causes: tuple[tuple[str, tuple[str, ...]], ...]) -> str | None:
    return next((remedy for remedy, texts in causes if any(text in said for text in texts)), None)


def _blocked(machine: Machine) -> str:
    if machine.max_user_namespaces < 1:
        return MAXIMUM_SYSCTL.format(maximum=machine.max_user_namespaces)
    if not machine.userns_clone and not machine.root:
        return CLONE_SYSCTL
    if machine.container:
        return CONTAINER.format(also=" --cap-add SYS_ADMIN" if machine.root else "")
    if machine.apparmor_restricts and not machine.root:
        return APPARMOR
    return UNKNOWN
