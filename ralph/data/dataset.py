"""Prepared data, verified and memory-mapped. Needs numpy only.

Training text is a stream of tokens per source; validation and hidden text are documents that become rows
of one document each. Hidden documents come from ``ralph.data.pool``, which opens what is sealed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ralph.data.layout import CODE, Index, Tokens, map_file, map_filler, map_shard, map_token_bytes, read_manifest, way_out
from ralph.errors import ConfigurationError
from ralph.protocol.data import DataManifest

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


PIECE_CELLS = 1 << 16
"""Scored tokens that are looked at together when all rows are read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """N documents as rows for scoring: BOS, then the first T tokens of the document, then padding.

    The token at column j + 1 is predicted at position j; the first ``lengths`` predictions of a row count. The tokens stay where
    they are, in a mapped file as a rule: a row is made when it is taken, and memory grows with documents and not with tokens.
    """

    sequence: int
    """T"""
    stream: npt.NDArray[np.uint16] | Int32
    """The tokens of all documents, one after the other."""
    starts: Int64
    """int64[N]: where each row's first token, its BOS, is in the stream."""
    lengths: Int32
    """int32[N]: scored tokens, at most T."""
    byte_counts: Int64
    """int64[N]: true UTF-8 bytes of the scored tokens."""
    sources: tuple[str, ...]
    filler: Int32
    """int32[T+1]: what a padded column j holds, in every row alike."""

    def __len__(self) -> int:
        return len(self.sources)

    @classmethod
    def of(cls, tokens: Int32, *, lengths: Int32, byte_counts: Int64, sources: tuple[str, ...], filler: Int32) -> "Rows":
        """Return rows whose tokens are in memory: int32[N, T+1], of which nothing behind a row's end is used."""
        count, width = tokens.shape
        starts = np.arange(count, dtype=np.int64) * width
        return cls(
            sequence=width - 1,
            stream=tokens.reshape(-1),
            starts=starts,
            lengths=lengths,
            byte_counts=byte_counts,
            sources=sources,
            filler=filler,
        )

    def take(self, chosen: npt.NDArray[np.integer]) -> Int32:
        """Return these rows: int32[R, T+1]."""
        columns = np.arange(self.sequence + 1)
        inside = columns <= self.lengths[chosen][:, None]
        places = np.where(inside, self.starts[chosen][:, None] + columns, 0)
        rows: Int32 = np.where(inside, self.stream[places], self.filler).astype(np.int32, copy=False)
        return rows

    def at(self, chosen: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]) -> Int32:
        """Return one token of each of these rows, none of it padding: int32[R]."""
        tokens: Int32 = self.stream[self.starts[chosen] + columns].astype(np.int32)
        return tokens

    def count_bytes(self, token_bytes: npt.NDArray[np.uint8]) -> Int64:
        """Return the UTF-8 bytes of every row's scored tokens by this table: int64[N]."""
        counted, columns = np.zeros(len(self), np.int64), np.arange(self.sequence)
        step = max(1, PIECE_CELLS // max(1, self.sequence))
        for start in range(0, len(self), step):
            chosen = np.arange(start, min(start + step, len(self)))
            scored = columns < self.lengths[chosen][:, None]
            counted[chosen] = (token_bytes[self.take(chosen)[:, 1:]] * scored).sum(axis=1, dtype=np.int64)
        return counted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DocumentSet:
    """Documents of one split in manifest order, which is the order of their digests: a fixed shuffle."""

    directory: Path
    tokens: Tokens
    index: Index
    source_names: tuple[str, ...]
    token_bytes: npt.NDArray[np.uint8]
    """uint8[V]"""
    pattern: Tokens
    """Tokens of an unrelated public text, repeated for as long as padding is needed."""

    def __len__(self) -> int:
        return int(self.index.size)

    def select(self, places: Sequence[int]) -> "DocumentSet":
        """Return the documents at these places, in this order."""
        return replace(self, index=self.index[np.asarray(places, np.int64)])

    def filler(self, width: int) -> Int32:
        """Return the padding of ``width`` columns: int32[width]."""
        return np.resize(self.pattern, width).astype(np.int32)

    def rows(self, count: int | None, sequence: int) -> Rows:
        """Return the first ``count`` documents (None: all) as rows of ``sequence`` + 1 tokens.

        Raises:
            ConfigurationError: OPS-DATA, fewer documents than asked for.
        """
        if count is not None and count > len(self):
            detail = f"{self.directory} has {len(self)} documents, {count} are needed; {way_out(self.directory)}"
            raise ConfigurationError(detail, code=CODE)
        index = self.index[:count]
        rows = Rows(
            sequence=sequence,
            stream=self.tokens,
            starts=index["offset"].astype(np.int64) - 1,
            lengths=np.minimum(index["tokens"], sequence).astype(np.int32),
            byte_counts=np.zeros(index.size, np.int64),
            sources=tuple(self.source_names[number] for number in index["source"]),
            filler=self.filler(sequence + 1),
        )
        return replace(rows, byte_counts=rows.count_bytes(self.token_bytes))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataSet:
    """The public data of a track."""

    directory: Path
    manifest: DataManifest
    streams: Mapping[str, tuple[Tokens, ...]]
    """Source -> its shards, each a packed stream: BOS, document, BOS, document."""
    indices: Mapping[str, tuple[Index, ...]]
    """Source -> the index of each of its shards: where its documents stand in the stream."""
    token_bytes: npt.NDArray[np.uint8]
    """uint8[V]"""
    validation: DocumentSet

    @property
    def vocabulary(self) -> int:
        """Return the number of token ids V."""
        return self.manifest.vocabulary

    @property
    def tokenizer_bytes(self) -> bytes:
        """Return the tokenizer's JSON, verified."""
        return map_file(self.directory, self.manifest.tokenizer).tobytes()


def open_data(directory: Path, *, expect: bytes) -> DataSet:
    """Verify and open the public data.

    Args:
        directory: What ``prepare`` wrote.
        expect: Digest of the DataManifest, from Rules.

    Raises:
        ConfigurationError: OPS-DATA, missing or other data than expected.
        CorruptStateError: OPS-DATA, files that differ from the manifest.
    """
    manifest = read_manifest(directory, DataManifest, expect=expect)
    map_file(directory, manifest.tokenizer)
    token_bytes, pattern = map_token_bytes(directory, manifest), map_filler(directory, manifest)
    names = manifest.source_names
    shards = {
        source.name: [map_shard(directory, shard, token_bytes=token_bytes, sources=len(names)) for shard in source.shards]
        for source in manifest.sources
    }
    tokens, index = map_shard(directory, manifest.validation, token_bytes=token_bytes, sources=len(names))
    validation = DocumentSet(directory=directory, tokens=tokens, index=index, source_names=names, token_bytes=token_bytes, pattern=pattern)
    return DataSet(
        directory=directory,
        manifest=manifest,
        streams=MappingProxyType({name: tuple(tokens for tokens, _ in found) for name, found in shards.items()}),
        indices=MappingProxyType({name: tuple(index for _, index in found) for name, found in shards.items()}),
        token_bytes=token_bytes,
        validation=validation,
    )
