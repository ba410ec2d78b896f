"""Buckets of documents to parts: tokens and index rows of every split and source, one file per bucket.

Buckets are encoded in processes of their own, in any order; a part that exists is finished. What a part holds depends on its bucket
and on the settings alone, so neither the number of processes nor a kill changes a byte of the data.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ralph.data.layout import INDEX, TOKEN_DTYPE
from ralph.data.partition import Entry, Fractions, Progress, SubPool, pool_of, shard_of, split_of
from ralph.data.spool import read_leaf
from ralph.data.tokenizer import Tokenizer, open_tokenizer
from ralph.errors import CorruptStateError, InfrastructureError
from ralph.protocol.canonical import envelope, open_envelope
from ralph.protocol.data import BOS
from ralph.store.files import replace_file

TAG = "recipe-net/data/part/v2"
MAX_PART_BYTES = 1 << 30

Group = tuple[str, str]
"""The split, and of training text its source, of hidden text its shard; the validation split holds all together, as the empty name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every part depends on, beside its bucket."""

    tokenizer: bytes
    vocabulary: int
    sources: tuple[str, ...]
    """Names by the numbers in the spool."""
    fractions: Fractions
    sub_pool: SubPool

    @property
    def source_names(self) -> tuple[str, ...]:
        """Return the names in the manifest's order, which numbers them in an index."""
        return tuple(sorted(self.sources))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stretch:
    """Consecutive documents of one split and source: BOS, document, BOS, document."""

    tokens: npt.NDArray[np.uint16]
    index: npt.NDArray[np.void]
    """Offsets count from the beginning of this stretch."""


def encode(
    leaves: Sequence[tuple[str, Path]], directory: Path, settings: Settings, *, workers: int, report: Callable[[Progress], None]
) -> list[Path]:
    """Encode all buckets; return the parts in their order. Raises CorruptStateError, InfrastructureError."""
    jobs = [_Job(bucket=bucket, part=directory / f"{digits}.part", settings=settings) for digits, bucket in leaves]
    missing = [job for job in jobs if not job.part.exists()]
    done = len(jobs) - len(missing)
    for _ in _mapped(missing, workers):
        report(Progress(stage="encode", done=done, total=len(jobs)))
        done += 1
    report(Progress(stage="encode", done=len(jobs), total=len(jobs)))
    return [job.part for job in jobs]


def read_part(path: Path) -> dict[Group, Stretch]:
    """Return what a part holds. Raises CorruptStateError."""
    try:
        groups: list[dict[str, Any]] = open_envelope(TAG, path.read_bytes(), limit=MAX_PART_BYTES)
    except ValueError as error:
        raise CorruptStateError(f"{path} is damaged; remove it and prepare the data again", code="OPS-DATA") from error
    return {
        (group["split"], group["part"]): Stretch(
            tokens=np.frombuffer(group["tokens"], TOKEN_DTYPE), index=np.frombuffer(group["index"], INDEX)
        )
        for group in groups
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    bucket: Path
    part: Path
    settings: Settings

    def run(self) -> Path:
        settings = self.settings
        tokenizer = _opened(settings.tokenizer, settings.vocabulary)
        entries = read_leaf(self.bucket, list(settings.sources))
        groups: dict[Group, list[Entry]] = {}
        for entry in entries:
            group = _group(entry, settings)
            if group is not None:
                groups.setdefault(group, []).append(entry)
        stretches = {group: stretch_of(found, tokenizer, settings.source_names) for group, found in sorted(groups.items())}
        value = [
            {"split": split, "part": part, "tokens": stretch.tokens.tobytes(), "index": stretch.index.tobytes()}
            for (split, part), stretch in stretches.items()
        ]
        replace_file(self.part, envelope(TAG, value))
        return self.part


@cache
def _opened(data: bytes, vocabulary: int) -> Tokenizer:
    """Open the tokenizer once in a process."""
    return open_tokenizer(data, vocabulary=vocabulary)


def _mapped(jobs: Sequence[_Job], workers: int) -> Iterator[Path]:
    if workers <= 1 or len(jobs) <= 1:
        yield from (job.run() for job in jobs)
        return
    try:
        with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("forkserver")) as pool:
            yield from pool.map(_Job.run, jobs)
    except BrokenProcessPool as error:
        raise InfrastructureError(
            "a process that encodes was killed, by a lack of memory perhaps; start again with fewer --workers"
        ) from error


def _group(entry: Entry, settings: Settings) -> Group | None:
    """Return where a document goes; None when it is in another validator's pool."""
    split = split_of(entry.digest, settings.fractions)
    if split == "train":
        return split, entry.source
    if split == "validation":
        return split, ""
    mine = pool_of(entry.digest, settings.sub_pool.count) == settings.sub_pool.number
    return (split, shard_of(entry.digest)) if mine else None


def stretch_of(entries: Sequence[Entry], tokenizer: Tokenizer, source_names: Sequence[str]) -> Stretch:
    """Return documents as tokens and index rows, in the order in which they are given."""
    encoded = [_encoded(entry, tokenizer) for entry in entries]
    lengths = np.array([tokens.size for tokens in encoded], np.int64)
    index = np.zeros(len(entries), INDEX)
    stream = np.full(int(lengths.sum()) + len(entries), BOS, TOKEN_DTYPE)
    index["tokens"] = lengths
    index["offset"] = np.cumsum(lengths + 1) - lengths
    for record, entry, tokens in zip(index, entries, encoded, strict=True):
        start = int(record["offset"])
        stream[start : start + tokens.size] = tokens
        record["digest"] = np.frombuffer(entry.digest, np.uint8)
        record["bytes"] = len(entry.text.encode("utf-8"))
        record["source"] = source_names.index(entry.source)
    return Stretch(tokens=stream, index=index)


def _encoded(entry: Entry, tokenizer: Tokenizer) -> npt.NDArray[np.uint16]:
    """Return the tokens of a document, whose lengths must add up to its UTF-8 bytes."""
    tokens = tokenizer.encode(entry.text)
    counted, size = int(tokenizer.token_bytes[tokens].sum(dtype=np.int64)), len(entry.text.encode("utf-8"))
    if counted != size:
        raise CorruptStateError(f"document {entry.digest.hex()[:16]} has {size} bytes, its tokens have {counted}", code="OPS-DATA")
    return tokens
