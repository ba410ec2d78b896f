"""The file of a development chain: parameters, tables, connections, transactions.

Every row of state carries the block from which on it holds, so that the state of any block can be read
and the newest blocks can be reverted. Extrinsics write rows for block head + 1; nobody sees them before
that block exists.

What this does **not** promise: defence against a process that writes to the file itself. The chain is
shared by processes that one person starts on one machine.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from ralph.errors import ChainUnavailable, ConfigurationError, CorruptStateError
from ralph.protocol.canonical import U64, Canonical

SCHEMA_VERSION = 1
MAX_PARAMETER_BYTES = 4096
BUSY_TIMEOUT_S = 30.0

STATE_TABLES = ("slots", "weights", "stakes", "emissions", "extrinsics")
"""Tables whose rows hold from their ``block`` on."""

_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks(number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, timestamp REAL NOT NULL);
CREATE TABLE drand(round INTEGER PRIMARY KEY, signature BLOB NOT NULL);
CREATE TABLE registrations(
    id INTEGER PRIMARY KEY, uid INTEGER NOT NULL, hotkey TEXT NOT NULL, coldkey TEXT NOT NULL,
    since INTEGER NOT NULL, until INTEGER);
CREATE INDEX registrations_by_hotkey ON registrations(hotkey, since);
CREATE TABLE stakes(hotkey TEXT, block INTEGER, amount INTEGER NOT NULL, PRIMARY KEY(hotkey, block)) WITHOUT ROWID;
CREATE TABLE slots(hotkey TEXT, block INTEGER, payload BLOB NOT NULL, charged INTEGER NOT NULL, PRIMARY KEY(hotkey, block)) WITHOUT ROWID;
CREATE TABLE weights(
    hotkey TEXT, block INTEGER, visible INTEGER NOT NULL, vector BLOB NOT NULL, PRIMARY KEY(hotkey, block)) WITHOUT ROWID;
CREATE TABLE emissions(hotkey TEXT, block INTEGER, amount INTEGER NOT NULL, PRIMARY KEY(hotkey, block)) WITHOUT ROWID;
CREATE TABLE extrinsics(
    id INTEGER PRIMARY KEY, block INTEGER NOT NULL, hotkey TEXT NOT NULL, call TEXT NOT NULL,
    body BLOB NOT NULL, parent BLOB NOT NULL, signature BLOB NOT NULL);
CREATE TABLE participants(name TEXT PRIMARY KEY, allowed INTEGER NOT NULL) WITHOUT ROWID;
"""


class ChainParameters(Canonical):
    """What is fixed when a development chain is created. Blocks, bytes, and the chain's smallest unit of money."""

    TAG: ClassVar[str] = "recipe-net/local-chain/parameters/v1"

    netuid: U64 = 1
    tempo: U64 = 20
    """Blocks of an epoch: emission is paid and slot budgets start afresh."""
    finality_lag: U64 = 2
    max_uids: U64 = 256
    immunity_blocks: U64 = 40
    """A neuron this young is not evicted."""
    max_validators: U64 = 64
    permit_stake: U64 = 1
    """Least stake of a validator permit."""
    weights_rate_limit: U64 = 10
    """Least blocks between two settings of weights, counted from registration too."""
    weights_version_key: U64 = 0
    reveal_delay: U64 = 0
    """Blocks until set weights can be seen; 0 shows them at once."""
    max_unrevealed: U64 = 10
    slot_bytes: U64 = 128
    slot_budget_bytes: U64 = 3100
    """Bytes that one hotkey may commit in an epoch."""
    slot_charge_floor: U64 = 100
    emission_per_block: U64 = 1_000_000_000
    miner_percent: U64 = 41
    """Part of the emission that is incentive."""


def connect(path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open the file of an existing chain.

    Raises:
        ChainUnavailable: there is no such file (yet), or it cannot be opened.
        ConfigurationError: it was made by another version.
        CorruptStateError: it is not a chain.
    """
    with reported(f"chain {path}"):
        uri = path.absolute().as_uri() + "?mode=rw"
        db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=busy_timeout_s)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise ConfigurationError(f"chain {path} has schema version {version}, this release reads {SCHEMA_VERSION}: create it anew")
            db.execute("PRAGMA synchronous = NORMAL")
        except (sqlite3.Error, ConfigurationError):
            db.close()
            raise
        return db


def initialise(path: Path, parameters: ChainParameters) -> sqlite3.Connection:
    """Make an empty chain file with its tables and parameters; no block yet."""
    with reported(f"chain {path}"):
        db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(_TABLES)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        write_meta(db, "parameters", parameters.to_bytes())
        return db


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turn a database's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ChainUnavailable(f"{what}: {error}") from error
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.DatabaseError as error:
        raise CorruptStateError(f"{what}: {error}") from error


@contextmanager
def transaction(db: sqlite3.Connection, *, write: bool) -> Iterator[None]:
    """Run statements as one transaction: a writer alone, or a reader who sees one instant."""
    db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def write_meta(db: sqlite3.Connection, key: str, value: bytes) -> None:
    """Write one fact about the chain."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def read_meta(db: sqlite3.Connection, key: str) -> bytes:
    """Return one fact about the chain. Raises CorruptStateError when it is missing."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise CorruptStateError(f"the chain file does not say its {key}")
    return bytes(row[0])


def read_parameters(db: sqlite3.Connection) -> ChainParameters:
    """Return the parameters with which the chain was created."""
    return ChainParameters.from_bytes(read_meta(db, "parameters"), limit=MAX_PARAMETER_BYTES)


def head_number(db: sqlite3.Connection) -> int:
    """Return the number of the newest block."""
    (number,) = db.execute("SELECT max(number) FROM blocks").fetchone()
    if number is None:
        raise CorruptStateError("the chain file has no block")
    return int(number)
