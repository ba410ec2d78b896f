"""Assemble the seccomp programs of the sandbox and write ``ralph/sandbox/seccomp.py``.

The program is classic BPF over ``struct seccomp_data`` (seccomp(2)). It refuses what a training recipe never
needs and what reaches the most kernel code: sockets, other processes' memory, BPF, perf, key rings, io_uring, mounts,
namespaces, memory outside the per-process limit, modules and clocks. Refused calls return EPERM. Calls that
have an older equivalent, and calls newer than this list, return ENOSYS so that the C library falls back. A foreign
architecture (32-bit calls on a 64-bit kernel) ends the process.

There are three programs. The second one is for processes that train together (docs/adr/0010): it lets through TCP over IPv4, which reaches
no further than the sandbox's own loopback, and nothing else that the first one refuses. In exchange, socket pairs are streams only, so that
no socket of theirs can be bound to a name and be sent to, and the options of a socket are those that every socket has, and TCP_NODELAY.
The third one is for sandboxes with GPUs: CUDA does not start without a local socket of its own that listens (docs/adr/0021), so it also
lets through local sockets with connections, whose names are those of the sandbox's own network.

Run it without arguments after a change here; a test compares the committed bytes with what this prints.
"""

import struct
import sys
from pathlib import Path
from textwrap import wrap

EPERM, ENOSYS = 1, 38
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
NEWEST_KNOWN_CALL = 450
NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
AF_UNIX, AF_INET = 1, 2
SOCK_STREAM, SOCK_TYPE_MASK = 1, 0xF
CONNECTED_MASK, CONNECTED = 0xB, 1
"""SOCK_STREAM is 1 and SOCK_SEQPACKET 5: no other kind has these bits."""
IPPROTO_IP, IPPROTO_TCP = 0, 6
SOL_SOCKET, TCP_NODELAY = 1, 1
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the architecture has no such call
DENIED: dict[str, tuple[int | None, int | None]] = {
    # network: the channel is the only socket there is
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # kernel subsystems with a long record of local exploits
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "modify_ldt": (154, None),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # memory that no per-process limit counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # what others have read or are reading
    "mincore": (27, 232),
    "preadv2": (327, 286),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    # administration
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "uselib": (134, None),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
}
CLONE, CLONE3, SOCKETPAIR, IOCTL = (56, 220), (435, 435), (53, 199), (16, 29)
SETSOCKOPT = (54, 208)
BETWEEN_RANKS = ("connect", "bind", "listen", "accept", "accept4")
"""What the second program lets through as it is: without a socket, which it checks, they reach nothing."""

Line = tuple[int, str, str, int]
"""Operation, label to go to when it holds, label when not, operand. An empty label is the next line."""


def program(architecture: str, *, ranks: bool = False, gpus: bool = False) -> bytes:
    """Return the BPF program of one architecture, for one process, for ranks that train together, or for either with GPUs."""
    column = list(ARCHITECTURES).index(architecture)
    ranks = ranks or gpus
    between = {"socket", *BETWEEN_RANKS} if ranks else set()
    denied = [numbers[column] for name, numbers in DENIED.items() if name not in between]
    lines: list[Line | str] = [
        (LOAD, "", "", ARCHITECTURE_AT),
        (EQUAL, "", "kill", ARCHITECTURES[architecture]),
        (LOAD, "", "", NUMBER_AT),
        (AT_LEAST, "absent", "", NEWEST_KNOWN_CALL + 1),  # on x86_64 this also refuses the x32 calls, which start at 0x40000000
        (EQUAL, "absent", "", CLONE3[column]),  # its flags are behind a pointer that a filter cannot follow
        (EQUAL, "clone", "", CLONE[column]),
        (EQUAL, "socketpair", "", SOCKETPAIR[column]),
        (EQUAL, "ioctl", "", IOCTL[column]),
    ]
    if ranks:
        lines += [(EQUAL, "socket", "", DENIED["socket"][column] or 0), (EQUAL, "setsockopt", "", SETSOCKOPT[column])]
    lines += [(EQUAL, "deny", "", number) for number in denied if number is not None]
    lines += [
        (RETURN, "", "", ALLOW),
        "clone",
        (LOAD, "", "", ARGUMENTS_AT),
        (ANY_BIT, "deny", "allow", NAMESPACE_FLAGS),
    ]
    lines += _with_local(_SOCKETS_OF_RANKS) if gpus else _SOCKETS_OF_RANKS if ranks else _SOCKETS
    return assemble([*lines, *_END])


_SOCKETS: tuple[Line | str, ...] = (
    "socketpair",
    (LOAD, "", "", ARGUMENTS_AT),
    (EQUAL, "allow", "deny", AF_UNIX),
)
_SOCKETS_OF_RANKS: tuple[Line | str, ...] = (
    "socketpair",
    (LOAD, "", "", ARGUMENTS_AT),
    (EQUAL, "", "deny", AF_UNIX),
    (LOAD, "", "", ARGUMENTS_AT + 8),
    (AND, "", "", SOCK_TYPE_MASK),
    (EQUAL, "allow", "deny", SOCK_STREAM),
    "socket",
    (LOAD, "", "", ARGUMENTS_AT),
    (EQUAL, "", "deny", AF_INET),
    (LOAD, "", "", ARGUMENTS_AT + 8),
    (AND, "", "", SOCK_TYPE_MASK),
    (EQUAL, "", "deny", SOCK_STREAM),
    (LOAD, "", "", ARGUMENTS_AT + 16),
    (EQUAL, "allow", "", IPPROTO_IP),
    (EQUAL, "allow", "deny", IPPROTO_TCP),
    "setsockopt",
    (LOAD, "", "", ARGUMENTS_AT + 8),
    (EQUAL, "allow", "", SOL_SOCKET),
    (EQUAL, "", "deny", IPPROTO_TCP),
    (LOAD, "", "", ARGUMENTS_AT + 16),
    (EQUAL, "allow", "deny", TCP_NODELAY),
)


def _with_local(sockets: tuple[Line | str, ...]) -> tuple[Line | str, ...]:
    """Let local sockets with connections through as well."""
    place = sockets.index("socket")
    local = (
        "socket",
        (LOAD, "", "", ARGUMENTS_AT),
        (EQUAL, "", "internet", AF_UNIX),
        (LOAD, "", "", ARGUMENTS_AT + 8),
        (AND, "", "", CONNECTED_MASK),
        (EQUAL, "allow", "deny", CONNECTED),
        "internet",
    )
    return (*sockets[:place], *local, *sockets[place + 1 :])


_END: tuple[Line | str, ...] = (
    "ioctl",
    (LOAD, "", "", ARGUMENTS_AT + 8),
    (EQUAL, "deny", "", TIOCSTI),
    (EQUAL, "deny", "allow", TIOCLINUX),
    "allow",
    (RETURN, "", "", ALLOW),
    "deny",
    (RETURN, "", "", ERRNO | EPERM),
    "absent",
    (RETURN, "", "", ERRNO | ENOSYS),
    "kill",
    (RETURN, "", "", KILL_PROCESS),
)


def assemble(lines: list[Line | str]) -> bytes:
    """Resolve labels into relative jumps and pack ``struct sock_filter`` entries."""
    labels: dict[str, int] = {}
    instructions: list[Line] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(instructions)
        else:
            instructions.append(line)
    packed = bytearray()
    for index, (operation, holds, fails, operand) in enumerate(instructions):
        jumps = [labels[label] - index - 1 if label else 0 for label in (holds, fails)]
        packed += struct.pack("<HBBI", operation, jumps[0], jumps[1], operand)  # struct refuses a jump over 255
    return bytes(packed)


def module() -> str:
    """Return the source of ``ralph/sandbox/seccomp.py``."""
    parts = [
        '"""System calls that the sandbox refuses, as classic BPF bytes per architecture.\n\n'
        "Written by scripts/make_seccomp.py, which says what is refused and why. This filter narrows the kernel surface;\n"
        'it does not promise to be complete: namespaces, limits and the machine split stand behind it.\n"""\n\n'
        "from collections.abc import Mapping\n"
    ]
    for name, options, meaning in (
        ("PROGRAMS", {}, "Machine name as ``platform.machine()`` reports it -> program for ``bwrap --seccomp``."),
        ("RANKS_PROGRAMS", {"ranks": True}, "The same for processes that train together: TCP over IPv4 is let through."),
        ("GPU_PROGRAMS", {"gpus": True}, "The same for sandboxes with GPUs: local sockets with connections are let through as well."),
    ):
        parts.append(f"{name}: Mapping[str, bytes] = {{")
        for architecture in ARCHITECTURES:
            parts.append(f'    "{architecture}": bytes.fromhex(')
            parts += [f'        "{line}"' for line in wrap(program(architecture, **options).hex(), 128)]
            parts.append("    ),")
        parts += ["}", f'"""{meaning}"""']
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "ralph" / "sandbox" / "seccomp.py"
    target.write_text(module())
    sizes = (
        f"{name} {len(program(name))}, {len(program(name, ranks=True))}, {len(program(name, gpus=True))} bytes" for name in ARCHITECTURES
    )
    sys.stdout.write(f"{target}: {', '.join(sizes)}\n")
