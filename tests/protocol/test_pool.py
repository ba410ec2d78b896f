"""The commitment to a hidden pool: what an opening shows, and what a refresh may do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.errors import UntrustedInputError
from ralph.protocol.merkle import tree_hash
from ralph.protocol.pool import (
    SHARDS,
    Opening,
    PoolCommitment,
    PoolLeaves,
    ShardCommitment,
    ShardName,
    SourceCount,
    leaf_of,
    refreshed_documents,
    verify_refresh,
)
from ralph.records.log import MerkleLog

SIZES: dict[ShardName, int] = {"screen": 20, "confirm": 7, "audit": 1}
Texts = dict[ShardName, list[int]]
TEXTS: Texts = {"screen": list(range(20)), "confirm": list(range(100, 107)), "audit": [200]}


def salt_of(number: int) -> bytes:
    return number.to_bytes(32, "little")


def tokens_of(number: int) -> bytes:
    return (number + 1).to_bytes(2, "little") * 3


def leaves_of(texts: Texts) -> PoolLeaves:
    return PoolLeaves.of(
        {name: [leaf_of(salt=salt_of(one), source="code", tokens=tokens_of(one)) for one in texts[name]] for name in SHARDS}
    )


def committed(texts: Texts, **changes: object) -> PoolCommitment:
    leaves = leaves_of(texts)
    shards = tuple(
        ShardCommitment(shard=name, root=tree_hash(leaves.shard(name)), sources=(SourceCount(source="code", documents=len(texts[name])),))
        for name in SHARDS
    )
    fields: dict[str, object] = {
        "tokenizer": bytes(32), "vocabulary": 300, "pool": 0, "pools": 2, "refresh": 0, "previous": None, "shards": shards
    }  # fmt: skip
    return PoolCommitment.model_validate(fields | changes)


POOL = committed(TEXTS)


def opening(shard: ShardName = "screen", index: int = 5, **changes: object) -> Opening:
    log = MerkleLog()
    for leaf in leaves_of(TEXTS).shard(shard):
        log.append(leaf)
    number = TEXTS[shard][index]
    honest = Opening(
        commitment=POOL.digest(),
        shard=shard,
        index=index,
        source="code",
        salt=salt_of(number),
        tokens=tokens_of(number),
        path=log.inclusion(index),
    )
    return honest.model_copy(update=changes)


@pytest.mark.parametrize("shard", SHARDS)
def test_every_document_can_be_opened(shard: ShardName) -> None:
    for index in range(SIZES[shard]):
        opening(shard, index).verify(POOL)


FORGERIES: dict[str, dict[str, object]] = {
    "salt": {"salt": salt_of(6)},
    "tokens": {"tokens": tokens_of(6)},
    "odd tokens": {"tokens": tokens_of(5)[:-1]},
    "source": {"source": "docs"},
    "index": {"index": 6},
    "index past the end": {"index": 20},
    "huge index": {"index": 2**64 - 1},
    "shard": {"shard": "confirm"},
    "no path": {"path": ()},
    "other path": {"path": opening(index=6).path},
    "longer path": {"path": (*opening().path, bytes(32))},
    "shorter path": {"path": opening().path[:-1]},
    "commitment": {"commitment": bytes(32)},
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_an_opening_with_anything_else_than_what_was_committed_is_refused(forgery: dict[str, object]) -> None:
    with pytest.raises(UntrustedInputError) as caught:
        opening().model_copy(update=forgery).verify(POOL)
    assert caught.value.code == "INT-HASH"


def test_an_opening_holds_for_no_other_commitment() -> None:
    other = committed(TEXTS, pool=1)
    with pytest.raises(UntrustedInputError, match="not of this commitment"):
        opening().verify(other)
    moved = committed({**TEXTS, "screen": TEXTS["screen"][::-1]})
    with pytest.raises(UntrustedInputError, match="not the one that was committed to"):
        opening(commitment=moved.digest()).verify(moved)


def test_committed_tokens_outside_the_vocabulary_are_refused() -> None:
    small = committed(TEXTS, vocabulary=257)
    inside = opening(commitment=small.digest())
    inside.verify(small)
    tokens = (257).to_bytes(2, "little")
    leaf = leaf_of(salt=bytes(32), source="code", tokens=tokens)
    one = ShardCommitment(shard="audit", root=tree_hash([leaf]), sources=(SourceCount(source="code", documents=1),))
    forged = small.model_copy(update={"shards": (*small.shards[:2], one)})
    with pytest.raises(UntrustedInputError, match="no tokens of the vocabulary"):
        Opening(commitment=forged.digest(), shard="audit", index=0, source="code", salt=bytes(32), tokens=tokens, path=()).verify(forged)


WRONG: dict[str, dict[str, object]] = {
    "pool": {"pool": 2},
    "no pools": {"pools": 0, "pool": 0},
    "refresh without the one before it": {"refresh": 1},
    "the one before it without a refresh": {"previous": bytes(32)},
    "order of shards": {"shards": POOL.shards[::-1]},
    "other sources": {
        "shards": (*POOL.shards[:2], POOL.shards[2].model_copy(update={"sources": (SourceCount(source="docs", documents=1),)}))
    },
    "a source twice": {"shards": tuple(shard.model_copy(update={"sources": shard.sources * 2}) for shard in POOL.shards)},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_commitment_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    value = POOL.model_copy(update=change).value()
    with pytest.raises(UntrustedInputError) as caught:
        PoolCommitment.from_value(value)
    assert caught.value.code == "INT-SCHEMA"


def test_a_commitment_of_fewer_shards_is_refused() -> None:
    value = POOL.value()
    with pytest.raises(UntrustedInputError):
        PoolCommitment.from_value({**value, "shards": value["shards"][:2]})


@given(st.data())
def test_a_changed_byte_of_an_opening_is_never_another_valid_opening(data):
    honest = opening()
    raw = bytearray(honest.to_bytes())
    place, change = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(1, 255))
    raw[place] ^= change
    with pytest.raises(UntrustedInputError):
        Opening.from_bytes(bytes(raw), limit=len(raw)).verify(POOL)


@given(
    st.dictionaries(st.integers(0, 255), st.binary(min_size=2, max_size=8).filter(lambda one: len(one) % 2 == 0), min_size=1, max_size=30)
)
def test_leaves_differ_when_salt_or_tokens_do(texts):
    leaves = {leaf_of(salt=salt_of(number), source="code", tokens=tokens) for number, tokens in texts.items()}
    assert len(leaves) == len(texts)


def refreshed(texts: Texts, **changes: object) -> PoolCommitment:
    return committed(texts, **({"refresh": 1, "previous": POOL.digest()} | changes))


TENTH: Texts = {"screen": [*range(2, 20), 50, 51], "confirm": [100, 101, 102, 103, 104, 105, 150], "audit": [250]}


def test_a_refresh_says_which_leaves_stayed() -> None:
    changes = verify_refresh(POOL, leaves_of(TEXTS), refreshed(TENTH), leaves_of(TENTH))
    assert [len(change.stayed) for change in changes] == [18, 6, 0]
    assert changes[0].removed == frozenset(leaves_of(TEXTS).shard("screen")[:2])
    assert changes[0].added == frozenset(leaves_of(TENTH).shard("screen")[-2:])
    assert [refreshed_documents(size) for size in SIZES.values()] == [2, 1, 1]


def test_a_whole_pool_cannot_be_swapped_under_the_name_of_a_refresh() -> None:
    swapped: Texts = {"screen": list(range(30, 50)), "confirm": TEXTS["confirm"], "audit": TEXTS["audit"]}
    with pytest.raises(UntrustedInputError, match="took out 20 of 20 documents and put in 20; at most 2 may change") as caught:
        verify_refresh(POOL, leaves_of(TEXTS), refreshed(swapped), leaves_of(swapped))
    assert caught.value.code == "INT-SIZE"


def test_what_was_kept_cannot_be_drowned_in_new_documents() -> None:
    more: Texts = {**TEXTS, "screen": [*range(20), *range(30, 90)]}
    with pytest.raises(UntrustedInputError, match="put in 60"):
        verify_refresh(POOL, leaves_of(TEXTS), refreshed(more), leaves_of(more))


def test_a_document_cannot_be_counted_twice_to_hide_what_left() -> None:
    twice: Texts = {**TEXTS, "screen": [*([5] * 18), 6, 7]}
    with pytest.raises(UntrustedInputError, match="twice"):
        verify_refresh(POOL, leaves_of(TEXTS), refreshed(twice), leaves_of(twice))


@pytest.mark.parametrize(
    "changes", [{"previous": bytes(32)}, {"refresh": 2}, {"pool": 1}, {"pools": 3}, {"tokenizer": bytes([1]) * 32}, {"vocabulary": 400}]
)
def test_a_refresh_follows_the_commitment_before_it_and_changes_nothing_else(changes: dict[str, object]) -> None:
    with pytest.raises(UntrustedInputError, match="does not follow"):
        verify_refresh(POOL, leaves_of(TEXTS), refreshed(TENTH, **changes), leaves_of(TENTH))


def test_leaves_that_are_not_the_committed_ones_are_refused() -> None:
    with pytest.raises(UntrustedInputError, match="are not the committed"):
        verify_refresh(POOL, leaves_of(TENTH), refreshed(TENTH), leaves_of(TENTH))
    with pytest.raises(UntrustedInputError, match="are not the committed"):
        verify_refresh(POOL, leaves_of(TEXTS), refreshed(TENTH), leaves_of(TEXTS))
    with pytest.raises(UntrustedInputError, match="a leaf is cut"):
        PoolLeaves.from_value({"shards": [bytes(31), b"", b""]})
