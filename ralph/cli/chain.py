"""`ralph chain`: make the blocks of a development chain, with its secret seed in this process's memory only."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from ralph.chain.author import SEED_BYTES
from ralph.chain.producer import Barrier, BlockProducer, Pace, Timer
from ralph.cli.output import JsonOption, emit
from ralph.errors import ConfigurationError

MAX_SEED_LINE = 256

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Make the blocks of a development chain.")


@app.callback()
def _group() -> None:
    """Make the blocks of a development chain."""


@app.command()
def run(
    path: Annotated[Path, typer.Option(help="File of the chain, as `ralph init` makes it.")],
    seed: Annotated[str | None, typer.Option(help="`-` reads the seed, 64 hexadecimal digits, from standard input.")] = None,
    seed_file: Annotated[Path | None, typer.Option(help="File with the seed, readable by you alone.")] = None,
    interval: Annotated[float | None, typer.Option(min=0.001, help="Seconds between blocks; by default blocks follow the nodes.")] = None,
    barrier_timeout: Annotated[float, typer.Option(min=0.001, help="Seconds of silence after which a block is made anyway.")] = 120.0,
    json: JsonOption = False,
) -> None:
    """Make blocks until SIGTERM or SIGINT.

    By default a block is made as soon as every node that takes part allows it. With --interval the clock
    decides. One process at a time makes the blocks of a chain; it can be killed and started again.
    """
    pace: Pace = Barrier(timeout_s=barrier_timeout) if interval is None else Timer(interval_s=interval)
    stop = threading.Event()
    with BlockProducer(path, seed=read_seed(seed, seed_file), pace=pace) as producer:
        for number in (signal.SIGTERM, signal.SIGINT):
            # not stop.set() itself: this thread may hold the event's lock while the handler runs in it
            signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
        mode = "with the nodes" if interval is None else f"every {interval} s"
        emit({"chain": path, "mode": mode, "state": "running"}, [f"making blocks of {path} {mode}"], as_json=json)
        producer.run(stop)


def read_seed(word: str | None, file: Path | None) -> bytes:
    """Return the seed from standard input or a file; never from the command line, where others could read it."""
    if (word is None) == (file is None):
        raise ConfigurationError("give the chain's seed with either `--seed -` (standard input) or `--seed-file FILE`")
    if word is not None and word != "-":
        raise ConfigurationError("a seed on the command line can be read by everybody on this machine; `--seed -` reads standard input")
    try:
        text = sys.stdin.readline(MAX_SEED_LINE) if file is None else file.read_text(encoding="ascii")[:MAX_SEED_LINE]
        seed = bytes.fromhex(text.strip())
    except (UnicodeDecodeError, ValueError) as error:
        raise ConfigurationError("the chain's seed is not hexadecimal") from error
    if len(seed) != SEED_BYTES:
        raise ConfigurationError(f"the chain's seed has {len(seed)} bytes, must have {SEED_BYTES}: {2 * SEED_BYTES} hexadecimal digits")
    return seed
