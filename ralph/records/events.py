"""The event table: one SQLite file, append-only, from which everything else is derived.

An event is (kind, key, payload); a pair of kind and key exists once, so every step of a round asks
whether its event is there, does its work, and appends. What is killed between the work and the event is
simply done again: all work is idempotent by content. No payload holds a time or a random signature, so a
run that was killed and resumed has the same events as one that was not.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ralph.errors import CorruptStateError, InfrastructureError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (kind, key)
) STRICT;
CREATE TRIGGER event_is_final BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'events are final'); END;
CREATE TRIGGER event_stays BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'events are final'); END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened."""

    sequence: int
    kind: str
    key: str
    payload: bytes


class EventTable:
    """Append-only events of one daemon."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create the table. Raises CorruptStateError when the file is damaged or of another version."""
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            elif version != SCHEMA_VERSION:
                raise CorruptStateError(f"{path} has schema version {version}, this release reads {SCHEMA_VERSION}")
            if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise CorruptStateError(f"{path} fails SQLite's integrity check; restore it from a copy")
        except sqlite3.DatabaseError as error:
            raise CorruptStateError(f"{path} is not a readable event table: {error}") from error
        return cls(connection)

    def append(self, kind: str, key: str, payload: bytes) -> None:
        """Append an event durably. Raises InfrastructureError ``OPS-DISK`` when the disk refuses."""
        try:
            self._connection.execute("INSERT INTO event (kind, key, payload) VALUES (?, ?, ?)", (kind, key, payload))
        except sqlite3.IntegrityError as error:
            raise CorruptStateError(f"event {kind} {key} exists already") from error
        except sqlite3.OperationalError as error:
            raise InfrastructureError(f"cannot append event {kind} {key}: {error}", code="OPS-DISK") from error

    def get(self, kind: str, key: str) -> bytes | None:
        """Return the payload of an event, or None while it has not happened."""
        row = self._connection.execute("SELECT payload FROM event WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return None if row is None else bytes(row[0])

    def all(self, kind: str | None = None, *, prefix: str = "") -> tuple[Event, ...]:
        """Return events in order, of one kind and with keys that begin with ``prefix``."""
        query = (
            "SELECT sequence, kind, key, payload FROM event WHERE (?1 IS NULL OR kind = ?1) AND substr(key, 1, ?2) = ?3 ORDER BY sequence"
        )
        rows = self._connection.execute(query, (kind, len(prefix), prefix))
        return tuple(Event(sequence=row[0], kind=row[1], key=row[2], payload=bytes(row[3])) for row in rows)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
