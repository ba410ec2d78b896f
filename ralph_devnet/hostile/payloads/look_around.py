"""Searches for keys and hidden text: other processes, their environment, descriptors, home folders. Fails loudly where it finds any."""

import os
import sys
from pathlib import Path

SECRETS = ("hotkey", "coldkey", "mnemonic", "AWS_", "TOKEN", "RALPH", "PIP_")
PLACES = ("/root", "/home", "/etc", "/var", "/work", "/mnt", "/srv", "/opt", "/media", "/run", "/tmp")
OURS = (sys.base_prefix, *(path for path in sys.path if path.startswith("/")))


def corrupt(trainer):
    found = [str(path) for place in PLACES for path in files_below(Path(place))]
    processes = [name for name in os.listdir("/proc") if name.isdigit()]
    for process in processes:
        for file in ("environ", "cmdline"):
            try:
                text = Path("/proc", process, file).read_text(errors="replace")
            except OSError:
                continue
            found += [f"{word} in /proc/{process}/{file}" for word in SECRETS if word in text]
    found += [f"descriptor {number}" for number in os.listdir("/proc/self/fd") if int(number) > 3 and is_ours(number)]
    if len(processes) > 3 or found:
        raise RuntimeError(f"{len(processes)} processes, {found[:5]}")


def files_below(folder):
    """Return files that are no part of the interpreter or of its packages."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if any(entry.is_relative_to(ours) for ours in OURS):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from files_below(entry)
        else:
            yield entry


def is_ours(number):
    try:
        target = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return False
    return not target.startswith(("/proc", "anon_inode"))
