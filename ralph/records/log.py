"""The append-only Merkle log: RFC 6962 / RFC 9162 section 2.1 hashing and proofs, in SQLite or in memory.

Leaves are hashed as ``sha256(0x00 || leaf)``, inner nodes as ``sha256(0x01 || left || right)``. Every
complete subtree is stored once under (level, index) and never changes, so an append writes as many
nodes as it completes and any root or proof of any earlier size is a few look-ups.

Whoever only checks proofs needs ``ralph.protocol.merkle`` and nothing of this module.

Not promised: that the log was never replaced by a shorter one. Whoever must know keeps the last
(size, root) elsewhere and asks for a consistency proof. The leaves themselves are not kept here.
"""

import sqlite3
from collections.abc import Sequence
from typing import Protocol

from ralph.errors import CorruptStateError
from ralph.protocol.merkle import EMPTY_ROOT, HASH_BYTES, leaf_hash, node_hash


class Nodes(Protocol):
    """Where the hashes of complete subtrees are kept. A node is added once and never changes."""

    def leaves(self) -> int: ...
    def get(self, level: int, position: int) -> bytes: ...
    def add(self, nodes: Sequence[tuple[int, int, bytes]]) -> None:
        """Add (level, position, hash) rows, all or none."""
        ...


class MemoryNodes:
    """Nodes in lists, one per level."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = []

    def leaves(self) -> int:
        return len(self._levels[0]) if self._levels else 0

    def get(self, level: int, position: int) -> bytes:
        return self._levels[level][position]

    def add(self, nodes: Sequence[tuple[int, int, bytes]]) -> None:
        for level, _, value in nodes:
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(value)


class SqliteNodes:
    """Nodes in the table ``merkle_node`` of a database. One writer at a time.

    ``add`` is one statement in the connection's open transaction, so that a row and its leaf can be
    committed together; committing is the caller's.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute(
            "CREATE TABLE IF NOT EXISTS merkle_node"
            " (level INTEGER, position INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, position)) WITHOUT ROWID"
        )

    def leaves(self) -> int:
        newest: int | None = self._connection.execute("SELECT MAX(position) FROM merkle_node WHERE level = 0").fetchone()[0]
        return 0 if newest is None else newest + 1

    def get(self, level: int, position: int) -> bytes:
        row = self._connection.execute("SELECT hash FROM merkle_node WHERE level = ? AND position = ?", (level, position)).fetchone()
        if row is None or not isinstance(row[0], bytes) or len(row[0]) != HASH_BYTES:
            raise CorruptStateError(f"the Merkle log has no usable node {position} at level {level}")
        return row[0]

    def add(self, nodes: Sequence[tuple[int, int, bytes]]) -> None:
        places = ", ".join(["(?, ?, ?)"] * len(nodes))
        values = [value for node in nodes for value in node]
        self._connection.execute(f"INSERT INTO merkle_node VALUES {places}", values)  # noqa: S608 - question marks only


class MerkleLog:
    """An append-only log over a table of a SQLite connection, or in memory without one."""

    def __init__(self, connection: sqlite3.Connection | None = None) -> None:
        self._nodes: Nodes = MemoryNodes() if connection is None else SqliteNodes(connection)

    @property
    def size(self) -> int:
        """Return the number of leaves."""
        return self._nodes.leaves()

    def append(self, leaf: bytes) -> int:
        """Append a leaf and return its index. On SQLite it joins the open transaction and does not commit."""
        index = self.size
        completed = leaf_hash(leaf)
        rows = [(0, index, completed)]
        level, position = 0, index
        while position & 1:
            completed = node_hash(self._nodes.get(level, position - 1), completed)
            level, position = level + 1, position >> 1
            rows.append((level, position, completed))
        self._nodes.add(rows)
        return index

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first ``size`` leaves, of all of them by default. Raises ValueError out of range."""
        size = self._within(size)
        return self._subtree(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that leaf ``index`` is in the log of ``size`` (RFC 9162 section 2.1.3.1). Raises ValueError out of range."""
        start, end = 0, self._within(size)
        if not 0 <= index < end:
            raise ValueError(f"no leaf {index} in a log of {end}")
        proof = []
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._subtree(middle, end))
                end = middle
            else:
                proof.append(self._subtree(start, middle))
                start = middle
        return tuple(reversed(proof))

    def consistency(self, old_size: int, new_size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that the log of ``old_size`` is a prefix (RFC 9162 section 2.1.4.1). Raises ValueError out of range.

        Empty for equal sizes and for an old size of 0, where there is nothing to prove.
        """
        start, end = 0, self._within(new_size)
        if not 0 <= old_size <= end:
            raise ValueError(f"no prefix of {old_size} leaves in a log of {end}")
        if old_size == 0:
            return ()
        proof = []
        while end != old_size:
            middle = start + _split(end - start)
            if old_size <= middle:
                proof.append(self._subtree(middle, end))
                end = middle
            else:
                proof.append(self._subtree(start, middle))
                start = middle
        if start:
            proof.append(self._subtree(start, end))
        return tuple(reversed(proof))

    def _within(self, size: int | None) -> int:
        have = self.size
        if size is None:
            return have
        if not 0 <= size <= have:
            raise ValueError(f"no size {size} in a log of {have}")
        return size

    def _subtree(self, start: int, end: int) -> bytes:
        """Return the hash of the leaves from ``start`` to ``end``, which is a node of the tree of some size."""
        width = end - start
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            return self._nodes.get(level, start >> level)
        middle = start + _split(width)
        return node_hash(self._subtree(start, middle), self._subtree(middle, end))


def _split(width: int) -> int:
    """Return the largest power of two below ``width``."""
    return 1 << ((width - 1).bit_length() - 1)
