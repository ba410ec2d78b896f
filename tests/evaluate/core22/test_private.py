"""Private items: a licence each, sealed and committed to, a public part active, opened with proofs; and what an operator could try."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ralph.data.layout import sealed_name
from ralph.data.pool import HiddenPool
from ralph.data.poolkey import PoolKey
from ralph.errors import ConfigurationError, CorruptStateError, UntrustedInputError
from ralph.evaluate.active import Committed, Drawn, active_subset, verify_opened
from ralph.evaluate.core22.audit import audit
from ralph.evaluate.core22.guarded import Setting
from ralph.evaluate.core22.private import (
    ASKED_SHARD,
    PrivateItem,
    check_kind,
    items_of,
    open_items,
    parse_private,
    private_examination,
    read_items,
    verify_items,
)
from ralph.evaluate.core22.sealing import add, all_items, renew, seal
from ralph.evaluate.core22.sitting import sit
from ralph.evaluate.core22.tasks import TASKS, TaskType
from ralph.protocol.network import DEVNET_EXAM
from ralph.protocol.pool import SHARDS, PoolLeaves, Subset, verify_refresh
from ralph.protocol.scoring_rules import PrivateGuard
from tests.evaluate.core22 import material
from tests.evaluate.core22.material import DRAW_KEY, ORDER_KEY, Honest, examinee

LICENCE = "written for this test, CC0-1.0"
BEACON, HOTKEY = bytes(range(32)), "5F"
SUBSET = Subset(shard=ASKED_SHARD, rotation=0)
BY_KIND = {kind: next(task for task in TASKS if task.type is kind) for kind in TaskType}


def line(number: int, **changes: object) -> bytes:
    kind = tuple(TaskType)[number % 3]
    value = {**material.item(BY_KIND[kind], number), "type": kind.value, "licence": LICENCE, **changes}
    return json.dumps({name: field for name, field in value.items() if field is not None}).encode()


def written(path: Path, numbers: range) -> Path:
    path.write_bytes(b"".join(line(number) + b"\n" for number in numbers))
    return path


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> HiddenPool:
    root = tmp_path_factory.mktemp("private")
    seal(root / "items", read_items([written(root / "items.jsonl", range(90))]), key=PoolKey.create(root / "items.key"))
    return open_items(root / "items", key=root / "items.key", expect=None)


def test_sealed_items_are_all_there_and_nothing_of_them_lies_in_the_clear(sealed: HiddenPool, tmp_path: Path) -> None:
    found = all_items(sealed)
    assert {item.text() for item in found} == {parse_private(line(number)).text() for number in range(90)}
    assert {item.licence for item in found} == {LICENCE}
    for path in sealed.directory.iterdir():
        data = path.read_bytes()
        assert not any(item.text().encode() in data for item in found)
        assert LICENCE.encode() not in data


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"licence": None}, "'licence' is missing"),
        ({"licence": "  "}, "'licence' is missing"),
        ({"licence": 7}, "'licence' is missing"),
        ({"licence": "x" * 501}, "longer than 500"),
        ({"type": None}, "'type' is none of"),
        ({"type": "essay"}, "'type' is none of"),
        ({"gold": 9}, "'gold' is not the number"),
        ({"query": ""}, "'query' is missing"),
    ],
)
def test_an_item_without_a_licence_or_a_field_is_refused_by_its_line_and_not_shown(changes: dict, words: str, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(line(3) + b"\n" + line(0, **changes) + b"\n")
    with pytest.raises(ConfigurationError, match="OPS-DATA") as refused:
        read_items([path])
    assert "line 2" in refused.value.detail
    assert words in refused.value.detail
    assert str(material.item(BY_KIND[TaskType.MULTIPLE_CHOICE], 0)["choices"][0]) not in refused.value.detail


def test_an_item_twice_is_refused_whatever_its_licence(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(line(1) + b"\n" + line(1, licence="another") + b"\n")
    with pytest.raises(ConfigurationError, match="line 2: an item that is there already"):
        read_items([path])


def guard(sealed: HiddenPool, items: int = 30) -> PrivateGuard:
    return PrivateGuard(commitment=sealed.commitment.digest(), items=items)


def examination(sealed: HiddenPool, items: int = 30):
    return private_examination(
        sealed,
        guard(sealed, items),
        DEVNET_EXAM,
        setting=Setting(
            tokenizer=material.tokenizer(), sequence=material.SEQUENCE, batch_rows=material.BATCH_ROWS, filler=material.filler()
        ),
        beacon=BEACON,
        hotkey=HOTKEY,
    )


def test_the_drawn_part_is_asked_audited_and_graded_as_one(sealed: HiddenPool) -> None:
    one = examination(sealed)
    answers = sit(one.exam, examinee(Honest()), key=ORDER_KEY)
    found = audit(one.exam, answers, examinee(Honest()), key=DRAW_KEY, rules=one.rules)
    assert (found.exceedances, found.unprobed) == (0, ())
    (part,) = one.parts(answers)
    assert (part.name, part.correct.size, len(answers)) == ("private-hard", 30, 3)
    published = part.published(3)
    assert published.accuracy == round(float(part.correct.mean()), 3)
    held = items_of(sealed, ASKED_SHARD)
    places = drawn(len(held), 30)
    asked = {item for entry in one.exam.manifest.entries for item in one.exam.bundle.items(entry.task)}
    assert asked == {held[place].item for place in places}


def test_reading_ahead_on_private_items_is_found(sealed: HiddenPool) -> None:
    one = examination(sealed)
    answers = sit(one.exam, examinee(material.LookAhead()), key=ORDER_KEY)
    assert audit(one.exam, answers, examinee(material.LookAhead()), key=DRAW_KEY, rules=one.rules).exceedances > 5


def test_more_active_items_than_there_are_is_the_operators_mistake(sealed: HiddenPool) -> None:
    with pytest.raises(ConfigurationError, match="OPS-DATA"):
        examination(sealed, items=91)


def drawn(documents: int, count: int) -> tuple[int, ...]:
    return active_subset(beacon=BEACON, hotkey=HOTKEY, subset=SUBSET, places=range(documents), count=count)


def opened(sealed: HiddenPool):
    contents = sealed.contents(ASKED_SHARD)
    return sealed.opened(contents, drawn(contents.index.size, 10), hotkey=HOTKEY, subset=SUBSET)


def check(sealed: HiddenPool, subset) -> tuple[PrivateItem, ...]:
    pool = Committed(commitment=sealed.commitment, leaves=sealed.leaves)
    leaves = pool.leaves.shard(ASKED_SHARD)
    places = drawn(len(leaves), 10)
    wanted = Drawn(subset=SUBSET, commitment=sealed.commitment.digest(), places=places, leaves=tuple(leaves[place] for place in places))
    verify_opened(subset, wanted, pool, hotkey=HOTKEY)
    return verify_items(subset)


def test_a_rotation_is_opened_with_proofs_that_anybody_can_check(sealed: HiddenPool) -> None:
    assert len(check(sealed, opened(sealed))) == 10


def test_an_item_that_was_changed_after_it_was_asked_does_not_open(sealed: HiddenPool) -> None:
    subset = opened(sealed)
    text = subset.openings[0].tokens
    easier = subset.openings[0].model_copy(update={"tokens": text[:-2] + text[:2]})
    with pytest.raises(UntrustedInputError, match="OPN-LEAF"):
        check(sealed, subset.model_copy(update={"openings": (easier, *subset.openings[1:])}))


def test_a_drawn_item_cannot_be_kept_back(sealed: HiddenPool) -> None:
    subset = opened(sealed)
    with pytest.raises(UntrustedInputError, match="OPN-ABSENT"):
        check(sealed, subset.model_copy(update={"openings": subset.openings[1:]}))


@pytest.mark.parametrize(
    "change",
    [
        lambda item: b"{}",
        lambda item: item.text().encode().replace(LICENCE.encode(), b"   "),
        lambda item: item.text().encode() + b" ",
        lambda item: item.text().replace('"type":', '"type": ').encode(),
    ],
    ids=["no item", "no licence", "not canonical", "spaces"],
)
def test_what_was_committed_to_and_is_no_item_is_seen_when_it_is_opened(change: Callable[[PrivateItem], bytes], sealed: HiddenPool) -> None:
    subset = opened(sealed)
    item = verify_items(subset)[0]
    tokens = (np.frombuffer(change(item), np.uint8).astype("<u2") + 1).astype("<u2").tobytes()
    forged = subset.openings[0].model_copy(update={"tokens": tokens})
    with pytest.raises(UntrustedInputError, match="INT-SCHEMA"):
        verify_items(subset.model_copy(update={"openings": (forged,)}))


def test_other_items_than_the_rules_name_do_not_open(sealed: HiddenPool) -> None:
    with pytest.raises(ConfigurationError, match="OPS-DATA"):
        open_items(sealed.directory, key=sealed.key.path, expect=bytes(32))


def test_the_key_of_other_items_does_not_open_these(sealed: HiddenPool, tmp_path: Path) -> None:
    PoolKey.create(tmp_path / "other.key")
    with pytest.raises(CorruptStateError, match="OPS-DATA"):
        all_items(open_items(sealed.directory, key=tmp_path / "other.key", expect=None))


def test_a_changed_file_does_not_open(sealed: HiddenPool, tmp_path: Path) -> None:
    copied = tmp_path / "items"
    copied.mkdir()
    for path in sealed.directory.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    file = copied / sealed_name(ASKED_SHARD)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptStateError, match="OPS-DATA"):
        items_of(open_items(copied, key=sealed.key.path, expect=None), ASKED_SHARD)


def test_added_items_stand_beside_the_old_ones_whose_leaves_stay(sealed: HiddenPool, tmp_path: Path) -> None:
    more = read_items([written(tmp_path / "more.jsonl", range(90, 120))])
    commitment = add(tmp_path / "new", sealed, more)
    new = open_items(tmp_path / "new", key=sealed.key.path, expect=commitment.digest())
    assert len(all_items(new)) == 120
    for name in SHARDS:
        assert set(sealed.leaves.shard(name)) <= set(new.leaves.shard(name))
    assert (commitment.refresh, commitment.previous) == (0, None)
    with pytest.raises(ConfigurationError, match="30 of 30 items are sealed already"):
        add(tmp_path / "again", new, more)
    with pytest.raises(ConfigurationError, match="another directory"):
        add(tmp_path / "new", new, more)


def test_a_refresh_replaces_a_tenth_and_everybody_can_check_it(sealed: HiddenPool, tmp_path: Path) -> None:
    commitment = renew(tmp_path / "new", sealed, read_items([written(tmp_path / "more.jsonl", range(200, 260))]))
    new = open_items(tmp_path / "new", key=sealed.key.path, expect=commitment.digest())
    changes = verify_refresh(sealed.commitment, sealed.leaves, commitment, new.leaves)
    assert all(len(one.removed) == len(one.added) <= -(-(len(one.stayed) + len(one.removed)) // 10) for one in changes)
    assert len(all_items(new)) == 90


def test_all_items_cannot_be_swapped_under_the_name_of_a_refresh(sealed: HiddenPool, tmp_path: Path) -> None:
    seal(tmp_path / "other", read_items([written(tmp_path / "more.jsonl", range(300, 390))]), key=sealed.key)
    other = open_items(tmp_path / "other", key=sealed.key.path, expect=None)
    forged = other.commitment.model_copy(update={"refresh": 1, "previous": sealed.commitment.digest()})
    leaves = PoolLeaves(shards=other.leaves.shards)
    with pytest.raises(UntrustedInputError, match="INT-SIZE"):
        verify_refresh(sealed.commitment, sealed.leaves, forged, leaves)


def test_a_pool_of_text_is_no_pool_of_items(sealed: HiddenPool) -> None:
    with pytest.raises(ConfigurationError, match="no private items"):
        check_kind(sealed.commitment.model_copy(update={"tokenizer": bytes(32)}))
