"""The hidden pool of one validator on disk: sealed, committed to, and opened with its key.

    manifest.cbor     the PoolCommitment, whose digest is in the Rules
    leaves.cbor       the PoolLeaves: salted, so they say nothing about a document
    screen.sealed     one file for each shard: the index of its documents, then their tokens
    confirm.sealed
    audit.sealed

The key is no part of the directory. A shard is opened into memory and compared with the commitment before a row of it
is used, so that nothing is ever scored that could not be shown later.

What this does **not** promise: secrecy from who has the corpus. The text that a pool is prepared from, and the work folder
of a preparation that was killed, are the operator's to keep or remove.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ralph.data.dataset import DataSet, DocumentSet
from ralph.data.layout import (
    CODE,
    INDEX,
    LEAVES,
    TOKEN_DTYPE,
    Index,
    Tokens,
    bytes_problem,
    places_problem,
    read_errors,
    read_manifest,
    sealed_name,
    way_out,
)
from ralph.data.poolkey import PoolKey
from ralph.data.sealed import Label, unseal
from ralph.errors import ConfigurationError, CorruptStateError, UntrustedInputError
from ralph.protocol.pool import MAX_LEAVES_BYTES, OpenedSubset, Opening, PoolCommitment, PoolLeaves, ShardName, Subset, leaf_of
from ralph.records.log import MerkleLog


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contents:
    """What is in one shard, as it was committed to."""

    shard: ShardName
    tokens: Tokens = field(repr=False)
    index: Index = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HiddenPool:
    """A pool and its key. The commitment and the leaves agree; of the sealed files nothing has been read yet."""

    directory: Path
    key: PoolKey
    commitment: PoolCommitment
    leaves: PoolLeaves = field(repr=False)

    def contents(self, shard: ShardName) -> Contents:
        """Open a shard and compare every document with its leaf.

        Raises:
            ConfigurationError: OPS-DATA, the file is missing or unreadable.
            CorruptStateError: OPS-DATA, the key is another one, or the file is not what was sealed here.
        """
        path = self.directory / sealed_name(shard)
        with read_errors(path, self.directory):
            data = unseal(path, key=self.key, label=Label(commitment=self.commitment.digest(), shard=shard))
        head = self.commitment.shard(shard).documents * INDEX.itemsize
        if len(data) < head or (len(data) - head) % TOKEN_DTYPE.itemsize:
            raise self._unlike(path, "its size is not that of its documents")
        view = memoryview(data).toreadonly()
        contents = Contents(shard=shard, tokens=np.frombuffer(view[head:], TOKEN_DTYPE), index=np.frombuffer(view[:head], INDEX))
        problem = places_problem(contents.tokens, contents.index)
        if problem is None and tuple(self._leaves(contents)) != self.leaves.shard(shard):
            problem = "its documents are not the ones that were committed to"
        if problem is not None:
            raise self._unlike(path, problem)
        return contents

    def documents(self, shard: ShardName, public: DataSet) -> DocumentSet:
        """Open a shard for scoring.

        Args:
            shard: Which.
            public: The track's public data, which has the lengths of the tokens and the padding.

        Raises:
            ConfigurationError: OPS-DATA, the file is missing, or the public data are of another tokenizer.
            CorruptStateError: OPS-DATA, as ``contents``.
        """
        made, named = (
            (self.commitment.tokenizer, self.commitment.source_names),
            (public.manifest.tokenizer.sha256, public.manifest.source_names),
        )
        if made != named:
            detail = f"{self.directory} was made with tokenizer {made[0].hex()[:16]} and sources {', '.join(made[1])}"
            other = f"the public data with {named[0].hex()[:16]} and {', '.join(named[1])}"
            raise ConfigurationError(f"{detail}, {other}; {way_out(self.directory)}", code=CODE)
        contents = self.contents(shard)
        problem = bytes_problem(contents.tokens, contents.index, public.token_bytes, len(public.manifest.source_names))
        if problem is not None:
            raise self._unlike(self.directory / sealed_name(shard), problem)
        return DocumentSet(
            directory=self.directory,
            tokens=contents.tokens,
            index=contents.index,
            source_names=self.commitment.source_names,
            token_bytes=public.token_bytes,
            pattern=public.validation.pattern,
        )

    def opened(self, contents: Contents, places: Sequence[int], *, hotkey: str, subset: Subset) -> OpenedSubset:
        """Return the openings of the documents of a subset. Publish them when it is over, never before."""
        log = MerkleLog()
        for leaf in self.leaves.shard(contents.shard):
            log.append(leaf)
        commitment = self.commitment.digest()
        openings = []
        for place in sorted(places):
            source, salt, tokens = self._document(contents, place)
            opening = Opening(
                commitment=commitment,
                shard=contents.shard,
                index=place,
                source=source,
                salt=salt,
                tokens=tokens,
                path=log.inclusion(place),
            )
            openings.append(opening)
        return OpenedSubset(hotkey=hotkey, subset=subset, openings=tuple(openings))

    def _leaves(self, contents: Contents) -> Iterator[bytes]:
        if contents.index.size and int(contents.index["source"].max()) >= len(self.commitment.source_names):
            return
        for place in range(contents.index.size):
            source, salt, tokens = self._document(contents, place)
            yield leaf_of(salt=salt, source=source, tokens=tokens)

    def _document(self, contents: Contents, place: int) -> tuple[str, bytes, bytes]:
        """Return source, salt and tokens of a document."""
        row = contents.index[place]
        start, length = int(row["offset"]), int(row["tokens"])
        tokens = contents.tokens[start : start + length].tobytes()
        return self.commitment.source_names[int(row["source"])], self.key.salt(row["digest"].tobytes()), tokens

    def _unlike(self, path: Path, what: str) -> CorruptStateError:
        return CorruptStateError(f"{path}: {what}; {way_out(self.directory)}", code=CODE)


def open_pool(directory: Path, *, key: Path, expect: bytes | None) -> HiddenPool:
    """Read the commitment, the leaves and the key of a hidden pool; its shards are opened one by one.

    Args:
        directory: What ``prepare`` wrote.
        key: The file with its key.
        expect: Digest of the commitment, from Rules; None only where the digest is what one wants to learn.

    Raises:
        ConfigurationError: OPS-DATA, missing, another pool than expected, or a key that others can read.
        CorruptStateError: OPS-DATA, leaves that are not the committed ones, or no key.
    """
    commitment = read_manifest(directory, PoolCommitment, expect=expect)
    return HiddenPool(directory=directory, key=PoolKey.load(key), commitment=commitment, leaves=read_leaves(directory, commitment))


def read_leaves(directory: Path, commitment: PoolCommitment) -> PoolLeaves:
    """Read the leaves of a pool, which must be the commitment's. Raises ConfigurationError, CorruptStateError: OPS-DATA."""
    path = directory / LEAVES
    with read_errors(path, directory), path.open("rb") as file:
        data = file.read(MAX_LEAVES_BYTES + 1)
    try:
        leaves = PoolLeaves.from_bytes(data, limit=MAX_LEAVES_BYTES)
        leaves.verify(commitment)
    except UntrustedInputError as error:
        raise CorruptStateError(f"{path} is not what was committed to ({error.detail}); {way_out(directory)}", code=CODE) from error
    return leaves
