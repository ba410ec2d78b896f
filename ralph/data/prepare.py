"""Documents to verified shards, once, atomically and repeatably.

The tokenizer is trained on training text only. The same documents give the same bytes. The corpus is held
in memory: this is for corpora of up to some GB. Each of the two directories is replaced as a whole, the hidden
pool first; killed exactly between the two, the old public data stay beside a new pool, which the digests in
Rules show, and another run mends.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from ralph.data.corpora import Document, stdlib_documents, stdlib_name
from ralph.data.layout import FILLER, HIDDEN, LENGTHS, MANIFEST, TOKEN_DTYPE, TOKENIZER, VALIDATION
from ralph.data.partition import HIDDEN_FRACTION, Partition, Progress, collect, partition
from ralph.data.staging import PRIVATE_MODE, Staging
from ralph.data.tokenizer import Tokenizer, train_bpe
from ralph.data.writer import ShardWriter
from ralph.errors import ConfigurationError
from ralph.protocol.data import DataManifest, HiddenManifest

FILLER_TEXT = (
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: "
    "once or twice she had peeped into the book her sister was reading, but it had no pictures or conversations in it, "
    '"and what is the use of a book," thought Alice, "without pictures or conversations?" '
    "So she was considering in her own mind (as well as she could, for the hot day made her feel very sleepy and stupid), "
    "whether the pleasure of making a daisy-chain would be worth the trouble of getting up and picking the daisies, "
    "when suddenly a White Rabbit with pink eyes ran close by her. "
)
"""Lewis Carroll, 1865, public domain. Its tokens, repeated, pad every row; padding is never scored."""


def prepare(
    out: Path,
    *,
    hidden: Path,
    vocabulary: int = 512,
    documents: Iterable[Document] | None = None,
    corpus: str = "documents",
    hidden_fraction: float = HIDDEN_FRACTION,
    progress: Callable[[Progress], None] | None = None,
) -> DataManifest:
    """Build the public data in ``out`` and the hidden pool in ``hidden`` (mode 0700), replacing older ones.

    Args:
        out: Directory of the public data.
        hidden: Directory of the hidden pool, outside of ``out``.
        vocabulary: Token ids, at least 257.
        documents: The corpus; None means the standard library of the running Python.
        corpus: Where ``documents`` come from, for people.
        hidden_fraction: Share of the documents that are hidden.
        progress: Called now and then with how far it is.

    Raises:
        ConfigurationError: a directory that cannot be used, or a corpus too small to split.
        InfrastructureError: OPS-DISK, no room; nothing half-made is left.
    """
    report = progress or _silent
    _refuse_nesting(out.absolute(), hidden.absolute())
    if documents is None:
        documents, corpus = stdlib_documents(), stdlib_name()
    with Staging(out) as public, Staging(hidden, mode=PRIVATE_MODE) as private:
        parts = partition(collect(documents, report), hidden_fraction=hidden_fraction)
        report(Progress(stage="tokenizer", done=0, total=1))
        tokenizer = train_bpe((entry.text for entry in parts.train), vocabulary=vocabulary)
        writer = ShardWriter(tokenizer=tokenizer, source_names=parts.source_names(), total=len(parts), report=report)
        manifest = _write_public(parts, tokenizer, writer, corpus, public)
        _write_hidden(parts, tokenizer, writer, manifest, private)
        report(Progress(stage="encode", done=len(parts), total=len(parts)))
        private.commit()
        public.commit()
    return manifest


def _silent(progress: Progress) -> None:
    del progress


def _refuse_nesting(out: Path, hidden: Path) -> None:
    if out == hidden or out in hidden.parents or hidden in out.parents:
        raise ConfigurationError(f"the hidden pool {hidden} and the public data {out} must be separate directories")


def _filler(tokenizer: Tokenizer) -> bytes:
    return tokenizer.encode(FILLER_TEXT).astype(TOKEN_DTYPE).tobytes()


def _write_public(parts: Partition, tokenizer: Tokenizer, writer: ShardWriter, corpus: str, staging: Staging) -> DataManifest:
    names = parts.source_names()
    by_source = {name: [entry for entry in parts.train if entry.source == name] for name in names}
    manifest = DataManifest(
        corpus=corpus,
        vocabulary=tokenizer.vocabulary,
        tokenizer=staging.write(TOKENIZER, tokenizer.to_bytes()),
        token_bytes=staging.write(LENGTHS, tokenizer.token_bytes.tobytes()),
        filler=staging.write(FILLER, _filler(tokenizer)),
        sources=tuple(writer.source(staging, name, by_source[name]) for name in names),
        validation=writer.shard(staging, VALIDATION, parts.validation),
    )
    staging.write(MANIFEST, manifest.to_bytes())
    return manifest


def _write_hidden(parts: Partition, tokenizer: Tokenizer, writer: ShardWriter, public: DataManifest, staging: Staging) -> None:
    manifest = HiddenManifest(
        corpus=public.corpus,
        vocabulary=tokenizer.vocabulary,
        tokenizer=public.tokenizer.sha256,
        token_bytes=staging.write(LENGTHS, tokenizer.token_bytes.tobytes()),
        filler=staging.write(FILLER, _filler(tokenizer)),
        source_names=public.source_names,
        documents=writer.shard(staging, HIDDEN, parts.hidden),
    )
    staging.write(MANIFEST, manifest.to_bytes())
