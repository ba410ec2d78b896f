"""Make a hidden pool in two passes over its documents: the first finds what to commit to, the second seals it.

A sealed file is bound to the commitment, and the commitment is over all documents, so the documents are read twice. What
stays in memory between the passes is an index row and a leaf for each document, never its text; no text is written in the clear.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ralph.data.encode import Stretch
from ralph.data.layout import LEAVES, MANIFEST, TOKEN_DTYPE, sealed_name
from ralph.data.partition import SubPool
from ralph.data.poolkey import PoolKey
from ralph.data.sealed import Label, Sealer
from ralph.data.staging import StagedFile, Staging
from ralph.protocol.merkle import tree_hash
from ralph.protocol.pool import SHARDS, PoolCommitment, PoolLeaves, ShardCommitment, ShardName, SourceCount, leaf_of


@dataclass(slots=True, kw_only=True)
class _Notes:
    """What the first pass keeps of one shard."""

    leaves: list[bytes] = field(default_factory=list)
    index: list[bytes] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    """With a BOS for each document."""


class PoolWriter:
    """A hidden pool under construction: ``note`` everything, ``commit``, ``seal`` everything again in the same order, ``close``.

    Args:
        staging: The directory to be.
        key: From which salts and file keys derive.
        source_names: The track's sources, in the order of the data's manifest.
    """

    def __init__(self, staging: Staging, *, key: PoolKey, source_names: Sequence[str]) -> None:
        self._staging, self._key, self._names = staging, key, tuple(source_names)
        self._notes: dict[ShardName, _Notes] = {name: _Notes() for name in SHARDS}
        self._open: dict[ShardName, tuple[Sealer, StagedFile]] = {}

    def note(self, shard: ShardName, stretch: Stretch) -> None:
        """Take account of documents."""
        notes = self._notes[shard]
        for row in stretch.index:
            source = self._names[int(row["source"])]
            start, length = int(row["offset"]), int(row["tokens"])
            salt = self._key.salt(row["digest"].tobytes())
            notes.leaves.append(leaf_of(salt=salt, source=source, tokens=stretch.tokens[start : start + length].tobytes()))
            notes.sources[source] += 1
        index = stretch.index.copy()
        index["offset"] += np.uint64(notes.tokens)
        notes.index.append(index.tobytes())
        notes.tokens += stretch.tokens.size

    def documents(self) -> dict[ShardName, int]:
        """Return how many documents of each shard were noted."""
        return {name: len(notes.leaves) for name, notes in self._notes.items()}

    def commit(
        self, *, tokenizer: bytes, vocabulary: int, sub_pool: SubPool, refresh: int = 0, previous: bytes | None = None
    ) -> PoolCommitment:
        """Write the commitment to what was noted, and its leaves; begin the sealed files."""
        commitment = PoolCommitment(
            tokenizer=tokenizer,
            vocabulary=vocabulary,
            pool=sub_pool.number,
            pools=sub_pool.count,
            refresh=refresh,
            previous=previous,
            shards=(self._committed("screen"), self._committed("confirm"), self._committed("audit")),
        )
        self._staging.write(LEAVES, PoolLeaves.of({name: notes.leaves for name, notes in self._notes.items()}).to_bytes())
        self._staging.write(MANIFEST, commitment.to_bytes())
        for name, notes in self._notes.items():
            file = self._staging.open(sealed_name(name))
            size = sum(map(len, notes.index)) + notes.tokens * TOKEN_DTYPE.itemsize
            sealer = Sealer(file.write, key=self._key, label=Label(commitment=commitment.digest(), shard=name), size_bytes=size)
            for rows in notes.index:
                sealer.write(rows)
            self._open[name] = sealer, file
        return commitment

    def seal(self, shard: ShardName, stretch: Stretch) -> None:
        """Append the text of documents that were noted."""
        self._open[shard][0].write(stretch.tokens.tobytes())

    def close(self) -> None:
        """Finish the sealed files."""
        for sealer, file in self._open.values():
            sealer.close()
            file.close()

    def _committed(self, shard: ShardName) -> ShardCommitment:
        notes = self._notes[shard]
        return ShardCommitment(shard=shard, root=tree_hash(notes.leaves), sources=tuple(self._counts(notes)))

    def _counts(self, notes: _Notes) -> Iterator[SourceCount]:
        for name in self._names:
            yield SourceCount(source=name, documents=notes.sources[name])
