"""Write the sandbox's system call filter as profiles that a container engine reads.

An engine takes no BPF program; it takes JSON (the Linux part of the OCI runtime specification) and has libseccomp make a program of it.
These profiles follow from the same tables as ``make_seccomp.py`` and say the same of every call.

The default is ENOSYS, so that calls newer than the table do not exist, and everything else is named. A rule may look at
an argument through a mask only for equality; "anything but this" is therefore written as one rule for every bit that may differ.
All arguments are compared in their lower 32 bits, which is what the kernel reads of them.

Run it without arguments after a change here or in ``make_seccomp.py``; a test compares the committed files with what this prints.
"""

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import make_seccomp as tables

TABLE = Path(__file__).with_name("system_calls.txt")
TARGET = Path(__file__).resolve().parent.parent / "ralph" / "sandbox" / "profiles"
LOWER_HALF = 0xFFFFFFFF
OCI_NAMES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"

KINDS = {"": {}, "-ranks": {"ranks": True}, "-gpus": {"gpus": True}}
"""Ending of a file's name -> what its profile is for."""
Plain = dict[str, Any]
Masked = tuple[int, int, int]
"""Number of an argument, mask, and what the masked argument must be equal to."""


def numbers(architecture: str) -> dict[str, int]:
    """Return name -> number of every system call of one architecture, up to the newest known one."""
    column = list(tables.ARCHITECTURES).index(architecture) + 1
    rows = (line.split() for line in TABLE.read_text().splitlines() if not line.startswith("#"))
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def profile(architecture: str, *, ranks: bool = False, gpus: bool = False) -> Plain:
    """Return the profile of one architecture, for one process, for ranks that train together, or for either with GPUs."""
    ranks = ranks or gpus
    between = set(tables.BETWEEN_RANKS) if ranks else set()
    checked = {"clone", "clone3", "socketpair", "ioctl", *(("socket", "setsockopt") if ranks else ())}
    known = numbers(architecture)
    denied = [name for name in known if name in tables.DENIED and name not in between | checked]
    allowed = [name for name in known if name not in checked and name not in denied]
    rules = [_rule(allowed, ALLOW), _rule(denied, ERRNO, tables.EPERM), *_processes(), *_terminal()]
    pair = _only("socketpair", [(0, LOWER_HALF, tables.AF_UNIX)])
    rules += _sockets_of_ranks(local=gpus) if ranks else pair
    return {
        "defaultAction": ERRNO,
        "defaultErrnoRet": tables.ENOSYS,
        "architectures": [OCI_NAMES[architecture]],
        "syscalls": rules,
    }


def _processes() -> list[Plain]:
    """New processes and threads, but not in namespaces of their own. clone3 is left to the default."""
    bits = [1 << bit for bit in range(32) if tables.NAMESPACE_FLAGS >> bit & 1]
    made = _rule(["clone"], ALLOW, when=[(0, tables.NAMESPACE_FLAGS, 0)])
    return [made, *_refused("clone", [(0, bit, bit) for bit in bits])]


def _terminal() -> list[Plain]:
    """Every request of ioctl(2) but the two that type into a terminal."""
    first, second = tables.TIOCSTI, tables.TIOCLINUX
    rules = _refused("ioctl", [(1, LOWER_HALF, request) for request in (first, second)])
    return rules + [_rule(["ioctl"], ALLOW, when=[(1, mask, value)]) for mask, value in neither(first, second)]


def neither(first: int, second: int) -> list[tuple[int, int]]:
    """Return masks and values of which a 32-bit number meets at least one unless it is ``first`` or ``second``."""
    same = [1 << bit for bit in range(32) if not (first ^ second) >> bit & 1]
    apart = [1 << bit for bit in range(32) if (first ^ second) >> bit & 1]
    mask = sum(apart)
    mixed = {sum(bits) for bits in product(*((0, bit) for bit in apart))} - {first & mask, second & mask}
    return [*((bit, ~first & bit) for bit in same), *((mask, value) for value in sorted(mixed))]


def _sockets_of_ranks(*, local: bool) -> list[Plain]:
    stream = (1, tables.SOCK_TYPE_MASK, tables.SOCK_STREAM)
    internet = (0, LOWER_HALF, tables.AF_INET)
    protocols = (tables.IPPROTO_IP, tables.IPPROTO_TCP)
    level, tcp = (1, LOWER_HALF, tables.SOL_SOCKET), (1, LOWER_HALF, tables.IPPROTO_TCP)
    delay = (2, LOWER_HALF, tables.TCP_NODELAY)
    unfit = [*differs(stream), *((2, mask, value) for mask, value in neither(*protocols))]
    return [
        *_only("socketpair", [(0, LOWER_HALF, tables.AF_UNIX), stream]),
        *(_rule(["socket"], ALLOW, when=[internet, stream, (2, LOWER_HALF, number)]) for number in protocols),
        *(_local_sockets(internet, unfit) if local else _refused("socket", [*differs(internet), *unfit])),
        *(_rule(["setsockopt"], ALLOW, when=when) for when in ([level], [tcp, delay])),
        *_refused("setsockopt", [(1, mask, value) for mask, value in neither(level[2], tcp[2])]),
        *(_rule(["setsockopt"], ERRNO, tables.EPERM, when=[tcp, other]) for other in differs(delay)),
    ]


def _local_sockets(internet: Masked, unfit: list[Masked]) -> list[Plain]:
    """Local sockets with connections, whatever their protocol; neither they nor those of the internet in another shape, and no others."""
    unix, connected = (0, LOWER_HALF, tables.AF_UNIX), (1, tables.CONNECTED_MASK, tables.CONNECTED)
    refused = [[(0, mask, value)] for mask, value in neither(unix[2], internet[2])]
    refused += [[unix, other] for other in differs(connected)] + [[internet, other] for other in unfit]
    return [_rule(["socket"], ALLOW, when=[unix, connected]), *(_rule(["socket"], ERRNO, tables.EPERM, when=when) for when in refused)]


def _only(name: str, when: list[Masked]) -> list[Plain]:
    """Let a call through when all of its arguments are as given, and refuse it otherwise."""
    return [_rule([name], ALLOW, when=when), *_refused(name, [other for condition in when for other in differs(condition)])]


def _refused(name: str, cases: list[Masked]) -> list[Plain]:
    return [_rule([name], ERRNO, tables.EPERM, when=[case]) for case in cases]


def differs(condition: Masked) -> list[Masked]:
    """Return conditions of which an argument meets at least one unless it meets ``condition``."""
    index, mask, value = condition
    return [(index, 1 << bit, ~value & 1 << bit) for bit in range(32) if mask >> bit & 1]


def _rule(names: list[str], action: str, error: int | None = None, *, when: list[Masked] | None = None) -> Plain:
    conditions = [{"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"} for index, mask, value in when or ()]
    return {"names": names, "action": action, **({} if error is None else {"errnoRet": error}), "args": conditions}


def written(plain: Plain) -> str:
    """Return a profile as JSON with one rule a line."""
    head = json.dumps({name: value for name, value in plain.items() if name != "syscalls"})
    rules = ",\n".join(json.dumps(rule) for rule in plain["syscalls"])
    return f'{head[:-1]}, "syscalls": [\n{rules}\n]}}\n'


def files() -> dict[str, str]:
    """Return name -> content of every file below ``ralph/sandbox/profiles``."""
    return {
        f"{architecture}{suffix}.json": written(profile(architecture, **options))
        for architecture in tables.ARCHITECTURES
        for suffix, options in KINDS.items()
    }


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for name, content in files().items():
        (TARGET / name).write_text(content)
    sys.stdout.write(f"{TARGET}: {', '.join(files())}\n")
