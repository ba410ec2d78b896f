"""Documents to shard files: tokens, index, and what a manifest says about them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ralph.data.layout import INDEX, TOKEN_DTYPE, train_name
from ralph.data.partition import PROGRESS_EVERY, Entry, Progress
from ralph.data.staging import Staging
from ralph.data.tokenizer import Tokenizer
from ralph.errors import CorruptStateError
from ralph.protocol.data import BOS, Shard, Source

SHARD_TOKENS = 2**26
"""A shard ends with the first document past this many tokens: about 128 MiB."""

Encoded = tuple[Entry, npt.NDArray[np.uint16]]


class ShardWriter:
    """Encodes documents and writes shards.

    Args:
        tokenizer: Makes the tokens; its token lengths are checked against every document's UTF-8 length.
        source_names: All sources; an index names a source by its place here.
        total: Number of documents to be written, for progress.
        report: Called now and then.
    """

    def __init__(self, *, tokenizer: Tokenizer, source_names: tuple[str, ...], total: int, report: Callable[[Progress], None]) -> None:
        self._tokenizer = tokenizer
        self._numbers = {name: number for number, name in enumerate(source_names)}
        self._total = total
        self._report = report
        self._done = 0

    def source(self, staging: Staging, name: str, entries: Sequence[Entry]) -> Source:
        """Write the training shards of one source."""
        shards = (self._write(staging, train_name(name, number), part) for number, part in enumerate(self._parts(entries)))
        return Source(name=name, shards=tuple(shards))

    def shard(self, staging: Staging, name: str, entries: Sequence[Entry]) -> Shard:
        """Write all ``entries`` as one shard."""
        return self._write(staging, name, [(entry, self._encode(entry)) for entry in entries])

    def _parts(self, entries: Sequence[Entry]) -> Iterator[list[Encoded]]:
        part: list[Encoded] = []
        size = 0
        for entry in entries:
            tokens = self._encode(entry)
            part.append((entry, tokens))
            size += tokens.size + 1
            if size >= SHARD_TOKENS:
                yield part
                part, size = [], 0
        if part:
            yield part

    def _encode(self, entry: Entry) -> npt.NDArray[np.uint16]:
        tokens = self._tokenizer.encode(entry.text)
        counted, size = int(self._tokenizer.token_bytes[tokens].sum(dtype=np.int64)), len(entry.text.encode("utf-8"))
        if counted != size:
            raise CorruptStateError(f"document {entry.digest.hex()[:16]} has {size} bytes, its tokens have {counted}", code="OPS-DATA")
        if self._done % PROGRESS_EVERY == 0:
            self._report(Progress(stage="encode", done=self._done, total=self._total))
        self._done += 1
        return tokens

    def _write(self, staging: Staging, name: str, encoded: Sequence[Encoded]) -> Shard:
        index = np.zeros(len(encoded), INDEX)
        lengths = np.array([tokens.size for _, tokens in encoded], np.int64)
        stream = np.full(int(lengths.sum()) + len(encoded), BOS, TOKEN_DTYPE)
        index["tokens"] = lengths
        index["offset"] = np.cumsum(lengths + 1) - lengths
        for record, (entry, tokens) in zip(index, encoded, strict=True):
            start = int(record["offset"])
            stream[start : start + tokens.size] = tokens
            record["digest"] = np.frombuffer(entry.digest, np.uint8)
            record["bytes"] = len(entry.text.encode("utf-8"))
            record["source"] = self._numbers[entry.source]
        return Shard(
            tokens=staging.write(f"{name}.bin", stream.tobytes()),
            index=staging.write(f"{name}.index", index.tobytes()),
            document_count=len(encoded),
            token_count=int(lengths.sum()),
            byte_count=int(index["bytes"].sum(dtype=np.uint64)),
        )
