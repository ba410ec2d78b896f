"""An operator opens something else than he scored, something less, or not in time. Each is caught, with a code of its own."""

import itertools
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ralph.auditor.report import Check, Kind, Verdict
from ralph.data.corpora import Document, stdlib_documents
from ralph.data.encode import Stretch
from ralph.data.partition import Fractions, SubPool
from ralph.data.pool import open_pool
from ralph.data.poolkey import key_beside
from ralph.data.poolwriter import PoolWriter
from ralph.data.prepare import prepare
from ralph.data.refresh import refresh
from ralph.data.staging import PRIVATE_MODE, Staging
from ralph.data.tokenizer import open_tokenizer
from ralph.protocol.canonical import digest
from ralph.protocol.measurement import ExactScores
from ralph.protocol.merkle import tree_hash
from ralph.protocol.pool import MAX_OPENINGS_BYTES, SHARDS, OpenedSubset, Opening, Subset, leaves_name
from ralph.protocol.record import OpeningRow, Record
from tests.auditor.world import HIDDEN, Forgery, World, edited

ROTATION = HIDDEN.rotation_rounds
CONFIRM = Subset(shard="confirm", rotation=1)


def caught(world: World, check: Check) -> set[str]:
    """Return the codes of what an audit found, all of it at one check."""
    report = world.audit(hotkey=world.validator)
    assert report.verdict is Verdict.DIVERGED, report.findings
    assert {one.check for one in report.findings} == {check}, report.findings
    return {one.detail.split(":")[0] for one in report.findings}


def test_an_honest_opening_is_reproduced_in_the_round_after_the_rotation(due: World) -> None:
    due.play()
    report = due.audit(hotkey=due.validator)
    assert report.verdict is Verdict.REPRODUCED, report.findings
    opened = [row.subset.key for one in due.records for row in one.record.openings]
    assert opened == ["screen-0", "confirm-0", "audit-0", "screen-1", "confirm-1", "audit-1"]


def test_a_pool_whose_texts_belong_to_another_validators_pool_is_caught(tmp_path: Path) -> None:
    """The operator seals the documents of pool 0 of 2 and commits to them as pool 1: leaves, draw and proofs all fit."""
    documents = list(itertools.islice(stdlib_documents(), 600))
    prepare(tmp_path / "public", hidden=tmp_path / "own", vocabulary=320, documents=documents, sub_pool=SubPool(number=0, count=2))
    own = open_pool(tmp_path / "own", key=key_beside(tmp_path / "own"), expect=None)
    with Staging(tmp_path / "hidden", mode=PRIVATE_MODE) as staging:
        writer = PoolWriter(staging, key=own.key, source_names=own.commitment.source_names)
        stretches = {name: Stretch(tokens=one.tokens, index=one.index) for name in SHARDS for one in [own.contents(name)]}
        for name, stretch in stretches.items():
            writer.note(name, stretch)
        writer.commit(tokenizer=own.commitment.tokenizer, vocabulary=320, sub_pool=SubPool(number=1, count=2))
        for name, stretch in stretches.items():
            writer.seal(name, stretch)
        writer.close()
        staging.commit()
    shutil.copy2(key_beside(tmp_path / "own"), key_beside(tmp_path / "hidden"))
    world = World.create(tmp_path / "world", tmp_path)
    for _ in range(ROTATION + 1):
        world.play()
    assert caught(world, Check.OPENING) == {"OPN-PLACE"}


def on_confirm(change: Callable[[OpenedSubset], OpenedSubset]) -> Callable[[OpenedSubset], OpenedSubset]:
    return lambda opened: change(opened) if opened.subset == CONFIRM else opened


def with_first(change: dict[str, object]) -> Callable[[OpenedSubset], OpenedSubset]:
    def spoil(opened: OpenedSubset) -> OpenedSubset:
        first, *rest = opened.openings
        return opened.model_copy(update={"openings": (first.model_copy(update=change), *rest)})

    return on_confirm(spoil)


def other_document(world: World) -> Opening:
    """Return a committed document of the shard that rotation 1 did not draw."""
    pool = world.pools.newest
    contents = pool.contents("confirm")
    everything = pool.opened(contents, range(contents.index.size), hotkey=world.validator, subset=CONFIRM).openings
    used = {leaf for name in (0, 1) for leaf in drawn(world, Subset(shard="confirm", rotation=name))}
    return next(one for one in everything if one.leaf() not in used)


def drawn(world: World, subset: Subset) -> Sequence[bytes]:
    index = len(world.records) - 1
    hidden = world._hidden(index, world.drawn[index][1].beacon)
    return [one.leaf() for one in hidden.opened(subset).openings]


def test_a_document_that_is_left_out_is_caught(due: World) -> None:
    due.play(Forgery(opens=on_confirm(lambda one: one.model_copy(update={"openings": one.openings[1:]}))))
    assert caught(due, Check.OPENING) == {"OPN-ABSENT"}


def test_a_document_that_is_added_is_caught(due: World) -> None:
    more = other_document(due)

    def add(opened: OpenedSubset) -> OpenedSubset:
        return opened.model_copy(update={"openings": tuple(sorted((*opened.openings, more), key=lambda one: one.index))})

    due.play(Forgery(opens=on_confirm(add)))
    assert caught(due, Check.OPENING) == {"OPN-EXTRA"}


def test_a_document_that_is_swapped_for_an_easier_one_of_the_shard_is_caught(due: World) -> None:
    other = other_document(due)
    due.play(Forgery(opens=with_first({"salt": other.salt, "source": other.source, "tokens": other.tokens})))
    assert caught(due, Check.OPENING) == {"OPN-SWAP"}


def test_a_wrong_salt_is_caught(due: World) -> None:
    due.play(Forgery(opens=with_first({"salt": bytes(32)})))
    assert caught(due, Check.OPENING) == {"OPN-LEAF"}


def test_a_document_of_another_pool_is_caught(due: World) -> None:
    due.play(Forgery(opens=with_first({"commitment": digest("test/other pool", 1)})))
    assert caught(due, Check.OPENING) == {"OPN-POOL"}


def test_the_documents_of_another_rotation_are_caught(due: World) -> None:
    due.play(Forgery(opens=on_confirm(lambda one: one.model_copy(update={"subset": Subset(shard="confirm", rotation=0)}))))
    assert caught(due, Check.OPENING) == {"OPN-SUBSET"}


def without(subset: Subset) -> Callable[[Record], Record]:
    return lambda record: record.model_copy(update={"openings": tuple(row for row in record.openings if row.subset != subset)})


def test_an_opening_that_is_missing_and_comes_late_is_caught_twice(due: World) -> None:
    kept: list[OpeningRow] = []

    def keep(record: Record) -> Record:
        kept.extend(row for row in record.openings if row.subset == CONFIRM)
        return without(CONFIRM)(record)

    due.play(Forgery(record=keep))
    assert caught(due, Check.OPENING) == {"OPN-MISSING"}
    due.play(Forgery(record=lambda record: record.model_copy(update={"openings": tuple(kept)})))
    assert caught(due, Check.OPENING) == {"OPN-MISSING", "OPN-LATE"}


def test_documents_that_are_opened_while_they_are_scored_are_caught(turning: World, tmp_path: Path) -> None:
    world = turning.copy(tmp_path / "early")
    early = OpeningRow(subset=Subset(shard="audit", rotation=2), documents=bytes(32), scores=bytes(32))
    world.play(Forgery(record=lambda record: record.model_copy(update={"openings": (*record.openings, early)})))
    assert caught(world, Check.OPENING) == {"OPN-EARLY"}


def shifted(scores: ExactScores) -> ExactScores:
    if not scores.scores:
        return scores
    first, *rest = scores.scores
    return scores.model_copy(update={"scores": (first.model_copy(update={"val_bpb": first.val_bpb - 0.01}), *rest)})


SCORES: dict[str, Callable[[ExactScores], ExactScores]] = {
    "a total that the losses do not give": shifted,
    "a run less": lambda scores: scores.model_copy(update={"scores": scores.scores[1:]}),
    "a loss less": lambda scores: scores.model_copy(
        update={"scores": tuple(one.model_copy(update={"document_nats": one.document_nats[8:]}) for one in scores.scores)}
    ),
}


@pytest.mark.parametrize("forge", SCORES.values(), ids=SCORES)
def test_exact_scores_that_are_not_those_of_the_records_are_caught(turning: World, tmp_path: Path, forge) -> None:
    world = turning.copy(tmp_path / "scores")
    world.play(Forgery(scores=lambda scores: forge(scores) if scores.scores else scores))
    assert caught(world, Check.SCORES) == {"OPN-SCORE"}


def test_another_count_of_bytes_is_caught(honest: World, tmp_path: Path) -> None:
    """The operator divides by twice the bytes: losses, total and Record agree with each other, and not with the documents."""
    world = honest.copy(tmp_path / "bytes")
    halved = replace_scores(world)
    while len(world.records) < 2 * ROTATION:
        world.play(halved)
    world.play(halved)
    assert caught(world, Check.SCORES) == {"OPN-SCORE"}


def replace_scores(world: World) -> Forgery:
    """Return a forgery whose published losses are twice those that the documents' bytes allow."""

    def double(scores: ExactScores) -> ExactScores:
        made = []
        for one in scores.scores:
            nats = b"".join(_doubled(one.document_nats[at : at + 8]) for at in range(0, len(one.document_nats), 8))
            made.append(one.model_copy(update={"document_nats": nats}))
        return scores.model_copy(update={"scores": tuple(made)})

    return Forgery(scores=double)


def _doubled(number: bytes) -> bytes:
    return struct.pack("<d", 2 * struct.unpack("<d", number)[0])


def test_what_is_gone_from_the_store_is_unknown_and_no_accusation(due: World) -> None:
    record = due.play().record
    row = record.openings[0]
    path = due.home / "store" / "objects" / row.documents.hex()[:2] / row.documents.hex()[2:]
    path.unlink()
    report = due.audit(hotkey=due.validator)
    assert report.verdict is Verdict.INCOMPLETE
    assert {(one.check, one.kind) for one in report.findings} == {(Check.OPENING, Kind.UNKNOWN)}


def test_a_crown_that_seals_other_documents_than_its_beacon_draws_is_caught(honest: World, tmp_path: Path) -> None:
    def other(record: Record) -> Record:
        assert record.crown is not None
        return record.model_copy(update={"crown": record.crown.model_copy(update={"sealed": bytes(32)})})

    world = honest.copy(tmp_path / "crown")
    crowned = next(number for number, one in enumerate(world.records) if one.record.crown is not None)
    forged = other(world.records[crowned].record)
    world.records, world.anchors, world.entries = world.records[:crowned], world.anchors[:crowned], world.entries[:crowned]
    world.publish(forged, Forgery(pays=False))
    report = world.audit(hotkey=world.validator)
    assert [one for one in report.findings if one.check is Check.POOL and "seals other documents" in one.detail]


def test_what_a_crown_sealed_is_opened_after_the_rotation_in_which_that_king_falls(honest: World, tmp_path: Path) -> None:
    world = honest.copy(tmp_path / "dethroned")
    first = next(one.record for one in world.records if one.record.crown is not None)
    king = world.trees["alice"]
    world.trees["bob"] = edited(king, "config/base.toml", "value = 16", "value = 8")
    world.gains[world.trees["bob"].digest()] = 0.6
    world.play(announce=("bob",))
    while len(world.records) <= 2 * ROTATION:
        world.play()
    crowns = [one.record for one in world.records if one.record.crown is not None]
    assert [record.round for record in crowns] == [first.round, 2 * ROTATION - 1]
    sealed = Subset(shard="confirm", rotation=first.round // ROTATION, crown=first.round)
    last = world.records[-1].record
    assert [row.subset for row in last.openings] == [*(Subset(shard=name, rotation=1) for name in SHARDS), sealed]
    opened = OpenedSubset.from_bytes(world.store.get(last.openings[-1].documents, limit=MAX_OPENINGS_BYTES), limit=MAX_OPENINGS_BYTES)
    assert first.crown is not None
    assert tree_hash([one.leaf() for one in opened.openings]) == first.crown.sealed
    report = world.audit(hotkey=world.validator)
    assert report.verdict is Verdict.REPRODUCED, report.findings
    world.records[-1:], world.anchors[-1:], world.entries[-1:] = [], [], []
    world.publish(without(sealed)(last), Forgery(pays=False))
    found = [one.detail for one in world.audit(hotkey=world.validator).findings if one.check is Check.OPENING]
    assert found == [f"OPN-MISSING: {sealed.key} is over and was not opened"]


def newer(number: int = 900) -> list[Document]:
    return [Document(source="docs", text=f"News of day {day}: " + f"it rained {day} times. " * 12) for day in range(number)]


def refreshed(world: World, out: Path, opened: frozenset[bytes] = frozenset()) -> World:
    """Configure a refreshed pool and start again."""
    old = world.pools.newest
    made = refresh(
        out,
        old,
        tokenizer=open_tokenizer(world.pools.data.tokenizer_bytes, vocabulary=world.pools.data.vocabulary),
        documents=newer(),
        fractions=Fractions(),
        opened=opened,
    )
    new = open_pool(out, key=old.key.path, expect=made.digest())
    world.pools = replace(world.pools, pools=(*world.pools.pools, new))
    world.pools.publish(world.store)
    return world


def test_a_refresh_takes_effect_with_the_next_rotation_and_is_reproduced(due: World, tmp_path: Path) -> None:
    before = due.pools.newest.commitment.digest()
    due.play()
    over = [Subset(shard=name, rotation=number) for name in SHARDS for number in (0, 1)]
    opened = frozenset(leaf for subset in over for leaf in drawn(due, subset))
    refreshed(due, tmp_path / "refreshed", opened)
    due.play()
    assert due.records[-1].record.hidden == before
    while len(due.records) <= 3 * ROTATION:
        due.play()
    assert due.records[-1].record.hidden == due.pools.newest.commitment.digest() != before
    report = due.audit(hotkey=due.validator)
    assert report.verdict is Verdict.REPRODUCED, report.findings
    assert not opened & set(due.pools.newest.leaves.shard("confirm"))


def test_a_pool_that_is_no_refresh_is_caught(due: World, tmp_path: Path) -> None:
    documents = newer(400)
    prepare(tmp_path / "public", hidden=tmp_path / "hidden", vocabulary=320, documents=documents)
    other = open_pool(tmp_path / "hidden", key=key_beside(tmp_path / "hidden"), expect=None)
    due.store.put(other.commitment.to_bytes())
    due.store.put_named(leaves_name(other.commitment.digest()), due.store.put(other.leaves.to_bytes()))
    due.play(Forgery(anchor=lambda anchor: anchor.model_copy(update={"hidden": other.commitment.digest()})))
    report = due.audit(hotkey=due.validator)
    assert [one for one in report.findings if one.check is Check.POOL and "which is no refresh" in one.detail], report.findings


def test_a_pool_is_drawn_from_before_it_was_committed_to(due: World, tmp_path: Path) -> None:
    """A refresh that is used in the rotation that runs: the operator has seen the beacon, and could have made many."""
    refreshed(due, tmp_path / "refreshed")
    new = due.pools.newest.commitment.digest()
    due.play(Forgery(record=lambda record: record.model_copy(update={"hidden": new})))
    assert caught(due, Check.POOL) == {"its documents are of another pool than was committed to for them"}
