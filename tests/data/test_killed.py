"""A preparation that is killed at every stage and goes on."""

import sys
from pathlib import Path

import pytest

from ralph.data.partition import Progress
from ralph.data.shards import prepare
from ralph.data.textfiles import TextFiles, text_files
from ralph.errors import CorruptStateError
from tests.killing import run_until

PREPARE = """
import sys
from pathlib import Path
from ralph.data import spool
from ralph.data.shards import prepare
from ralph.data.textfiles import text_files

spool.LEAF_BYTES, spool.BUFFER_BYTES = 20_000, 30_000

def wait(step):
    print(step.stage, step.done, flush=True)
    if not sys.stdin.readline():
        sys.exit(9)

root = Path(sys.argv[1])
prepare(root / "data", hidden=root / "hidden", vocabulary=300, corpus=text_files({"text": [root / "text"]}), progress=wait)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "text").mkdir()
    texts = [f"{number} " + f"some words about {number % 31} and {number % 17}, " * 12 + "\n\n" for number in range(1500)]
    (tmp_path / "text" / "all.txt").write_text("".join(texts), encoding="utf-8")
    return tmp_path


def run(root: Path, until: tuple[str, int] | None) -> list[tuple[str, int]]:
    """Prepare until (stage, how often it was reported) and kill there; return the steps."""
    stop = None if until is None else lambda lines: [line.split()[0] for line in lines].count(until[0]) == until[1]
    lines = run_until([sys.executable, "-c", PREPARE, root], stop)
    return [(stage, int(done)) for stage, done in map(str.split, lines)]


def corpus(root: Path) -> TextFiles:
    return text_files({"text": [root / "text"]})


def test_a_preparation_killed_at_every_stage_makes_the_same_bytes_and_nothing_twice(root: Path) -> None:
    undisturbed = prepare(root / "a", hidden=root / "b", key=root / "hidden.key", vocabulary=300, corpus=corpus(root))
    steps = [run(root, until) for until in (("read", 2), ("tokenizer", 1), ("encode", 5), ("write", 2), None)]
    manifest = (root / "data" / "manifest.cbor").read_bytes()
    assert manifest == undisturbed.to_bytes()
    assert (root / "hidden" / "manifest.cbor").read_bytes() == (root / "b" / "manifest.cbor").read_bytes()
    assert steps[1][0][1] > 0  # reading went on at a document, not at the first
    assert "read" not in {stage for stage, _ in steps[2]}
    assert steps[3][0][0] == "encode"
    assert steps[3][0][1] >= 3  # buckets that were finished are not encoded again
    assert {stage for stage, _ in steps[4]} == {"encode", "write"}
    assert {path.name for path in root.iterdir()} == {"text", "data", "hidden", "hidden.key", "a", "b"}


def test_unfinished_work_is_for_its_owner_only_and_goes_when_the_plan_changes(root: Path) -> None:
    run(root, ("encode", 3))
    work = root / ".hidden.work"
    assert work.stat().st_mode & 0o777 == 0o700
    seen: list[Progress] = []
    prepare(root / "data", hidden=root / "hidden", vocabulary=301, corpus=corpus(root), progress=seen.append)
    assert (seen[0].stage, seen[0].done) == ("read", 0)
    assert not work.exists()


def test_damaged_work_is_named_with_the_way_out(root: Path) -> None:
    run(root, ("tokenizer", 1))
    bucket = next(path for path in sorted((root / ".hidden.work" / "buckets").iterdir()) if path.suffix == ".docs")
    bucket.write_bytes(bucket.read_bytes()[:-40] + b"?" * 40)
    with pytest.raises(CorruptStateError, match=r"is damaged; remove .*\.hidden\.work") as caught:
        prepare(root / "data", hidden=root / "hidden", vocabulary=300, corpus=corpus(root))
    assert caught.value.code == "OPS-DATA"
