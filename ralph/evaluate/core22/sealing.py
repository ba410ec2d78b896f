"""Seal private items: commit to them, add to them, replace a tenth of them by new ones.

Everything is written by the hidden pool's own code, in a directory of its own under a key of its own.
"""

from collections.abc import Sequence
from pathlib import Path

from ralph.data.encode import stretch_of
from ralph.data.partition import Entry, Fractions, SubPool, document_digest, shard_of
from ralph.data.pool import HiddenPool
from ralph.data.poolkey import PoolKey
from ralph.data.poolwriter import PoolWriter
from ralph.data.refresh import refresh
from ralph.data.staging import PRIVATE_MODE, Staging
from ralph.errors import ConfigurationError
from ralph.evaluate.core22.items import CODE, item_digest
from ralph.evaluate.core22.private import BYTES, SCHEMAS, VOCABULARY, PrivateItem, items_of, tokenizer_digest
from ralph.protocol.pool import SHARDS, PoolCommitment, ShardName

EVERYTHING = Fractions(hidden=1.0, validation=0.0)


def seal(out: Path, items: Sequence[PrivateItem], *, key: PoolKey) -> PoolCommitment:
    """Commit to items and seal them in ``out``; a new pool, which follows no other.

    Raises:
        ConfigurationError: ``OPS-DATA``, there are none.
    """
    if not items:
        raise ConfigurationError("there are no items to seal", code=CODE)
    entries: dict[ShardName, list[Entry]] = {name: [] for name in SHARDS}
    for document in sorted((item.document() for item in items), key=lambda one: document_digest(one.text)):
        named = document_digest(document.text)
        entries[shard_of(named)].append(Entry(digest=named, source=document.source, text=document.text))
    stretches = {name: stretch_of(found, BYTES, SCHEMAS) for name, found in entries.items()}
    with Staging(out, mode=PRIVATE_MODE) as staging:
        writer = PoolWriter(staging, key=key, source_names=SCHEMAS)
        for name, stretch in stretches.items():
            writer.note(name, stretch)
        commitment = writer.commit(tokenizer=tokenizer_digest(), vocabulary=VOCABULARY, sub_pool=SubPool())
        for name, stretch in stretches.items():
            writer.seal(name, stretch)
        writer.close()
        staging.commit()
    return commitment


def add(out: Path, old: HiddenPool, items: Sequence[PrivateItem]) -> PoolCommitment:
    """Seal the items of ``old`` and these together in ``out``, under the same key. They are another commitment, and no refresh.

    Raises:
        ConfigurationError: ``OPS-DATA``, an item that is there already, or the directory of the old ones.
    """
    _refuse_same(out, old)
    held = all_items(old)
    known = {item_digest(item.item) for item in held}
    again = sum(item_digest(item.item) in known for item in items)
    if again:
        raise ConfigurationError(f"{again} of {len(items)} items are sealed already", code=CODE)
    return seal(out, (*held, *items), key=old.key)


def renew(out: Path, old: HiddenPool, items: Sequence[PrivateItem]) -> PoolCommitment:
    """Replace a tenth of the items of each shard by new ones, as ``ralph.data.refresh`` does with documents.

    Raises:
        ConfigurationError: ``OPS-DATA``, too few new items that belong into a shard.
    """
    return refresh(out, old, tokenizer=BYTES, documents=[item.document() for item in items], fractions=EVERYTHING)


def all_items(pool: HiddenPool) -> tuple[PrivateItem, ...]:
    """Return the items of all shards."""
    return tuple(item for name in SHARDS for item in items_of(pool, name))


def _refuse_same(out: Path, old: HiddenPool) -> None:
    if out.absolute() == old.directory.absolute():
        raise ConfigurationError(f"write to another directory than {out}: the old commitment is in force until the Rules name the new one")
