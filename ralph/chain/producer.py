"""Make the blocks of a development chain: one process at a time, by work done or by the clock.

``Barrier`` makes blocks as fast as it can up to the least block that every participant has allowed, and
one more after a long silence, so that a dead participant slows the chain and does not stop it. ``Timer``
makes one block per interval. Both resume after ``kill -9`` when given the same seed again.
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from ralph.chain import ledger
from ralph.chain.author import Author
from ralph.chain.schema import (
    ChainParameters,
    connect,
    head_number,
    initialise,
    read_meta,
    read_parameters,
    reported,
    transaction,
    write_meta,
)
from ralph.errors import ConfigurationError
from ralph.interfaces import Clock, Head
from ralph.protocol.keys import hotkey_public_key

POLL_S = 0.01
MIN_BLOCK_SPACING_S = 0.001


class WallClock:
    """The machine's clock, as ``interfaces.Clock``."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What decides whether a block is due."""

    head: int
    allowed: int | None
    """The least block that a participant allows; None without participants."""
    silence_s: float
    """Seconds since the last block of this producer, or since it started."""


class Pace(Protocol):
    """When the next block is due."""

    def due(self, situation: Situation) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier:
    """Blocks follow the slowest participant."""

    timeout_s: float = 120.0

    def due(self, situation: Situation) -> bool:
        """Return whether everybody allows the next block, or nothing happened for too long."""
        return (situation.allowed is not None and situation.head < situation.allowed) or situation.silence_s >= self.timeout_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """Blocks follow the clock."""

    interval_s: float

    def due(self, situation: Situation) -> bool:
        """Return whether the interval has passed."""
        return situation.silence_s >= self.interval_s


def create(
    path: Path, *, seed: bytes, owner_hotkey: str, owner_coldkey: str, parameters: ChainParameters | None = None, clock: Clock | None = None
) -> None:
    """Make a chain with block 0, in which the owner's hotkey holds uid 0. The file appears complete or not at all.

    Raises:
        ConfigurationError: there is a file already, or the seed does not have 32 bytes.
        UntrustedInputError: ``INT-SIG`` when an address is none.
    """
    author = Author(seed)
    for address in (owner_hotkey, owner_coldkey):
        hotkey_public_key(address)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    chosen = parameters or ChainParameters()
    try:
        db = initialise(temporary, chosen)
        try:
            with reported(f"chain {path}"), transaction(db, write=True):
                write_meta(db, "beacon_public_key", author.beacon_public_key)
                write_meta(db, "owner_hotkey", owner_hotkey.encode("ascii"))
                write_meta(db, "forks", b"0")
                ledger.register(db, chosen, 0, hotkey=owner_hotkey, coldkey=owner_coldkey)
                _append(db, author, chosen, (clock or WallClock()).now())
        finally:
            db.close()
        os.link(temporary, path)
    except FileExistsError as error:
        raise ConfigurationError(f"there is a chain at {path} already") from error
    finally:
        temporary.unlink(missing_ok=True)


class BlockProducer:
    """The one author of a chain's blocks. Close it, or use it as a context manager.

    Raises:
        ConfigurationError: another producer runs, or the seed is not this chain's.
    """

    def __init__(
        self,
        path: Path,
        *,
        seed: bytes,
        pace: Pace | None = None,
        clock: Clock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._author = Author(seed)
        self._pace = pace or Barrier()
        self._clock = clock or WallClock()
        self._monotonic = monotonic
        self._what = f"producer of {path}"
        self._db = connect(path)
        self._lock: IO[bytes] | None = None
        try:
            with reported(self._what):
                self._parameters = read_parameters(self._db)
                if read_meta(self._db, "beacon_public_key") != self._author.beacon_public_key:
                    raise ConfigurationError(f"this is not the seed with which the chain {path} was created")
            self._lock = _lock(path.with_name(path.name + ".producer"))
        finally:
            if self._lock is None:
                self._db.close()
        self._last = monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give up authorship. Idempotent."""
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    def produce(self, count: int = 1) -> Head:
        """Make blocks now, whatever the pace says; return the new head."""
        with reported(self._what):
            for _ in range(count):
                with transaction(self._db, write=True):
                    _append(self._db, self._author, self._parameters, self._clock.now())
                self._last = self._monotonic()
            with transaction(self._db, write=False):
                return read_head(self._db, self._parameters)

    def step(self) -> bool:
        """Make one block if one is due; return whether it was."""
        with reported(self._what):
            (allowed,) = self._db.execute("SELECT min(allowed) FROM participants").fetchone()
            situation = Situation(head=head_number(self._db), allowed=allowed, silence_s=self._monotonic() - self._last)
        due = self._pace.due(situation)
        if due:
            self.produce()
        return due

    def run(self, stop: threading.Event) -> None:
        """Make blocks until ``stop`` is set. Blocks the calling thread."""
        while not stop.is_set():
            if not self.step():
                stop.wait(POLL_S)

    def reorganise(self, depth: int) -> Head:
        """Replace the newest ``depth`` blocks by others: their state is gone, and so is what waited for the next block.

        A fault for tests. The beacon is another service and keeps its rounds.
        """
        if not 1 <= depth <= self._parameters.finality_lag:
            raise ValueError(f"{depth} blocks cannot be reverted, only {self._parameters.finality_lag} are not final")
        with reported(self._what):
            with transaction(self._db, write=True):
                fork = int(read_meta(self._db, "forks")) + 1
                write_meta(self._db, "forks", b"%d" % fork)
                ledger.revert(self._db, head_number(self._db) - depth)
                for _ in range(depth):
                    _append(self._db, self._author, self._parameters, self._clock.now())
            with transaction(self._db, write=False):
                return read_head(self._db, self._parameters)


def read_head(db: sqlite3.Connection, parameters: ChainParameters) -> Head:
    """Return the newest block."""
    number, block_hash, timestamp = db.execute("SELECT number, hash, timestamp FROM blocks ORDER BY number DESC LIMIT 1").fetchone()
    return Head(number=number, hash=bytes(block_hash), timestamp=timestamp, finalised=max(0, number - parameters.finality_lag))


def _append(db: sqlite3.Connection, author: Author, parameters: ChainParameters, now: float) -> None:
    """Make the next block: what was written for it becomes state, an epoch may end, the beacon goes on."""
    last = db.execute("SELECT number, hash, timestamp FROM blocks ORDER BY number DESC LIMIT 1").fetchone()
    number, parent, earliest = (0, b"", now) if last is None else (last[0] + 1, bytes(last[1]), last[2] + MIN_BLOCK_SPACING_S)
    ledger.end_epoch(db, parameters, number)
    block_hash = author.block_hash(number=number, parent=parent, fork=int(read_meta(db, "forks")))
    db.execute("INSERT INTO blocks VALUES (?, ?, ?)", (number, block_hash, max(now, earliest)))
    row = db.execute("SELECT signature FROM drand WHERE round = ?", (number - 1,)).fetchone()
    signature = author.beacon_round(number=number, previous=bytes(row[0]) if row else b"")
    db.execute("INSERT OR IGNORE INTO drand VALUES (?, ?)", (number, signature))


def _lock(path: Path) -> IO[bytes]:
    """Take the lock that the kernel frees when its holder dies."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ConfigurationError(f"another block producer runs: it holds {path}") from error
    return file
