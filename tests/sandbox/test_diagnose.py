"""Every reason why a sandbox does not start has its own remedy."""

import dataclasses
import os
from pathlib import Path

import pytest

from ralph.sandbox import diagnose
from ralph.sandbox.diagnose import Machine, explain
from tests.sandbox.launched import launched

FINE = Machine(
    root=False,
    container=False,
    apparmor_restricts=False,
    userns_clone=True,
    max_user_namespaces=15000,
    system_administrator=False,
    worker_user_mapped=True,
)
BLOCKED = "bwrap: No permissions to create new namespace, likely because the kernel does not allow non-privileged user namespaces."
BLOCKED_BY_APPARMOR = "bwrap: setting up uid map: Permission denied"


@pytest.mark.parametrize(
    ("said", "facts", "remedy"),
    [
        (BLOCKED, {"userns_clone": False}, "kernel.unprivileged_userns_clone=1"),
        (BLOCKED, {"max_user_namespaces": 0}, "user.max_user_namespaces=15000"),
        (BLOCKED_BY_APPARMOR, {"apparmor_restricts": True}, "profile bwrap /usr/bin/bwrap flags=(unconfined) {\\n  userns,"),
        (BLOCKED, {"container": True}, "--security-opt seccomp=unconfined"),
        (BLOCKED, {"container": True, "apparmor_restricts": True}, "--security-opt apparmor=unconfined"),
        ("unshare: unshare failed: Operation not permitted", {"root": True}, "CAP_SYS_ADMIN"),
        ("unshare: unshare failed: Operation not permitted", {"root": True, "container": True}, "--cap-add SYS_ADMIN"),
        (
            "setpriv: setresuid failed: Invalid argument",
            {"root": True, "system_administrator": True, "worker_user_mapped": False},
            "not mapped",
        ),
        ("bwrap: Unknown option --disable-userns", {}, "0.8 or later"),
        ("bwrap: --disable-userns is not supported in setuid mode", {}, "chmod u-s /usr/bin/bwrap"),
        ("bwrap: execvp /opt/python: Permission denied", {}, "chmod -R a+rX"),
        ("something else altogether", {}, "--unshare-all true"),
    ],
)
def test_each_cause_has_its_own_remedy(said: str, facts: dict[str, bool | int], remedy: str) -> None:
    assert remedy in explain(said, dataclasses.replace(FINE, **facts))  # type: ignore[arg-type]


def test_the_facts_of_this_machine_can_be_read() -> None:
    machine = diagnose.this_machine()
    assert machine.root == (os.geteuid() == 0)
    assert machine.max_user_namespaces > 0


def test_a_missing_bubblewrap_is_told_apart_from_a_blocked_one(packages: tuple[Path, ...], recipe: Path) -> None:
    hidden = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount --bind /dev/null /usr/bin/bwrap && exec "$@"', "sh"]
    assert "OPS-SANDBOX: bubblewrap is not installed. Install it: `sudo apt install bubblewrap`" in launched(hidden, packages, recipe)


def test_a_user_namespace_without_a_user_for_the_worker_is_named(packages: tuple[Path, ...], recipe: Path) -> None:
    assert "not mapped in this user namespace" in launched(["unshare", "--user", "--map-root-user"], packages, recipe)
