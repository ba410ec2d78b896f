"""Parts to shard files: what was encoded bucket by bucket becomes the few large files that a manifest names.

Hidden text goes to a ``PoolWriter``, which needs to see it a second time.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ralph.data.encode import Group, Stretch, read_part
from ralph.data.layout import INDEX, VALIDATION, train_name
from ralph.data.poolwriter import PoolWriter
from ralph.data.staging import StagedFile, Staging
from ralph.protocol.data import Shard
from ralph.protocol.pool import SHARDS, ShardName

SHARD_TOKENS = 100_000_000
"""A training shard ends with the first document past this many tokens."""


class Shards:
    """All shards of a preparation, filled part by part in the order of the documents."""

    def __init__(self, public: Staging, pool: PoolWriter) -> None:
        self._public, self._pool = public, pool
        self._open: dict[Group, _OpenShard] = {}
        self._finished: dict[Group, list[Shard]] = {}

    def add(self, parts: Iterable[Path], report: Callable[[int], None]) -> None:
        """Append every part; ``report`` gets the number of parts so far."""
        for number, part in enumerate(parts):
            report(number)
            for group, stretch in read_part(part).items():
                shard = shard_in(group)
                if shard is None:
                    self._append(group, stretch)
                else:
                    self._pool.note(shard, stretch)
        for group in list(self._open):
            self._finish(group)

    def train(self, source: str) -> tuple[Shard, ...]:
        """Return the finished training shards of a source."""
        return tuple(self._finished.get(("train", source), ()))

    def validation(self) -> Shard | None:
        """Return the one shard of the validation split; None when no document fell there."""
        return next(iter(self._finished.get(("validation", ""), ())), None)

    def _append(self, group: Group, stretch: Stretch) -> None:
        while stretch.index.size:
            shard = self._shard(group)
            if group[0] != "train":
                shard.append(stretch)
                return
            ends = shard.size + (stretch.index["offset"] + stretch.index["tokens"]).astype(np.int64)
            first, stretch = _cut(stretch, min(int(np.searchsorted(ends, SHARD_TOKENS)) + 1, stretch.index.size))
            shard.append(first)
            if shard.size >= SHARD_TOKENS:
                self._finish(group)

    def _shard(self, group: Group) -> "_OpenShard":
        if group not in self._open:
            split, source = group
            name = train_name(source, len(self.train(source))) if split == "train" else VALIDATION
            self._open[group] = _OpenShard(self._public, name)
        return self._open[group]

    def _finish(self, group: Group) -> None:
        self._finished.setdefault(group, []).append(self._open.pop(group).close())


def seal_hidden(parts: Iterable[Path], pool: PoolWriter) -> None:
    """Hand every hidden document of the parts to a pool that has committed to them."""
    for part in parts:
        for group, stretch in read_part(part).items():
            shard = shard_in(group)
            if shard is not None:
                pool.seal(shard, stretch)
    pool.close()


def shard_in(group: Group) -> ShardName | None:
    """Return the shard of the hidden pool that a group is; None for what is not hidden."""
    return next((name for name in SHARDS if group == ("hidden", name)), None)


class _OpenShard:
    def __init__(self, staging: Staging, name: str) -> None:
        self._tokens: StagedFile = staging.open(f"{name}.bin")
        self._index: StagedFile = staging.open(f"{name}.index")
        self.size, self._documents, self._bytes = 0, 0, 0

    def append(self, stretch: Stretch) -> None:
        index = stretch.index.copy()
        index["offset"] += np.uint64(self.size)
        self._tokens.write(stretch.tokens.tobytes())
        self._index.write(index.tobytes())
        self.size += stretch.tokens.size
        self._documents += index.size
        self._bytes += int(index["bytes"].sum(dtype=np.uint64))

    def close(self) -> Shard:
        return Shard(
            tokens=self._tokens.close(),
            index=self._index.close(),
            document_count=self._documents,
            token_count=self.size - self._documents,
            byte_count=self._bytes,
        )


def _cut(stretch: Stretch, count: int) -> tuple[Stretch, Stretch]:
    """Return the first ``count`` documents and the others."""
    last = stretch.index[count - 1]
    end = int(last["offset"]) + int(last["tokens"])
    rest = np.array(stretch.index[count:], INDEX)
    rest["offset"] -= np.uint64(end)
    return Stretch(tokens=stretch.tokens[:end], index=stretch.index[:count]), Stretch(tokens=stretch.tokens[end:], index=rest)
