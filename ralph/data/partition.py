"""Which document goes where: a pure function of its text.

Each distinct text belongs to exactly one split for ever, so no text of the hidden pool is ever in training
or validation, also after the corpus has grown. Only exact repeats are found: two texts that differ in one
character may land on both sides.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ralph.data.corpora import Document
from ralph.errors import ConfigurationError
from ralph.protocol.canonical import digest

DOCUMENT_TAG = "recipe-net/document/v1"
SPLIT_TAG = "recipe-net/document-split/v1"
HIDDEN_FRACTION = 0.36
"""Of the 8,400 to 9,000 documents of a standard library (Python 3.10 to 3.13) this hides 3,050 to 3,270."""
VALIDATION_FRACTION = 0.05
PROGRESS_EVERY = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a preparation is."""

    stage: str
    """``read``, ``tokenizer`` or ``encode``, in this order."""
    done: int
    total: int | None
    """None while the number of documents is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A document with its digest."""

    digest: bytes
    source: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """The three splits, each sorted by digest."""

    train: Sequence[Entry]
    validation: Sequence[Entry]
    hidden: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.train) + len(self.validation) + len(self.hidden)

    def source_names(self) -> tuple[str, ...]:
        """Return the names of all sources, sorted."""
        return tuple(sorted({entry.source for part in (self.train, self.validation, self.hidden) for entry in part}))


def document_digest(text: str) -> bytes:
    """Return the digest that names a document and decides its split and its place."""
    return digest(DOCUMENT_TAG, text)


def collect(documents: Iterable[Document], report: Callable[[Progress], None]) -> list[Entry]:
    """Return the distinct documents sorted by digest; of equal texts the first one's source counts."""
    entries: dict[bytes, Entry] = {}
    for number, document in enumerate(documents):
        if number % PROGRESS_EVERY == 0:
            report(Progress(stage="read", done=number, total=None))
        if _has_utf8(document.text):
            name = document_digest(document.text)
            entries.setdefault(name, Entry(digest=name, source=document.source, text=document.text))
    return [entries[name] for name in sorted(entries)]


def partition(entries: Sequence[Entry], *, hidden_fraction: float = HIDDEN_FRACTION) -> Partition:
    """Deal documents to the splits by a second digest, so that place and split are independent.

    Raises:
        ConfigurationError: OPS-DATA, a split stays empty.
    """
    hidden: list[Entry] = []
    validation: list[Entry] = []
    train: list[Entry] = []
    for entry in entries:
        share = int.from_bytes(digest(SPLIT_TAG, entry.digest)[:8], "big") / 2**64
        part = hidden if share < hidden_fraction else validation if share < hidden_fraction + VALIDATION_FRACTION else train
        part.append(entry)
    if not train or not validation or not hidden:
        sizes = f"{len(train)} for training, {len(validation)} for validation, {len(hidden)} hidden"
        raise ConfigurationError(f"{len(entries)} distinct documents are too few to split ({sizes}); use a larger corpus", code="OPS-DATA")
    return Partition(train=train, validation=validation, hidden=hidden)


def _has_utf8(text: str) -> bool:
    """Return false for nothing and for lone surrogates, which a Python literal can hold."""
    try:
        return bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False
