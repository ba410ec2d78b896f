"""Say why a sandbox did not start, and exactly what to do about it.

Three situations look alike from a distance: bubblewrap is missing, the machine forbids what it needs, or this process is
itself inside a container that forbids it. Each has its own remedy. The text that a launcher printed before any foreign code ran is
the evidence; facts about the machine tell the causes apart.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from ralph.sandbox.identity import FIRST_UID

INSTALL = (
    "bubblewrap is not installed. Install it: `sudo apt install bubblewrap` (Debian, Ubuntu), `sudo dnf install bubblewrap` (Fedora), "
    "`sudo pacman -S bubblewrap` (Arch)"
)
APPARMOR = (
    "AppArmor forbids unprivileged user namespaces. Allow them for bubblewrap: "
    "`printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile bwrap {executable} flags=(unconfined) {{\\n  userns,\\n}}\\n' "
    "| sudo tee /etc/apparmor.d/bwrap && sudo apparmor_parser -r /etc/apparmor.d/bwrap`"
)
CLONE_SYSCTL = (
    "this kernel forbids unprivileged user namespaces. Allow them: `sudo sysctl -w kernel.unprivileged_userns_clone=1` "
    "(to keep it, put that line in /etc/sysctl.d/60-userns.conf)"
)
MAXIMUM_SYSCTL = (
    "the number of user namespaces is limited to {maximum}. Raise it: `sudo sysctl -w user.max_user_namespaces=15000` "
    "(to keep it, put that line in /etc/sysctl.d/60-userns.conf)"
)
CONTAINER = (
    "this process is inside a container that forbids namespaces. Start the container with `--security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined --security-opt systempaths=unconfined`{also}, or run on the machine itself"
)
NO_ADMINISTRATOR = (
    "started as root without CAP_SYS_ADMIN, which is needed to bind folders for the worker's user. "
    "Run as an ordinary user, or as root with that capability"
)
NO_USER = "the worker's user is not mapped in this user namespace. Run as an ordinary user, or choose a mapped one"
OLD = "this bubblewrap is too old: version 0.8 or later is needed (Debian 12, Ubuntu 23.04 and later have it)"
SETUID = "this bubblewrap is installed setuid root, which forbids --disable-userns. Remove that bit: `sudo chmod u-s {executable}`"
UNREADABLE = "the worker's user cannot read the interpreter or its packages. Make them readable: `chmod -R a+rX` on the virtual environment"
UNKNOWN = "bubblewrap failed; `{executable} --ro-bind / / --unshare-all true` shows whether it works at all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts that decide whether an unprivileged process may make namespaces."""

    root: bool
    container: bool
    apparmor_restricts: bool
    """AppArmor's ``kernel.apparmor_restrict_unprivileged_userns``."""
    userns_clone: bool
    """Debian's ``kernel.unprivileged_userns_clone``; true where the kernel does not have it."""
    max_user_namespaces: int
    system_administrator: bool
    """Whether this process has CAP_SYS_ADMIN."""
    worker_user_mapped: bool
    """Whether the worker's users exist in this user namespace."""


def this_machine() -> Machine:
    """Read the facts from ``/proc`` and the marks that container engines leave."""
    kernel = Path("/proc/sys/kernel")
    capabilities = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return Machine(
        root=os.geteuid() == 0,
        container=any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")),
        apparmor_restricts=_number(kernel / "apparmor_restrict_unprivileged_userns", 0) == 1,
        userns_clone=_number(kernel / "unprivileged_userns_clone", 1) == 1,
        max_user_namespaces=_number(Path("/proc/sys/user/max_user_namespaces"), 1),
        system_administrator=bool(int(capabilities.split()[1], 16) >> 21 & 1),
        worker_user_mapped=_mapped(FIRST_UID),
    )


def explain(said: str, machine: Machine, *, executable: str = "/usr/bin/bwrap") -> str:
    """Return the cause and the remedy in one sentence or two.

    Args:
        said: What the launcher printed.
        machine: Facts about this machine.
        executable: Path of bubblewrap.
    """
    if "Unknown option" in said:
        return OLD
    if "setuid" in said and "userns" in said:
        return SETUID.format(executable=executable)
    if machine.root and not machine.system_administrator:
        return CONTAINER.format(also=" --cap-add SYS_ADMIN") if machine.container else NO_ADMINISTRATOR
    if machine.root and not machine.worker_user_mapped:
        return NO_USER
    if any(text in said for text in ("execvp", "Fatal Python error", "can't open file", "No module named", "shared libraries")):
        return UNREADABLE
    if any(text in said for text in ("namespace", "uid map", "unshare", "Operation not permitted", "No space left")):
        return _blocked(machine, executable)
    return UNKNOWN.format(executable=executable)


def _blocked(machine: Machine, executable: str) -> str:
    if machine.max_user_namespaces < 1:
        return MAXIMUM_SYSCTL.format(maximum=machine.max_user_namespaces)
    if not machine.userns_clone:
        return CLONE_SYSCTL
    if machine.container:
        return CONTAINER.format(also="")
    if machine.apparmor_restricts:
        return APPARMOR.format(executable=executable)
    return UNKNOWN.format(executable=executable)


def _mapped(user: int) -> bool:
    ranges = (line.split() for line in Path("/proc/self/uid_map").read_text().splitlines())
    return any(int(first) <= user < int(first) + int(count) for first, _, count in ranges)


def _number(file: Path, absent: int) -> int:
    try:
        return int(file.read_text())
    except OSError:
        return absent
