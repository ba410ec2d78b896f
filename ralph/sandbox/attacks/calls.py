"""Attacks by system call: what a filter must refuse even where the kernel would allow it."""

import ctypes
import fcntl
import mmap
import os
import platform
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial

_ARM = platform.machine() == "aarch64"
_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_USER = 0x10000000
_NEW_NET = 0x40000000
_TIOCSTI = 0x5412
_CALLS: dict[str, tuple[int, int]] = {
    "clone": (56, 220),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "unshare": (272, 97),
    "mount": (165, 40),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "clone3": (435, 435),
    "name_to_handle_at": (303, 264),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
}
_SOCKETS = {
    "tcp": (2, 1),
    "udp": (2, 2),
    "tcp6": (10, 1),
    "unix": (1, 1),
    "netlink": (16, 3),
    "packet": (17, 3),
    "kernel crypto": (38, 5),
    "vsock": (40, 1),
}

Probe = Callable[[], str | None]


def call(name: str, *arguments: int | bytes | None) -> int:
    """Make a raw system call. Raises OSError."""
    result: int = _LIBC.syscall(_CALLS[name][_ARM], *(ctypes.c_long(item) if isinstance(item, int) else item for item in arguments))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def open_socket(family: int, kind: int) -> str:
    """Open a socket of any address family."""
    with socket.socket(family, kind) as opened:
        return f"socket {opened.family}"


def abstract_socket() -> str:
    """Take an abstract socket name through the inherited stream."""
    with socket.socket(fileno=os.dup(3)) as channel:
        channel.bind("\0ralph-preflight")
        return "bound an abstract name"


def read_memory() -> str:
    """Read the memory of the first process."""
    buffer = ctypes.create_string_buffer(8)
    vector = struct.pack("<QQ", ctypes.addressof(buffer), 8)
    call("process_vm_readv", 1, vector, 1, vector, 1, 0)
    return "read the memory of process 1"


def namespace(name: str) -> str:
    """Make a namespace inside, in which to be root."""
    if name == "unshare":
        call("unshare", _NEW_USER | _NEW_NET)
    elif name == "clone3":
        call("clone3", struct.pack("<11Q", _NEW_USER, *([0] * 3), signal.SIGCHLD, *([0] * 6)), 88)
    elif call("clone", _NEW_USER | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)
    return f"{name} made a namespace"


def foreign_architecture() -> str | None:
    """Make a 32-bit system call, whose numbers the filter does not know."""
    if _ARM:
        return None
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return f"32-bit getpid returned {ctypes.CFUNCTYPE(ctypes.c_int)(address)()}"


def terminal() -> str:
    """Type into the operator's terminal."""
    fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), _TIOCSTI, b"x")
    return "typed"


def used(name: str, *arguments: int | bytes | None) -> Probe:
    """Return a probe that uses a part of the kernel which recipes have no business with."""
    return lambda: f"{name} returned {call(name, *arguments)}"


def probes() -> Iterator[tuple[str, Probe]]:
    """Return every probe by name."""
    for name, (family, kind) in _SOCKETS.items():
        yield f"{name} socket", partial(open_socket, family, kind)
    for name in ("unshare", "clone", "clone3"):
        yield f"nested namespace by {name}", partial(namespace, name)
    yield from (
        ("abstract socket name", abstract_socket),
        ("ptrace", used("ptrace", 0, 0, 0, 0)),
        ("other processes' memory", read_memory),
        ("descriptor of another process", lambda: f"descriptor {call('pidfd_getfd', call('pidfd_open', 1, 0), 0, 0)}"),
        ("mount", used("mount", b"none", b"/tmp", b"tmpfs", 0, None)),
        ("bpf", used("bpf", 0, bytes(72), 72)),
        ("perf", used("perf_event_open", bytes(112), 0, -1, -1, 0)),
        ("keyctl", used("keyctl", 0, -1, 1)),
        ("add_key", used("add_key", b"user", b"ralph", b"x", 1, -1)),
        ("io_uring", used("io_uring_setup", 8, bytes(120))),
        ("userfaultfd", used("userfaultfd", 1)),
        ("memfd", used("memfd_create", b"x", 0)),
        ("shared memory segment", used("shmget", 0, 1 << 20, 0o1600)),
        ("file handles", used("name_to_handle_at", -100, b"/tmp", bytes(128), bytes(8), 0)),
        ("32-bit system calls", foreign_architecture),
        ("terminal input", terminal),
    )
