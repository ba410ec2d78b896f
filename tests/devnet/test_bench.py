"""Benchmarks of whole demos count what a demo showed, never that a process ended."""

import os
import subprocess
import sys
from pathlib import Path

from ralph_devnet.bench.data import resident_bytes, write_corpus
from ralph_devnet.bench.demos import demos
from ralph_devnet.bench.registry import Context


def test_a_demo_that_did_not_run_is_not_counted_and_its_reason_is_said(tmp_path: Path) -> None:
    home = tmp_path / "demo-1"
    home.mkdir()
    (home / "somebody's file").write_text("not a demo's")
    said: list[str] = []
    figures = {figure.name: figure for figure in demos(Context(home=tmp_path, data=tmp_path / "data", repeat=1, seeds=1, say=said.append))}
    assert figures["demos that show every claim"].median == 0.0
    assert figures["king changes in a demo"].median == 0.0
    assert "exit 3" in said[0]
    assert "no outcome" in said[0]


def test_made_up_text_is_the_same_every_time_and_no_two_documents_are_equal(tmp_path: Path) -> None:
    size = write_corpus(tmp_path / "a.txt", 1 << 20)
    write_corpus(tmp_path / "b.txt", 1 << 20)
    text = (tmp_path / "a.txt").read_text()
    assert len(text) == size >= 1 << 20
    assert text == (tmp_path / "b.txt").read_text()
    documents = text.split("\n\n")
    assert len(set(documents)) == len(documents)


def test_memory_of_a_process_counts_its_children() -> None:
    held = 64 << 20
    program = f"held = bytearray(b'x' * {held}); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        child.stdout.readline()
        alone, together = resident_bytes(child.pid), resident_bytes(os.getpid())
        child.communicate("\n")
    assert held < alone < together
    assert resident_bytes(child.pid) == 0
