"""Attacks that look or touch and leave nothing behind: everything the sandbox says cannot be reached.

Each probe runs in a process of its own. It returns what it got hold of, or raises OSError, or dies, when it was stopped.
"""

import errno
import json
import os
import resource
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ralph.sandbox.attacks import calls

_DEVICES = {"null", "zero", "full", "random", "urandom", "tty"}
_ENVIRONMENT = {
    *("HOME", "LANG", "PWD", "PYTHONHASHSEED", "PYTHONUTF8", "TMPDIR", "USER"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"),
}
_ROOT = {"dev", "lib", "lib64", "packages", "proc", "recipe", "tmp", "usr", "worker"}
_PROC = Path("/proc")
_SCRATCH = Path("/tmp")  # noqa: S108 - a path inside the sandbox
_SYSCTLS = ("core_pattern", "modprobe", "sysrq", "hostname", "randomize_va_space", "panic")

Probe = Callable[[], str | None]


def host_files(secrets: list[str]) -> str | None:
    """Read files that the host has made readable to everybody, directly and through other processes' roots."""
    roots = ("", "/proc/1/root", "/proc/self/root", "/proc/1/cwd/..", "/oldroot", "/newroot", "/..")
    for path in [root + secret for root in roots for secret in secrets]:
        try:
            return f"{path}: {Path(path).read_text()[:20]}"
        except OSError:
            continue
    unexpected = {entry.name for entry in Path("/").iterdir() if _enters(entry)} - _ROOT - set(Path(sys.base_prefix).parts[1:2])
    return f"unexpected in /: {sorted(unexpected)}" if unexpected else None


def environments() -> str | None:
    """Read what other processes were started with."""
    ours = {os.getpid(), os.getppid()}
    for folder in _processes():
        if int(folder.name) not in ours and _readable(folder / "environ"):
            return f"environment of {folder.name}"
    foreign = set(os.environ) - _ENVIRONMENT
    return f"variables {sorted(foreign)}" if foreign else None


def command_lines(secrets: list[str]) -> str | None:
    """Read host paths from the launcher's options."""
    for folder in _processes():
        words = _readable(folder / "cmdline")
        if b"--ro-bind" in words or any(secret.encode() in words for secret in secrets):
            return f"{folder.name}: {words[:60]!r}"
    return None


def outside_processes() -> str | None:
    """See a process of the host: inside are only the first one, this program and this probe."""
    seen = sorted(int(folder.name) for folder in _processes())
    expected = sorted({1, os.getppid(), os.getpid()})
    return None if seen == expected else f"processes {seen}"


def descriptors() -> str | None:
    """Use what was left open: anything but nothing, output twice, and the channel."""
    expected = (stat.S_ISCHR, stat.S_ISFIFO, stat.S_ISFIFO, stat.S_ISSOCK)
    for entry in Path("/proc/self/fd").iterdir():
        number = int(entry.name)
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            continue
        if number >= len(expected) or not expected[number](mode):
            return f"descriptor {number}: {entry.readlink()}"
    return None


def writable_places() -> str | None:
    """Create a file, a link or a pipe anywhere but in the scratch folder."""
    mounts = {Path(line.split()[4]) for line in (_PROC / "self" / "mountinfo").read_text().splitlines()}
    for folder in sorted(mounts | set(Path("/").iterdir()) | {Path("/dev/shm"), Path("/usr/lib")}):  # noqa: S108 - must not be writable
        if folder == _SCRATCH or not _enters(folder) or not folder.is_dir():
            continue
        target = folder / "ralph-preflight"
        for make in (target.touch, lambda at=target: at.symlink_to("/etc/passwd"), lambda at=target: os.mkfifo(at)):
            try:
                make()
                target.unlink()
            except OSError:
                continue
            return f"made {target}"
    return None


def kernel_settings() -> str | None:
    """Change how the host handles crashes, modules or keys."""
    files = [_PROC / "sys" / "kernel" / name for name in _SYSCTLS]
    for file in (*files, _PROC / "sys" / "vm" / "drop_caches", _PROC / "sysrq-trigger", Path("/sys/kernel/uevent_helper")):
        try:
            os.close(os.open(file, os.O_WRONLY))
        except OSError:
            continue
        return f"opened {file} for writing"
    return None


def privileges() -> str | None:
    """Hold or regain a capability."""
    status = dict(line.split(":\t", 1) for line in (_PROC / "self" / "status").read_text().splitlines() if ":\t" in line)
    held = {name: status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)}
    if held or status["NoNewPrivs"].strip() != "1" or status["Seccomp"].strip() != "2":
        return f"capabilities {held}, no_new_privs {status['NoNewPrivs']}, seccomp {status['Seccomp']}"
    os.setuid(0)
    return "became user 0"


def devices() -> str | None:
    """Find a device, or make one."""
    for parent, _, names in os.walk("/dev"):
        for name in names:
            mode = Path(parent, name).lstat().st_mode
            known = (parent == "/dev" and name in _DEVICES) or (parent == "/dev/pts" and name == "ptmx")
            if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not known):
                return f"{parent}/{name}"
    os.mknod(_SCRATCH / "device", stat.S_IFBLK | 0o600, os.makedev(8, 0))
    return "made a block device"


def raised_limits() -> str | None:
    """Take a limit back."""
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        hard = resource.getrlimit(kind)[1]
        if hard == resource.RLIM_INFINITY:
            return f"limit {kind} is infinite"
        try:
            resource.setrlimit(kind, (hard + 1, hard + 1))
        except ValueError:
            continue
        return f"raised limit {kind}"
    return None


def sparse_file() -> str:
    """Make a file that is larger than the scratch space."""
    with (_SCRATCH / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        return f"{os.fstat(file.fileno()).st_size} bytes"


def probes(secrets: list[str]) -> Iterator[tuple[str, Probe]]:
    """Return every probe by name."""
    yield from (
        ("inherited descriptors", descriptors),
        ("host files", lambda: host_files(secrets)),
        ("other processes' environment", environments),
        ("launcher's options", lambda: command_lines(secrets)),
        ("outside processes", outside_processes),
        ("write outside scratch", writable_places),
        ("core_pattern and kernel settings", kernel_settings),
        ("privileges", privileges),
        ("devices", devices),
        ("raised limits", raised_limits),
        ("sparse file", sparse_file),
    )
    yield from calls.probes()


def attempt(probe: Probe) -> tuple[str | None, str]:
    """Run one probe in a child; return what it got, and how it was stopped when it got nothing."""
    answer = _SCRATCH / "answer"
    child = os.fork()
    if child == 0:
        try:
            got, stopped = probe(), "found nothing"
        except OSError as error:
            got, stopped = None, errno.errorcode.get(error.errno or 0, str(error))
        answer.write_text(json.dumps([got, stopped]))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not answer.exists():
        return None, f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no answer"
    got, stopped = json.loads(answer.read_text())
    answer.unlink()
    return got, stopped


def main(fd: int) -> None:
    """Read the paths of the host's secrets, run every probe, send the results as one length-prefixed JSON list."""
    channel = socket.socket(fileno=fd)
    secrets = json.loads(channel.recv(4096))
    encoded = json.dumps([[name, *attempt(probe)] for name, probe in probes(secrets)]).encode()
    channel.sendall(struct.pack("<I", len(encoded)) + encoded)
    channel.recv(1)


def _readable(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _enters(place: Path) -> bool:
    """Return whether it can be read, listed or passed through. A launcher may need a folder that is closed to everybody inside."""
    return any(os.access(place, way) for way in (os.R_OK, os.X_OK))


def _processes() -> list[Path]:
    return [folder for folder in _PROC.iterdir() if folder.name.isdigit()]
