"""Documents to verified shards, once, atomically and repeatably, in bounded memory.

Steps (each goes on where a killed process left it, when the corpus can be read again):
1. read: the documents go to a spool, which sorts them by digest;
2. tokenizer: a BPE is trained on training text, unless a tokenizer is given;
3. encode: bucket by bucket, in several processes, documents become tokens of a split and a source;
4. write: the buckets' tokens, in order, become shards in two directories, each of which is replaced as a whole.

The same documents give the same bytes, in whatever order they come and however many processes work. The hidden pool is
replaced first; killed exactly between the two, the old public data stay beside a new pool, which the digests in Rules show,
and another run mends. Unfinished work holds hidden documents, so it lies beside the pool, for its owner only.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from ralph.data.bpe import train_bpe
from ralph.data.corpora import Corpus, Document, Given, stdlib
from ralph.data.encode import Settings, encode
from ralph.data.layout import FILLER, LENGTHS, MANIFEST, TOKEN_DTYPE, TOKENIZER
from ralph.data.partition import Fractions, Progress, split_of
from ralph.data.spool import Spool, read_leaf
from ralph.data.staging import PRIVATE_MODE, Staging
from ralph.data.tokenizer import Tokenizer, open_tokenizer
from ralph.data.writer import Shards
from ralph.errors import ConfigurationError
from ralph.protocol.canonical import digest
from ralph.protocol.data import DataManifest, HiddenManifest, Shard, Source
from ralph.store.files import disk_errors, replace_file

WORK_TAG = "recipe-net/data/preparation/v1"
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


def prepare(
    out: Path,
    *,
    hidden: Path,
    vocabulary: int = 512,
    tokenizer: Tokenizer | None = None,
    corpus: Corpus | None = None,
    documents: Iterable[Document] | None = None,
    fractions: Fractions = DEFAULT_FRACTIONS,
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
        workers: Processes that encode.
        progress: Called now and then with how far it is.

    Raises:
        ConfigurationError: a directory that cannot be used, or a corpus too small to split.
        CorruptStateError: unfinished work that is damaged.
        InfrastructureError: OPS-DISK, no room; of a corpus that can be read again, finished work is kept.
    """
    report = progress or _silent
    _refuse_nesting(out.absolute(), hidden.absolute())
    if corpus is None:
        corpus = stdlib() if documents is None else Given(texts=documents)
    plan = digest(WORK_TAG, [corpus.identity or "", vocabulary, tokenizer.to_bytes() if tokenizer else b"", repr(fractions)])
    with Staging(out) as public, Staging(hidden, mode=PRIVATE_MODE) as private, ExitStack() as cleaning:
        work = hidden.absolute().with_name(f".{hidden.name}.work")
        if corpus.identity is None:
            cleaning.callback(shutil.rmtree, work, ignore_errors=True)
        _take_up(work, plan, fresh=corpus.identity is None)
        spool = Spool(work)
        spool.fill(corpus, report)
        leaves = list(spool.leaves())
        settings = _settings(work, leaves, spool.sources, tokenizer, vocabulary, fractions, report)
        parts = encode(leaves, work / "parts", settings, workers=workers, report=report)
        shards = Shards(public, private)
        shards.add(parts, lambda done: report(Progress(stage="write", done=done, total=len(parts))))
        manifest = _write_manifests(shards, settings, corpus.name, public, private)
        report(Progress(stage="write", done=len(parts), total=len(parts)))
        private.commit()
        public.commit()
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def _silent(progress: Progress) -> None:
    del progress


def _refuse_nesting(out: Path, hidden: Path) -> None:
    if out == hidden or out in hidden.parents or hidden in out.parents:
        raise ConfigurationError(f"the hidden pool {hidden} and the public data {out} must be separate directories")


def _take_up(work: Path, plan: bytes, *, fresh: bool) -> None:
    """Keep the unfinished work of the same preparation, and remove any other."""
    mark = work / "plan"
    if work.exists() and (fresh or not mark.exists() or mark.read_bytes() != plan):
        shutil.rmtree(work)
    with disk_errors(work):
        work.mkdir(mode=PRIVATE_MODE, exist_ok=True)
    replace_file(mark, plan)


def _settings(
    work: Path,
    leaves: Sequence[tuple[str, Path]],
    sources: Sequence[str],
    tokenizer: Tokenizer | None,
    vocabulary: int,
    fractions: Fractions,
    report: Callable[[Progress], None],
) -> Settings:
    """Return what the encoding depends on; train the tokenizer unless there is one."""
    trained = work / TOKENIZER
    if tokenizer is None and not trained.exists():
        report(Progress(stage="tokenizer", done=0, total=1))
        replace_file(trained, train_bpe(_sample(leaves, list(sources), fractions), vocabulary=vocabulary).to_bytes())
    data = trained.read_bytes() if tokenizer is None else tokenizer.to_bytes()
    size = vocabulary if tokenizer is None else tokenizer.vocabulary
    return Settings(tokenizer=data, vocabulary=size, sources=tuple(sources), fractions=fractions)


def _sample(leaves: Sequence[tuple[str, Path]], sources: list[str], fractions: Fractions) -> Iterable[str]:
    left = SAMPLE_BYTES
    for _, leaf in leaves:
        for entry in read_leaf(leaf, sources):
            if split_of(entry.digest, fractions) == "train":
                yield entry.text
                left -= len(entry.text)
        if left <= 0:
            return


def _write_manifests(shards: Shards, settings: Settings, corpus: str, public: Staging, private: Staging) -> DataManifest:
    """Write what the shards need beside them and the two manifests."""
    tokenizer = open_tokenizer(settings.tokenizer, vocabulary=settings.vocabulary)
    filler = tokenizer.encode(FILLER_TEXT).astype(TOKEN_DTYPE).tobytes()
    lengths = tokenizer.token_bytes.tobytes()
    validation, hidden = _kept(shards, settings)
    described = {
        "tokenizer": public.write(TOKENIZER, settings.tokenizer),
        "token_bytes": public.write(LENGTHS, lengths),
        "filler": public.write(FILLER, filler),
    }
    sources = tuple(Source(name=name, shards=shards.train(name)) for name in settings.source_names)
    manifest = DataManifest.over(corpus=corpus, vocabulary=settings.vocabulary, sources=sources, validation=validation, **described)
    public.write(MANIFEST, manifest.to_bytes())
    pool = HiddenManifest(
        corpus=corpus,
        vocabulary=settings.vocabulary,
        tokenizer=manifest.tokenizer.sha256,
        token_bytes=private.write(LENGTHS, lengths),
        filler=private.write(FILLER, filler),
        source_names=manifest.source_names,
        documents=hidden,
    )
    private.write(MANIFEST, pool.to_bytes())
    return manifest


def _kept(shards: Shards, settings: Settings) -> tuple[Shard, Shard]:
    """Return the validation shard and the hidden pool's. Raises ConfigurationError, OPS-DATA, when a split stayed empty."""
    validation, hidden = shards.only("validation"), shards.only("hidden")
    train = sum(shard.document_count for name in settings.source_names for shard in shards.train(name))
    if validation is None or hidden is None or not train:
        counts = [train, validation.document_count if validation else 0, hidden.document_count if hidden else 0]
        sizes = "{} for training, {} for validation, {} hidden".format(*counts)
        raise ConfigurationError(f"{sum(counts)} distinct documents are too few to split ({sizes}); use a larger corpus", code="OPS-DATA")
    return validation, hidden
