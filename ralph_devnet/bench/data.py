"""What `ralph data prepare` costs: memory of all its processes together, and speed, on corpora of growing size.

The text is made up: words of a fixed list, drawn by Zipf's law, so it compresses into tokens roughly as text does. No two
documents are equal. ``--repeat 1`` measures the smallest corpus only, ``--repeat 2`` the two smaller ones.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np

from ralph.errors import InfrastructureError
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import scratch
from ralph_devnet.demo import RALPH
from ralph_devnet.processes import python

SIZES_MIB = (32, 128, 512)
GOAL_MIB = 2048
SAMPLE_S = 0.05
WORDS = 20_000
PARAGRAPH_WORDS = 100
MEBI = 1 << 20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def data_preparation(context: Context) -> list[Figure]:
    """Prepare corpora of several sizes, each in a process of its own."""
    figures = []
    for size in SIZES_MIB[: context.repeat]:
        folder = scratch(context, "data-preparation")
        written = write_corpus(folder / "corpus.txt", size * MEBI)
        seconds, peak, tokens = prepared(folder)
        shutil.rmtree(folder)
        name = f"{written / MEBI:.0f} MiB of text"
        figures += [
            Figure.of(f"{name}: peak memory of all processes", "MiB", [peak / MEBI], goal=f"< {GOAL_MIB} MiB"),
            Figure.of(f"{name}: speed", "MB/s", [written / 1e6 / seconds]),
            Figure.of(f"{name}: tokens for training", "tokens/s", [tokens / seconds]),
        ]
        context.say(f"data: {name} in {seconds:.0f} s, {peak / MEBI:.0f} MiB at the peak")
    return figures


def write_corpus(path: Path, size_bytes: int) -> int:
    """Write made-up text of about ``size_bytes``, the same every time; return its size."""
    generator = np.random.Generator(np.random.Philox(key=0))
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = np.array(["".join(letters[generator.zipf(1.3, length) % 26]) for length in generator.integers(2, 10, WORDS)])
    chances = 1 / np.arange(1, WORDS + 1)
    written = 0
    with path.open("w", encoding="ascii") as file:
        while written < size_bytes:
            drawn = words[generator.choice(WORDS, size=(1000, PARAGRAPH_WORDS), p=chances / chances.sum())]
            written += file.write("".join(" ".join(paragraph) + ".\n\n" for paragraph in drawn.tolist()))
    return written


def prepared(folder: Path) -> tuple[float, int, int]:
    """Prepare the corpus of ``folder``; return seconds, most bytes of memory at a time, and tokens for training.

    Raises:
        InfrastructureError: The command failed.
    """
    places = [str(folder / "corpus.txt"), "--out", str(folder / "public"), "--hidden", str(folder / "hidden")]
    command = python(*RALPH, "data", "prepare", "--source", "text", *places, "--vocabulary", "1024", "--json")
    started, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(SAMPLE_S)
        seconds = time.monotonic() - started
        out, err = process.communicate()
    if process.returncode:
        raise InfrastructureError(f"`ralph data prepare` ended with status {process.returncode}: {err.strip()[-500:]}")
    return seconds, peak, sum(json.loads(out)["tokens"].values())


def resident_bytes(root: int) -> int:
    """Return the resident memory of a process and all its descendants; pages that they share count once for each."""
    parents, sizes = dict[int, int](), dict[int, int]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):  # it has ended since
                continue
            parents[int(folder.name)], sizes[int(folder.name)] = int(fields[1]), int(fields[21])
    family, found = set[int](), {root}
    while found:
        family |= found
        found = {process for process, parent in parents.items() if parent in found}
    return sum(sizes.get(process, 0) for process in family) * PAGE_BYTES
