"""Searches for keys and hidden text: other processes, their environment, descriptors, home folders. Fails loudly where it finds any."""

import os
from pathlib import Path

SECRETS = ("hotkey", "coldkey", "mnemonic", "AWS_", "TOKEN", "RALPH", "PIP_")
PLACES = ("/root", "/home", "/etc/shadow", "/var/lib", "/work", "/mnt", "/srv", "/opt", "/media", "/run/user")


def corrupt(trainer):
    found = [place for place in PLACES if Path(place).exists()]
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
        raise RuntimeError(f"{len(processes)} processes, {found}")


def is_ours(number):
    try:
        target = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return False
    return not target.startswith(("/proc", "anon_inode"))
