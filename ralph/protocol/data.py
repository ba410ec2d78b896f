"""The manifest of the public data.

A manifest names every file of its directory with size and SHA-256, so its own digest, which Rules name, fixes
all of them. What is said of hidden data is in ``ralph.protocol.pool``. A manifest says nothing about where files are; names are plain file
names inside one directory, so that no manifest can point outside of it.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from ralph.protocol.canonical import U64, Canonical, Digest
from ralph.protocol.merkle import tree_hash

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
"""Room for about 15,000 shards."""

FileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,99}$")]
"""A file name inside the manifest's directory: never a path, never hidden."""

SOURCE_NAME = r"^[a-z][a-z0-9_]{0,31}$"
SourceName = Annotated[str, Field(pattern=SOURCE_NAME)]
"""A named source of text that a recipe's mixture may weigh."""

Vocabulary = Annotated[int, Field(ge=257, le=65536)]
"""Token ids: one BOS, 256 bytes, merges. Tokens are stored as uint16."""

HIDDEN_FRACTION = 0.36
"""Of the 8,400 to 9,000 documents of a standard library (Python 3.10 to 3.13) this hides 3,050 to 3,270."""
VALIDATION_FRACTION = 0.05

BOS = 0
"""The token id that begins every document."""


class StoredFile(Canonical):
    """One file, fixed by its content."""

    TAG: ClassVar[str] = "recipe-net/data/file/v1"

    name: FileName
    size_bytes: U64
    sha256: Digest


class Shard(Canonical):
    """Tokens of some documents and the index over them.

    ``tokens`` is little-endian uint16: BOS and then the document, for every document. ``index`` has one
    record per document, see ``ralph.data.layout.INDEX``.
    """

    TAG: ClassVar[str] = "recipe-net/data/shard/v1"

    tokens: StoredFile
    index: StoredFile
    document_count: U64
    token_count: U64
    """Tokens of the documents, without their BOS."""
    byte_count: U64
    """UTF-8 bytes of the documents."""


class Source(Canonical):
    """One named source of training text."""

    TAG: ClassVar[str] = "recipe-net/data/source/v1"

    name: SourceName
    shards: tuple[Shard, ...]


class DataManifest(Canonical):
    """Everything public: training shards by source, the validation shard, the tokenizer.

    Whoever has one file, its entry and a path to ``root`` needs no other part of the manifest.
    """

    TAG: ClassVar[str] = "recipe-net/data-manifest/v1"

    corpus: str
    """Where the text came from, for people."""
    vocabulary: Vocabulary
    tokenizer: StoredFile
    token_bytes: StoredFile
    """uint8[vocabulary]: UTF-8 bytes of each token; 0 for BOS and for ids that no text produces."""
    filler: StoredFile
    """uint16: tokens of an unrelated public text, the pattern that pads rows."""
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    validation: Shard
    root: Digest
    """Merkle root over the entries of all files, in the order of ``files``."""

    @classmethod
    def over(cls, **fields: Any) -> "DataManifest":
        """Return the manifest with these fields and the root that follows from them."""
        draft = cls.model_construct(**fields)
        return cls(**fields, root=merkle_root(draft.files()))

    @model_validator(mode="after")
    def _root_is_over_the_files(self) -> "DataManifest":
        if self.root != merkle_root(self.files()):
            raise ValueError("root is not the Merkle root over the files")
        return self

    @property
    def source_names(self) -> tuple[str, ...]:
        """Return the names of the sources in their order."""
        return tuple(source.name for source in self.sources)

    def shards(self) -> Iterator[Shard]:
        """Yield every shard."""
        for source in self.sources:
            yield from source.shards
        yield self.validation

    def files(self) -> Iterator[StoredFile]:
        """Yield every file of the directory but the manifest itself."""
        yield from (self.tokenizer, self.token_bytes, self.filler)
        for shard in self.shards():
            yield from (shard.tokens, shard.index)


def merkle_root(files: Iterable[StoredFile]) -> bytes:
    """Return the Merkle root over the entries of ``files``."""
    return tree_hash([file.to_bytes() for file in files])
