"""Documents to verified shards, once, atomically and repeatably, in bounded memory.

Steps (each goes on where a killed process left it, when the corpus can be read again):
1. read: the documents go to a spool, which sorts them by digest;
2. tokenizer: a BPE is trained on training text, unless a tokenizer is given;
3. encode: bucket by bucket, in several processes, documents become tokens of a split and a source;
4. write: the buckets' tokens, in order, become shards in two directories, each of which is replaced as a whole; hidden
   ones are sealed, see ``ralph.data.pool``.

The same documents give the same public bytes, in whatever order they come and however many processes work, and with the same
key the same commitment; sealed bytes differ every time. The key is made when there is none and otherwise used again.
The hidden pool is replaced first; killed exactly between the two, the old public data stay beside a new pool, which the digests in
Rules show, and another run mends. Unfinished work holds hidden documents in the clear, as the corpus does, so it lies
beside the pool, for its owner only, and goes when the preparation ends.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from ralph.data.bpe import train_bpe
from ralph.data.corpora import Corpus, Document, Given, stdlib
from ralph.data.encode import Settings, encode
from ralph.data.layout import FILLER, LENGTHS, MANIFEST, TOKEN_DTYPE, TOKENIZER
from ralph.data.partition import Fractions, Progress, SubPool, split_of
from ralph.data.poolkey import PoolKey, key_beside
from ralph.data.poolwriter import PoolWriter
from ralph.data.spool import Spool, read_leaf
from ralph.data.staging import PRIVATE_MODE, Staging
from ralph.data.tokenizer import Tokenizer, open_tokenizer
from ralph.data.writer import Shards, seal_hidden
from ralph.errors import ConfigurationError
from ralph.protocol.canonical import digest
from ralph.protocol.data import DataManifest, Shard, Source
from ralph.protocol.pool import MAX_POOLS
from ralph.store.files import disk_errors, replace_file

WORK_TAG = "recipe-net/data/preparation/v2"
SAMPLE_BYTES = 32 << 20
"""Training text that a tokenizer is trained on: the first documents by digest."""
FILLER_TEXT = (
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: "
    "once or twice she had peeped into the book her sister was reading, but it had no pictures or conversations in it, "
    '"and what is the use of a book," thought Alice, "without pictures or conversations?" '
    "So she was considering in her own mind (as well as she could, for the hot day made her feel very sleepy and stupid), "
    "whether the pleasure of making a daisy-chain would be worth the trouble of getting up and picking the daisies, "
    "when suddenly a White Rabbit with pink eyes ran close by her. "
)
"""Lewis Carroll, 1865, public domain. Its tokens, repeated, pad every row; padding is never scored."""
DEFAULT_FRACTIONS = Fractions()
ONLY_POOL = SubPool()


def prepare(
    out: Path,
    *,
    hidden: Path,
    vocabulary: int = 512,
    tokenizer: Tokenizer | None = None,
    corpus: Corpus | None = None,
    documents: Iterable[Document] | None = None,
    fractions: Fractions = DEFAULT_FRACTIONS,
    key: Path | None = None,
    sub_pool: SubPool = ONLY_POOL,
    workers: int = 1,
    progress: Callable[[Progress], None] | None = None,
) -> DataManifest:
    """Build the public data in ``out`` and the hidden pool in ``hidden`` (mode 0700), replacing older ones.

    Args:
        out: Directory of the public data.
        hidden: Directory of the hidden pool, outside of ``out``.
        vocabulary: Token ids of the BPE that is trained, at least 257.
        tokenizer: Used instead of training one.
        corpus: Where documents come from; None means ``documents``, or else the standard library of the running Python.
        documents: A corpus that is at hand.
        fractions: Shares of the documents that are hidden, and that validate.
        key: File of the pool's key, outside of both; by default beside ``hidden``. Made when it is not there.
        sub_pool: Which of how many validators' pools this is. Hidden documents of the others go nowhere.
        workers: Processes that encode.
        progress: Called now and then with how far it is.

    Raises:
        ConfigurationError: a directory that cannot be used, or a corpus too small to split.
        CorruptStateError: unfinished work that is damaged.
        InfrastructureError: OPS-DISK, no room; of a corpus that can be read again, finished work is kept.
    """
    report = progress or _silent
    key = key or key_beside(hidden)
    _refuse_nesting(out.absolute(), hidden.absolute(), key.absolute(), sub_pool)
    if corpus is None:
        corpus = stdlib() if documents is None else Given(texts=documents)
    plan = digest(
        WORK_TAG, [corpus.identity or "", vocabulary, tokenizer.to_bytes() if tokenizer else b"", repr(fractions), repr(sub_pool)]
    )
    with Staging(out) as public, Staging(hidden, mode=PRIVATE_MODE) as private, ExitStack() as cleaning:
        work = hidden.absolute().with_name(f".{hidden.name}.work")
        if corpus.identity is None:
            cleaning.callback(shutil.rmtree, work, ignore_errors=True)
        _take_up(work, plan, fresh=corpus.identity is None)
        spool = Spool(work)
        spool.fill(corpus, report)
        leaves = list(spool.leaves())
        made, size = _tokenizer(work, _sample(leaves, spool.sources, fractions), tokenizer, vocabulary, report)
        settings = Settings(tokenizer=made, vocabulary=size, sources=tuple(spool.sources), fractions=fractions, sub_pool=sub_pool)
        parts = encode(leaves, work / "parts", settings, workers=workers, report=report)
        manifest = _write(parts, settings, corpus.name, public=public, private=private, key=key, report=report)
        private.commit()
        public.commit()
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def _silent(progress: Progress) -> None:
    del progress


def _refuse_nesting(out: Path, hidden: Path, key: Path, sub_pool: SubPool) -> None:
    if out == hidden or out in hidden.parents or hidden in out.parents:
        raise ConfigurationError(f"the hidden pool {hidden} and the public data {out} must be separate directories")
    if {out, hidden} & {key, *key.parents}:
        raise ConfigurationError(f"the key {key} must be outside of the data and of the pool that it opens")
    if not 0 <= sub_pool.number < sub_pool.count <= MAX_POOLS:
        raise ConfigurationError(
            f"there is no pool {sub_pool.number} of {sub_pool.count}: pools count from 0, and at most {MAX_POOLS} exist"
        )


def _take_up(work: Path, plan: bytes, *, fresh: bool) -> None:
    """Keep the unfinished work of the same preparation, and remove any other."""
    mark = work / "plan"
    if work.exists() and (fresh or not mark.exists() or mark.read_bytes() != plan):
        shutil.rmtree(work)
    with disk_errors(work):
        work.mkdir(mode=PRIVATE_MODE, exist_ok=True)
    replace_file(mark, plan)


def _tokenizer(
    work: Path, sample: Iterable[str], tokenizer: Tokenizer | None, vocabulary: int, report: Callable[[Progress], None]
) -> tuple[bytes, int]:
    """Return the tokenizer's bytes and its vocabulary; train one unless there is one."""
    if tokenizer is not None:
        return tokenizer.to_bytes(), tokenizer.vocabulary
    trained = work / TOKENIZER
    if not trained.exists():
        report(Progress(stage="tokenizer", done=0, total=1))
        replace_file(trained, train_bpe(sample, vocabulary=vocabulary).to_bytes())
    return trained.read_bytes(), vocabulary


def _sample(leaves: Sequence[tuple[str, Path]], sources: Sequence[str], fractions: Fractions) -> Iterable[str]:
    left = SAMPLE_BYTES
    for _, leaf in leaves:
        for entry in read_leaf(leaf, list(sources)):
            if split_of(entry.digest, fractions) == "train":
                yield entry.text
                left -= len(entry.text)
        if left <= 0:
            return


def _write(
    parts: Sequence[Path],
    settings: Settings,
    corpus: str,
    *,
    public: Staging,
    private: Staging,
    key: Path,
    report: Callable[[Progress], None],
) -> DataManifest:
    """Write the public shards and the sealed pool. A new key is written before the pool gets its name, so no pool is without one."""
    secret = PoolKey.take(key)
    pool = PoolWriter(private, key=secret, source_names=settings.source_names)
    shards = Shards(public, pool)
    shards.add(parts, lambda done: report(Progress(stage="write", done=done, total=len(parts))))
    validation = _kept(shards, pool, settings)
    manifest = _write_manifest(shards, validation, settings, corpus, public)
    pool.commit(tokenizer=manifest.tokenizer.sha256, vocabulary=manifest.vocabulary, sub_pool=settings.sub_pool)
    seal_hidden(parts, pool)
    if not key.exists():
        secret.keep()
    report(Progress(stage="write", done=len(parts), total=len(parts)))
    return manifest


def _write_manifest(shards: Shards, validation: Shard, settings: Settings, corpus: str, public: Staging) -> DataManifest:
    """Write what the public shards need beside them and their manifest."""
    tokenizer = open_tokenizer(settings.tokenizer, vocabulary=settings.vocabulary)
    described = {
        "tokenizer": public.write(TOKENIZER, settings.tokenizer),
        "token_bytes": public.write(LENGTHS, tokenizer.token_bytes.tobytes()),
        "filler": public.write(FILLER, tokenizer.encode(FILLER_TEXT).astype(TOKEN_DTYPE).tobytes()),
    }
    sources = tuple(Source(name=name, shards=shards.train(name)) for name in settings.source_names)
    manifest = DataManifest.over(corpus=corpus, vocabulary=settings.vocabulary, sources=sources, validation=validation, **described)
    public.write(MANIFEST, manifest.to_bytes())
    return manifest


def _kept(shards: Shards, pool: PoolWriter, settings: Settings) -> Shard:
    """Return the validation shard. Raises ConfigurationError, OPS-DATA, when a split or a hidden shard stayed empty."""
    validation, hidden = shards.validation(), pool.documents()
    train = sum(shard.document_count for name in settings.source_names for shard in shards.train(name))
    if validation is None or not train or not all(hidden.values()):
        counts = [train, validation.document_count if validation else 0, *hidden.values()]
        sizes = "{} for training, {} for validation, hidden {} to screen, {} to confirm, {} to audit".format(*counts)
        raise ConfigurationError(f"{sum(counts)} distinct documents are too few to split ({sizes}); use a larger corpus", code="OPS-DATA")
    return validation
