"""The ledger: one SQLite file with every run and every experiment of a researcher, and nothing else is remembered.

Runs are written as they finish and experiments when they are decided, each durably, so that a researcher that was killed
finds its finished runs again and goes on with the same experiment. Rows are never changed.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from ralph.agent.bench import Run
from ralph.agent.experiment import Decision, Experiment, Kind, Pair, Reign
from ralph.errors import CorruptStateError, InfrastructureError
from ralph.protocol.canonical import decode, encode
from ralph.protocol.patch import MAX_TREE_BYTES, RecipeTree

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE tree (digest BLOB PRIMARY KEY, files BLOB NOT NULL) STRICT;
CREATE TABLE reign (
    number INTEGER PRIMARY KEY,
    king BLOB NOT NULL REFERENCES tree,
    rebased BLOB REFERENCES tree,
    bench TEXT NOT NULL,
    seed TEXT NOT NULL
) STRICT;
CREATE TABLE allowance (number INTEGER PRIMARY KEY, reign INTEGER NOT NULL REFERENCES reign, experiments INTEGER NOT NULL) STRICT;
CREATE TABLE run (
    bench TEXT NOT NULL,
    tree BLOB NOT NULL REFERENCES tree,
    seed TEXT NOT NULL,
    val_bpb REAL,
    worker_cpu_s REAL NOT NULL,
    memory_bytes INTEGER NOT NULL,
    code TEXT NOT NULL,
    log_tail TEXT NOT NULL,
    PRIMARY KEY (bench, tree, seed)
) STRICT;
CREATE TABLE experiment (
    number INTEGER PRIMARY KEY,
    reign INTEGER NOT NULL REFERENCES reign,
    kind TEXT NOT NULL,
    proposer TEXT NOT NULL,
    king BLOB NOT NULL REFERENCES tree,
    parent BLOB NOT NULL REFERENCES tree,
    tree BLOB NOT NULL REFERENCES tree,
    patch BLOB NOT NULL,
    change TEXT NOT NULL,
    mechanism TEXT NOT NULL,
    decision TEXT NOT NULL,
    reason TEXT NOT NULL,
    gain_bpb REAL,
    standard_error_bpb REAL,
    worker_cpu_s REAL NOT NULL,
    memory_bytes INTEGER NOT NULL,
    log_tail TEXT NOT NULL
) STRICT;
CREATE TABLE pair (
    experiment INTEGER NOT NULL REFERENCES experiment,
    position INTEGER NOT NULL,
    seed TEXT NOT NULL,
    challenger_bpb REAL,
    head_bpb REAL,
    PRIMARY KEY (experiment, position)
) STRICT;
"""

_COLUMNS = (
    *("number", "reign", "kind", "proposer", "king", "parent", "tree", "patch", "change", "mechanism", "decision", "reason"),
    *("gain_bpb", "standard_error_bpb", "worker_cpu_s", "memory_bytes", "log_tail"),
)

_INSERT = "INSERT INTO experiment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Ledger:
    """What a researcher knows. Seeds are kept as text because SQLite's integers are signed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create a ledger.

        Raises:
            CorruptStateError: The file is damaged or of another version.
            InfrastructureError: The file system does not let it be opened.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            elif version != SCHEMA_VERSION:
                raise CorruptStateError(f"{path} has schema version {version}, this release reads {SCHEMA_VERSION}")
            if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise CorruptStateError(f"{path} fails SQLite's integrity check; restore it from a copy")
        except (OSError, sqlite3.OperationalError) as error:
            raise InfrastructureError(f"cannot open the ledger {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise CorruptStateError(f"{path} is not a readable ledger: {error}") from error
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def begin(self, reign: Reign, king: RecipeTree, rebased: RecipeTree | None, *, experiments: int) -> None:
        """Write down that research goes on from ``king`` with an allowance of experiments."""
        with self._transaction():
            for tree in (king, rebased):
                if tree is not None:
                    self._keep(tree)
            row = (reign.number, reign.king, reign.rebased, reign.bench, str(reign.seed))
            self._connection.execute("INSERT INTO reign VALUES (?, ?, ?, ?, ?)", row)
            self._connection.execute("INSERT INTO allowance (reign, experiments) VALUES (?, ?)", (reign.number, experiments))

    def reigns(self) -> tuple[Reign, ...]:
        """Return all reigns, the newest last."""
        rows = self._connection.execute("SELECT number, king, rebased, bench, seed FROM reign ORDER BY number")
        return tuple(Reign(number=row[0], king=row[1], rebased=row[2], bench=row[3], seed=int(row[4])) for row in rows)

    def allow(self, reign: int, experiments: int) -> None:
        """Allow a reign more experiments."""
        with self._transaction():
            self._connection.execute("INSERT INTO allowance (reign, experiments) VALUES (?, ?)", (reign, experiments))

    def allowance(self, reign: int) -> int:
        """Return how many experiments a reign may have in all."""
        row = self._connection.execute("SELECT sum(experiments) FROM allowance WHERE reign = ?", (reign,)).fetchone()
        return int(row[0] or 0)

    def tree(self, digest: bytes) -> RecipeTree:
        """Return a kept tree. Raises CorruptStateError when it is not there or not what its digest says."""
        row = self._connection.execute("SELECT files FROM tree WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise CorruptStateError(f"the ledger has no tree {digest.hex()[:16]}")
        tree = RecipeTree(files=decode(row[0], limit=2 * MAX_TREE_BYTES))
        if tree.digest() != digest:
            raise CorruptStateError(f"the tree {digest.hex()[:16]} in the ledger has other files")
        return tree

    def add_run(self, bench: str, tree: RecipeTree, run: Run) -> None:
        """Write a finished run."""
        row = (bench, tree.digest(), str(run.seed), run.val_bpb, run.worker_cpu_s, run.memory_bytes, run.code, run.log_tail)
        with self._transaction():
            self._keep(tree)
            self._connection.execute("INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def run(self, bench: str, tree: bytes, seed: int) -> Run | None:
        """Return a run that was made before."""
        query = "SELECT val_bpb, worker_cpu_s, memory_bytes, code, log_tail FROM run WHERE bench = ? AND tree = ? AND seed = ?"
        row = self._connection.execute(query, (bench, tree, str(seed))).fetchone()
        if row is None:
            return None
        return Run(seed=seed, val_bpb=row[0], worker_cpu_s=row[1], memory_bytes=row[2], code=row[3], log_tail=row[4])

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all runs so far."""
        return float(self._connection.execute("SELECT coalesce(sum(worker_cpu_s), 0) FROM run").fetchone()[0])

    def add_experiment(self, experiment: Experiment, trees: Iterable[RecipeTree]) -> None:
        """Write a decided experiment with its pairs of runs and the trees that it names."""
        row = [getattr(experiment, name) for name in _COLUMNS]
        pairs = [
            (experiment.number, position, str(pair.seed), pair.challenger_bpb, pair.head_bpb)
            for position, pair in enumerate(experiment.pairs)
        ]
        with self._transaction():
            for tree in trees:
                self._keep(tree)
            self._connection.execute(_INSERT, row)
            self._connection.executemany("INSERT INTO pair VALUES (?, ?, ?, ?, ?)", pairs)

    def experiments(self) -> tuple[Experiment, ...]:
        """Return every experiment in order."""
        pairs: dict[int, list[Pair]] = {}
        for number, seed, challenger, head in self._connection.execute(
            "SELECT experiment, seed, challenger_bpb, head_bpb FROM pair ORDER BY experiment, position"
        ):
            pairs.setdefault(number, []).append(Pair(seed=int(seed), challenger_bpb=challenger, head_bpb=head))
        rows = self._connection.execute("SELECT * FROM experiment ORDER BY number")
        return tuple(_experiment(row, tuple(pairs.get(row[0], ()))) for row in rows)

    def _keep(self, tree: RecipeTree) -> None:
        self._connection.execute("INSERT OR IGNORE INTO tree VALUES (?, ?)", (tree.digest(), encode(dict(tree.files))))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Do it all, durably, or nothing."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.IntegrityError as error:
            raise CorruptStateError(f"the ledger contradicts itself: {error}") from error
        except sqlite3.OperationalError as error:
            raise InfrastructureError(f"cannot write to the ledger: {error}", code="OPS-DISK") from error


def _experiment(row: tuple[Any, ...], pairs: tuple[Pair, ...]) -> Experiment:
    fields = dict(zip(_COLUMNS, row, strict=True))
    kind, decision = Kind(fields.pop("kind")), Decision(fields.pop("decision"))
    return Experiment(pairs=pairs, kind=kind, decision=decision, **fields)
