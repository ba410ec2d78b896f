"""Let gloo find the loopback interface where netlink is refused.

Before it listens, gloo asks the C library for all network interfaces (gloo/transport/tcp/device.cc), only to learn the name
of the one whose address it was given. glibc asks the kernel over netlink, and the sandbox refuses netlink. So the pointer through which
torch calls getifaddrs(3) is made to lead to the answer that is right in here: there is ``lo`` with 127.0.0.1, and nothing else.

This changes torch in this process and nothing of the sandbox. It relies on the layout of an ELF file's dynamic section
(elf(5)), which the C library's own loader has relocated, and refuses to go on where torch does not look as expected.
"""

import ctypes
import socket
import struct
from pathlib import Path

import numpy as np
import torch

NAME, ADDRESS = "lo", "127.0.0.1"
_LIBRARY = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
_FUNCTION = b"getifaddrs\0"
_LINK_MAP = 2
"""RTLD_DI_LINKMAP of dlinfo(3)."""
_STRINGS, _SYMBOLS, _STRINGS_BYTES, _RELOCATIONS_BYTES, _RELOCATIONS = 5, 6, 10, 2, 23
"""DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_PLTRELSZ and DT_JMPREL."""
_RELOCATION = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_SYMBOL_BYTES = 24
_INTERFACE = struct.Struct("<QQIxxxxQQQQ")
"""``struct ifaddrs``: next, name, flags, address, netmask, broadcast, data."""
_UP_LOOPBACK_RUNNING = 0x49
_LIBC = ctypes.CDLL(None)
_LIBC.malloc.restype = ctypes.c_void_p
_LIBC.malloc.argtypes = [ctypes.c_size_t]
_LIBC.dlinfo.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]


class _Entry(ctypes.Structure):
    _fields_ = (("tag", ctypes.c_int64), ("value", ctypes.c_uint64))


class _LinkMap(ctypes.Structure):
    _fields_ = (("base", ctypes.c_uint64), ("name", ctypes.c_char_p), ("dynamic", ctypes.POINTER(_Entry)))


def _getifaddrs(result: "ctypes._Pointer[ctypes.c_uint64]") -> int:
    """Answer with one block of memory, which glibc's freeifaddrs(3) gives to free(3) as it is."""
    address = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(ADDRESS))
    name = NAME.encode() + b"\0"
    block: int = _LIBC.malloc(_INTERFACE.size + len(address) + len(name))
    address_at = block + _INTERFACE.size
    interface = _INTERFACE.pack(0, address_at + len(address), _UP_LOOPBACK_RUNNING, address_at, 0, 0, 0)
    ctypes.memmove(block, interface + address + name, _INTERFACE.size + len(address) + len(name))
    result[0] = block
    return 0


_ANSWER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_uint64))(_getifaddrs)


def answer_getifaddrs() -> None:
    """Make torch's calls of getifaddrs(3) find the loopback interface only. Raises RuntimeError."""
    ctypes.c_uint64.from_address(_pointer()).value = ctypes.cast(_ANSWER, ctypes.c_void_p).value or 0


def _pointer() -> int:
    """Return the address of the pointer through which torch calls getifaddrs(3)."""
    found = ctypes.POINTER(_LinkMap)()
    _LIBC.dlinfo(ctypes.CDLL(str(_LIBRARY))._handle, _LINK_MAP, ctypes.byref(found))
    table, index = {}, 0
    while (entry := found.contents.dynamic[index]).tag:
        table[entry.tag], index = entry.value, index + 1
    relocations = np.frombuffer(ctypes.string_at(table[_RELOCATIONS], table[_RELOCATIONS_BYTES]), _RELOCATION)
    symbols = ctypes.string_at(table[_SYMBOLS], _SYMBOL_BYTES * (int(relocations["symbol"].max()) + 1))
    names = np.frombuffer(symbols, np.dtype([("name", "<u4"), ("rest", f"V{_SYMBOL_BYTES - 4}")]))["name"]
    position = ctypes.string_at(table[_STRINGS], table[_STRINGS_BYTES]).find(_FUNCTION)
    slots = relocations["offset"][names[relocations["symbol"]] == position]
    if len(slots) != 1:
        raise RuntimeError(f"{_LIBRARY.name} calls getifaddrs through {len(slots)} pointers, expected one")
    return int(found.contents.base) + int(slots[0])
