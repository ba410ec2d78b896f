"""Which document goes where: a pure function of its text.

Each distinct text belongs to exactly one split for ever, so no text of a hidden pool is ever in training
or validation, also after the corpus has grown; and a hidden text belongs to exactly one of K pools and to one of its
shards, so no two validators' pools share a document. Only exact repeats are found: two texts that differ in one
character may land on both sides.
"""

from dataclasses import dataclass
from typing import Literal

from ralph.protocol.canonical import digest
from ralph.protocol.data import HIDDEN_FRACTION, VALIDATION_FRACTION
from ralph.protocol.pool import ShardName

DOCUMENT_TAG = "recipe-net/document/v1"
SPLIT_TAG = "recipe-net/document-split/v1"
POOL_TAG = "recipe-net/document-pool/v1"
SHARD_TAG = "recipe-net/document-shard/v1"
SHARD_QUARTERS: tuple[ShardName, ShardName, ShardName, ShardName] = ("screen", "confirm", "confirm", "audit")
"""Half of a pool confirms, for crowns rest on that and seal further documents of it; a quarter each screens and audits."""
PROGRESS_EVERY = 250

Split = Literal["train", "validation", "hidden"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a preparation is."""

    stage: str
    """``read`` (documents), ``tokenizer``, ``encode`` (buckets) or ``write`` (buckets), in this order."""
    done: int
    total: int | None
    """None while it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A document with its digest."""

    digest: bytes
    source: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fractions:
    """Shares of the documents that are kept from training."""

    hidden: float = HIDDEN_FRACTION
    validation: float = VALIDATION_FRACTION


@dataclass(frozen=True, slots=True, kw_only=True)
class SubPool:
    """Pool k of K, from 0. K and the track's corpus are the same for all validators; k is one validator's own."""

    number: int = 0
    count: int = 1


def document_digest(text: str) -> bytes:
    """Return the digest that names a document and decides its split and its place."""
    return digest(DOCUMENT_TAG, text)


def split_of(document: bytes, fractions: Fractions) -> Split:
    """Return the split of the document with this digest, by a second digest, so that place and split are independent."""
    share = int.from_bytes(digest(SPLIT_TAG, document)[:8], "big") / 2**64
    if share < fractions.hidden:
        return "hidden"
    return "validation" if share < fractions.hidden + fractions.validation else "train"


def pool_of(document: bytes, count: int) -> int:
    """Return which of ``count`` pools a hidden document belongs to."""
    return int.from_bytes(digest(POOL_TAG, document)[:8], "big") % count


def shard_of(document: bytes) -> ShardName:
    """Return the shard of its pool that a hidden document belongs to."""
    return SHARD_QUARTERS[digest(SHARD_TAG, document)[0] % len(SHARD_QUARTERS)]


def has_utf8(text: str) -> bool:
    """Return false for nothing and for lone surrogates, which a Python literal can hold."""
    try:
        return bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False
