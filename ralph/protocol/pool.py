"""The hidden pool of one validator as everybody sees it: its commitment, its openings, its refreshes.

The hidden documents of a track are split over K validators, and those of one validator over three shards. A validator
publishes a PoolCommitment before anything is drawn: for each shard the Merkle root over one salted leaf per document.
The salt keeps others from checking a guessed document against a leaf. Once documents have been used up, an Opening of
each shows that they are the ones that were committed to, and everybody can score them again.

A refresh replaces what was opened, and a tenth of the other documents, by newer text. Its commitment names the one before it,
and the PoolLeaves of both say which documents stayed: leaves are made of salt, source and tokens alone, so a document keeps
its leaf.

What this does **not** promise: that the text is good, new, or unknown to miners, and that two pools are disjoint while
they are closed. Who has the tokenizer can check of every opened document where its digest puts it, see
``ralph.data.partition``.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import U64, Canonical, Digest, digest
from ralph.protocol.data import SourceName, Vocabulary
from ralph.protocol.merkle import HASH_BYTES, tree_hash, verify_inclusion

ShardName = Literal["screen", "confirm", "audit"]
SHARDS: tuple[ShardName, ...] = get_args(ShardName)

LEAF_TAG = "recipe-net/pool/document/v1"
MAX_POOLS = 4096
MAX_PATH = 48
"""Steps of an inclusion path: more than any shard that fits on a disk needs."""
MAX_DOCUMENT_BYTES = 32 << 20
"""Tokens of one document: twice the 16 MiB of text that preparing data allows, for tokens of one byte each."""
MAX_LEAVES_BYTES = 256 << 20
"""Leaves of eight million documents."""
MAX_OPENINGS_BYTES = 256 << 20
REFRESHED_PART = 10
"""Of what was not opened, at most one document in this many is replaced at a refresh, rounded up."""


class SourceCount(Canonical):
    """How many documents of a source a shard has."""

    TAG: ClassVar[str] = "recipe-net/pool/source-count/v1"

    source: SourceName
    documents: U64


class ShardCommitment(Canonical):
    """What a validator commits to of one shard."""

    TAG: ClassVar[str] = "recipe-net/pool/shard/v1"

    shard: ShardName
    root: Digest
    """RFC 6962 root over the leaves, in the order of the documents."""
    sources: Annotated[tuple[SourceCount, ...], Field(min_length=1, max_length=1024)]
    """Every source of the track in the order of the data's manifest, also one without documents here."""

    @property
    def documents(self) -> int:
        """Return how many documents the shard has."""
        return sum(one.documents for one in self.sources)


class PoolCommitment(Canonical):
    """The commitment to one validator's hidden pool. Its digest is in the Rules and in every anchor."""

    TAG: ClassVar[str] = "recipe-net/pool/commitment/v1"

    tokenizer: Digest
    """SHA-256 of the tokenizer that made these tokens."""
    vocabulary: Vocabulary
    pool: U64
    """k: which of the pools, from 0."""
    pools: Annotated[U64, Field(ge=1, le=MAX_POOLS)]
    """K: over how many validators the hidden documents are split."""
    refresh: U64
    """0 for a new pool; one more at every refresh."""
    previous: Digest | None
    """Digest of the commitment that this one refreshes."""
    shards: tuple[ShardCommitment, ShardCommitment, ShardCommitment]

    @model_validator(mode="after")
    def _is_consistent(self) -> "PoolCommitment":
        if self.pool >= self.pools:
            raise ValueError(f"there is no pool {self.pool} of {self.pools}")
        if (self.previous is None) != (self.refresh == 0):
            raise ValueError("a refresh names the commitment before it, and a new pool names none")
        if tuple(one.shard for one in self.shards) != SHARDS:
            raise ValueError(f"the shards are not {', '.join(SHARDS)}")
        names = [tuple(count.source for count in one.sources) for one in self.shards]
        if any(other != names[0] for other in names) or len(set(names[0])) != len(names[0]):
            raise ValueError("the shards do not name the same sources once each")
        return self

    @property
    def source_names(self) -> tuple[str, ...]:
        """Return the names of the sources in their order."""
        return tuple(one.source for one in self.shards[0].sources)

    def shard(self, name: ShardName) -> ShardCommitment:
        """Return what is said of one shard."""
        return self.shards[SHARDS.index(name)]


def leaves_name(commitment: bytes) -> str:
    """Return the store name under which a validator publishes the store key of a pool's PoolLeaves."""
    return f"pools/{commitment.hex()}"


def leaf_of(*, salt: bytes, source: str, tokens: bytes) -> bytes:
    """Return the leaf of a document: ``tokens`` are little-endian uint16, without BOS."""
    return digest(LEAF_TAG, {"salt": salt, "source": source, "tokens": tokens})


class Opening(Canonical):
    """One document of a pool with the proof that the commitment contains it."""

    TAG: ClassVar[str] = "recipe-net/pool/opening/v1"

    commitment: Digest
    shard: ShardName
    index: U64
    """Place of the document in its shard."""
    source: SourceName
    salt: Digest
    tokens: Annotated[bytes, Field(min_length=2, max_length=MAX_DOCUMENT_BYTES)]
    """Little-endian uint16, without BOS."""
    path: Annotated[tuple[Digest, ...], Field(max_length=MAX_PATH)]
    """RFC 9162 inclusion proof."""

    def leaf(self) -> bytes:
        """Return the leaf that salt, source and tokens make."""
        return leaf_of(salt=self.salt, source=self.source, tokens=self.tokens)

    def verify(self, commitment: PoolCommitment) -> None:
        """Check that ``commitment`` contains this document at this place.

        Raises:
            UntrustedInputError: INT-HASH, it does not; INT-SCHEMA, the tokens are none of this vocabulary.
        """
        if self.commitment != commitment.digest():
            raise UntrustedInputError("INT-HASH", f"the opening is of the pool {self.commitment.hex()[:16]}, not of this commitment")
        shard = commitment.shard(self.shard)
        if not verify_inclusion(leaf=self.leaf(), index=self.index, size=shard.documents, proof=self.path, root=shard.root):
            raise UntrustedInputError("INT-HASH", f"document {self.index} of {self.shard} is not the one that was committed to")
        if len(self.tokens) % 2 or any(token >= commitment.vocabulary for (token,) in struct.iter_unpack("<H", self.tokens)):
            raise UntrustedInputError("INT-SCHEMA", f"document {self.index} of {self.shard} is no tokens of the vocabulary")


class Subset(Canonical):
    """Which documents of a pool a run is scored on: two numbers can be compared only where it is the same."""

    TAG: ClassVar[str] = "recipe-net/pool/subset/v1"

    shard: ShardName
    rotation: U64
    """In which they were drawn."""
    crown: U64 | None = None
    """Round of the crown that sealed them; None for the documents of the rotation itself."""

    @property
    def key(self) -> str:
        """Return a short unique text for names, event keys and logs."""
        return f"{self.shard}-{self.rotation}" if self.crown is None else f"{self.shard}-{self.rotation}-crown-{self.crown}"


class OpenedSubset(Canonical):
    """The documents of one subset, opened together when it is over. Which they must be, ``ralph.evaluate.active`` says."""

    TAG: ClassVar[str] = "recipe-net/pool/opened-subset/v1"

    hotkey: Annotated[str, Field(max_length=128)]
    subset: Subset
    openings: tuple[Opening, ...]
    """By their index."""


class PoolLeaves(Canonical):
    """The leaves of all shards. They may be published with the commitment: a salted leaf says nothing about its document."""

    TAG: ClassVar[str] = "recipe-net/pool/leaves/v1"

    shards: tuple[bytes, bytes, bytes]

    @classmethod
    def of(cls, leaves: Mapping[ShardName, Sequence[bytes]]) -> "PoolLeaves":
        """Return the leaves of every shard, in the order of its documents."""
        screen, confirm, audit = (b"".join(leaves[name]) for name in SHARDS)
        return cls(shards=(screen, confirm, audit))

    @model_validator(mode="after")
    def _is_whole(self) -> "PoolLeaves":
        if any(len(one) % HASH_BYTES for one in self.shards):
            raise ValueError("a leaf is cut")
        return self

    def shard(self, name: ShardName) -> tuple[bytes, ...]:
        """Return the leaves of one shard."""
        data = self.shards[SHARDS.index(name)]
        return tuple(data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES))

    def verify(self, commitment: PoolCommitment) -> None:
        """Check that these are the leaves under the commitment's roots. Raises UntrustedInputError INT-HASH."""
        if len({leaf for name in SHARDS for leaf in self.shard(name)}) * HASH_BYTES != sum(map(len, self.shards)):
            raise UntrustedInputError("INT-HASH", "a document is in the pool twice")
        for said in commitment.shards:
            leaves = self.shard(said.shard)
            if len(leaves) != said.documents or tree_hash(leaves) != said.root:
                raise UntrustedInputError("INT-HASH", f"the {len(leaves)} leaves of {said.shard} are not the committed {said.documents}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardChange:
    """What a refresh did to one shard."""

    shard: ShardName
    stayed: frozenset[bytes]
    """Leaves that both commitments contain."""
    removed: frozenset[bytes]
    added: frozenset[bytes]


def verify_refresh(
    old: PoolCommitment, old_leaves: PoolLeaves, new: PoolCommitment, new_leaves: PoolLeaves, *, opened: frozenset[bytes] = frozenset()
) -> tuple[ShardChange, ShardChange, ShardChange]:
    """Say which documents stayed, and check that ``new`` is no more than a refresh of ``old``.

    Args:
        old: The commitment before.
        old_leaves: Its leaves.
        new: The commitment that follows.
        new_leaves: Its leaves.
        opened: Leaves of documents that were opened before: they may all be replaced.

    Raises:
        UntrustedInputError: INT-HASH, leaves that are not the committed ones, or a commitment that names another one
            before it; INT-SIZE, beside the opened ones more than a tenth of a shard, rounded up, was taken out or put in.
    """
    old_leaves.verify(old)
    new_leaves.verify(new)
    same = ("tokenizer", "vocabulary", "pool", "pools", "source_names")
    changed = [name for name in same if getattr(old, name) != getattr(new, name)]
    if new.previous != old.digest() or new.refresh != old.refresh + 1 or changed:
        detail = f"commitment {new.digest().hex()[:16]} does not follow {old.digest().hex()[:16]}"
        raise UntrustedInputError("INT-HASH", f"{detail}: {', '.join(changed) or 'it names another one before it'}")
    screen, confirm, audit = (_change(name, old_leaves, new_leaves, opened) for name in SHARDS)
    return screen, confirm, audit


def refreshed_documents(documents: int) -> int:
    """Return how many documents of a shard a refresh may replace, beside those that were opened."""
    return -(-documents // REFRESHED_PART)


def _change(name: ShardName, old_leaves: PoolLeaves, new_leaves: PoolLeaves, opened: frozenset[bytes]) -> ShardChange:
    old, new = frozenset(old_leaves.shard(name)), frozenset(new_leaves.shard(name))
    change = ShardChange(shard=name, stayed=old & new, removed=old - new, added=new - old)
    allowed, retired = refreshed_documents(len(old)), len(change.removed & opened)
    if max(len(change.removed), len(change.added)) - retired > allowed:
        detail = f"a refresh of {name} took out {len(change.removed)} of {len(old)} documents and put in {len(change.added)}"
        raise UntrustedInputError("INT-SIZE", f"{detail}; at most {allowed} may change beside the {retired} that were opened")
    return change
