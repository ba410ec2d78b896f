"""`ralph chain run`: the one process that makes the blocks."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ralph.chain.local import LocalChain
from ralph.cli.init import SEED_FILE
from tests.auditor.world import run
from tests.cli.network import ENTRY, ralph

SEED = "07" * 32


@pytest.fixture
def chain(network: Path, tmp_path: Path) -> Path:
    """A chain of one's own, with its seed beside it."""
    for name in ("chain.sqlite", SEED_FILE):
        shutil.copy(network / name, tmp_path / name)
    return tmp_path / "chain.sqlite"


@contextmanager
def producing(chain: Path, *options: str, seed: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a producer until it says that it runs; end it however the test leaves."""
    source = ("--seed", "-") if seed is not None else ("--seed-file", str(chain.with_name(SEED_FILE)))
    command = [*ENTRY, "chain", "run", "--path", str(chain), *source, *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if seed is not None:
            process.stdin.write(seed + "\n")
            process.stdin.flush()
        assert "making blocks" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(chain: Path, block: int) -> int:
    async def main() -> int:
        connection = LocalChain.connect(chain)
        try:
            return (await connection.wait_for(block)).number
        finally:
            await connection.close()

    return run(main())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_blocks_are_made_until_a_signal_which_ends_it_cleanly(chain: Path, number: signal.Signals) -> None:
    with producing(chain, "--interval", "0.01") as process:
        assert wait_for(chain, 3) >= 3
        process.send_signal(number)
        assert process.wait(timeout=20) == 0


def test_the_seed_is_read_from_standard_input_and_appears_nowhere(chain: Path) -> None:
    seed = chain.with_name(SEED_FILE).read_text().strip()
    with producing(chain, "--interval", "0.01", seed=seed) as process:
        assert wait_for(chain, 2) >= 2
        assert seed not in Path(f"/proc/{process.pid}/cmdline").read_text()
        assert seed.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes()


def test_without_nodes_a_block_is_made_after_the_silence(chain: Path) -> None:
    with producing(chain, "--barrier-timeout", "0.05"):
        assert wait_for(chain, 2) >= 2


def test_a_second_producer_is_refused(chain: Path) -> None:
    with producing(chain):
        done = ralph("chain", "run", "--path", chain, "--seed-file", chain.with_name(SEED_FILE))
    assert done.status == 3
    assert "another block producer runs" in done.err


def test_a_killed_producer_can_be_started_again(chain: Path) -> None:
    with producing(chain, "--interval", "0.01") as process:
        wait_for(chain, 3)
        process.kill()
        process.wait(timeout=20)
    with producing(chain, "--interval", "0.01"):
        assert wait_for(chain, 5) >= 5


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        ((), "", "with either `--seed -` (standard input) or `--seed-file FILE`"),
        (("--seed", "-", "--seed-file", "x"), "", "with either"),
        (("--seed", SEED), "", "can be read by everybody on this machine"),
        (("--seed", "-"), "", "has 0 bytes, must have 32"),
        (("--seed", "-"), "07\n", "has 1 bytes, must have 32"),
        (("--seed", "-"), "no seed\n", "is not hexadecimal"),
        (("--seed", "-"), SEED + "\n", "not the seed with which the chain"),
        (("--seed-file", "/nonexistent"), "", "/nonexistent"),
    ],
)
def test_a_seed_that_cannot_be_used_is_refused(chain: Path, words: tuple[str, ...], stdin: str, said: str) -> None:
    done = ralph("chain", "run", "--path", chain, *words, stdin=stdin)
    assert done.status == 3
    assert said in done.err
    assert SEED not in done.err + done.out


def test_a_seed_that_is_not_text_is_refused(chain: Path, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff" * 32)
    done = ralph("chain", "run", "--path", chain, "--seed-file", tmp_path / "binary")
    assert (done.status, done.err.splitlines()[0]) == (3, "OPS-CONFIG: the chain's seed is not hexadecimal")


def test_only_the_owner_can_read_the_seed_that_init_writes(network: Path) -> None:
    assert (network / SEED_FILE).stat().st_mode & 0o777 == 0o600
