"""Benchmarks of whole demos count what a demo showed, never that a process ended."""

from pathlib import Path

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
