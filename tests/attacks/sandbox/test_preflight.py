"""The whole attack suite against the real sandbox, and against no sandbox at all."""

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ralph.errors import SandboxUnavailable
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.preflight import run_preflight
from ralph.sandbox.report import Attack, PreflightReport

PROJECT = Path(__file__).parents[3]
PACKAGES = Path(np.__file__).parent.parent
EXPECTED = {
    *("tcp socket", "udp socket", "vsock socket", "netlink socket", "unix socket", "abstract socket name"),
    *("host files", "other processes' environment", "launcher's options", "inherited descriptors", "outside processes"),
    *("ptrace", "other processes' memory", "nested namespace by unshare", "nested namespace by clone", "nested namespace by clone3"),
    *("io_uring", "keyctl", "bpf", "perf", "mount", "memfd", "core_pattern and kernel settings", "root outside", "privileges"),
    *("fork bomb", "memory bomb", "memory of one process", "fill scratch folder", "fill inodes", "sparse file"),
    *("output flood", "daemons that ignore signals", "answer in drops", "worker that never reads", "write outside scratch"),
}


@pytest.fixture(scope="module")
def report() -> PreflightReport:
    return run_preflight(BubblewrapSandbox(packages=(PACKAGES,)), full=True)


def test_every_attack_of_the_suite_is_blocked(report: PreflightReport) -> None:
    assert [finding for finding in report.findings if not finding.blocked] == []
    assert report.passed


def test_no_attack_is_missing_from_the_suite(report: PreflightReport) -> None:
    assert {finding.name for finding in report.findings} >= EXPECTED


def test_memory_that_is_not_bounded_in_total_is_admitted(report: PreflightReport) -> None:
    bounded = BubblewrapSandbox(packages=(PACKAGES,)).bounds_total_memory
    assert bool(report.weaknesses) != bounded


def test_the_quick_suite_is_part_of_the_full_one(report: PreflightReport) -> None:
    quick = run_preflight(BubblewrapSandbox(packages=(PACKAGES,)))
    assert quick.passed
    assert {finding.name for finding in quick.findings} < {finding.name for finding in report.findings}


def test_the_report_fails_with_its_worst_finding() -> None:
    blocked = Attack(name="tcp socket", blocked=True, detail="EPERM")
    open_door = Attack(name="udp socket", blocked=False, detail="socket AF_INET")
    assert PreflightReport(findings=(blocked,), weaknesses=("one",), duration_s=0.1).passed
    leaky = PreflightReport(findings=(blocked, open_door), weaknesses=(), duration_s=0.1)
    assert not leaky.passed
    with pytest.raises(SandboxUnavailable, match=r"udp socket \(socket AF_INET\)"):
        leaky.require()


def test_the_same_probes_succeed_where_there_is_no_sandbox() -> None:
    """A probe that can never succeed proves nothing, so most are run in the open, by a process without special rights."""
    ours, theirs = socket.socketpair()
    code = "import os, sys; os.dup2(int(sys.argv[1]), 3); from ralph.sandbox.attacks import probes; probes.main(3)"
    # the probes keep their answers in the scratch folder, so they get one of their own, and leave no shared memory behind
    own = 'mount --bind "$1" /mnt && mount --bind "$2" /media && mount -t tmpfs tmpfs /tmp && shift 2 && exec setpriv --inh-caps=-all "$@"'
    hide = ["unshare", "--user", "--map-root-user", "--mount", "--ipc", "sh", "-c", own, "sh", str(PROJECT), str(PACKAGES)]
    with ours, theirs:
        attacker = subprocess.Popen(
            [*hide, str(Path(sys.executable).resolve()), "-c", code, str(theirs.fileno())],
            cwd="/",
            env={"PYTHONPATH": "/mnt:/media", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "BAIT": "1"},
            pass_fds=[theirs.fileno()],
        )
        with attacker:
            ours.sendall(json.dumps(["/etc/passwd"]).encode())
            theirs.close()
            with ours.makefile("rb") as file:
                (length,) = struct.unpack("<I", file.read(4))
                results = {name: got for name, got, _ in json.loads(file.read(length))}
            ours.close()
    succeeded = {name for name, got in results.items() if got is not None}
    sockets = {"tcp socket", "udp socket", "tcp6 socket", "unix socket", "netlink socket"}
    calls = {"nested namespace by unshare", "nested namespace by clone", "ptrace", "add_key", "memfd", "shared memory segment"}
    places = {"host files", "inherited descriptors", "other processes' environment", "outside processes", "write outside scratch"}
    assert succeeded >= sockets | calls | places | {"privileges", "raised limits", "sparse file"}
