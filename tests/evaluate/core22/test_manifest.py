"""The manifest: every validator asks the same items, or finds out."""

from dataclasses import replace
from pathlib import Path

import pytest

from ralph.errors import ConfigurationError
from ralph.evaluate.core22.bundle import open_bundle
from ralph.evaluate.core22.items import item_digest
from ralph.evaluate.core22.manifest import build, load
from ralph.evaluate.core22.prompts import ordered
from ralph.evaluate.core22.tasks import BY_LABEL, Chance
from tests.evaluate.core22 import material


def test_an_id_names_the_task_the_number_and_the_item(tmp_path: Path) -> None:
    bundle = material.small_bundle(tmp_path)
    entry = build(bundle).entries[5]
    ids = list(entry.ids())
    assert [one.index for one in ids] == list(range(14))
    in_file = bundle.items(BY_LABEL["copa"])
    assert [one.sha256 for one in ids] == [item_digest(in_file[place]) for place in ordered(14)]
    assert str(ids[3]) == f"copa/3/{ids[3].sha256.hex()}"


def test_folder_and_archive_give_the_same_exam_and_any_change_another(tmp_path: Path) -> None:
    content = material.files()
    one = build(material.small_bundle(tmp_path / "a"))
    assert build(open_bundle(material.write_zip(tmp_path / "b.zip", content))).digest() == one.digest()
    name = "eval_data/commonsense_reasoning/copa.jsonl"
    lines = content[name].splitlines(keepends=True)
    flipped = lines[0].replace(b'"gold": 0', b'"gold": 1') if b'"gold": 0' in lines[0] else lines[0].replace(b'"gold": 1', b'"gold": 0')
    for number, changed in enumerate((lines[::-1], lines[:-1], [flipped, *lines[1:]])):
        found = build(open_bundle(material.write_folder(tmp_path / f"c{number}", content | {name: b"".join(changed)})))
        assert found.digest() != one.digest()
    without = {other: data for other, data in content.items() if other != name}
    assert build(open_bundle(material.write_folder(tmp_path / "d", without))).absent == ("copa",)


def test_the_first_items_keep_their_number_and_their_pool(tmp_path: Path) -> None:
    whole = build(material.small_bundle(tmp_path))
    part = whole.first(3)
    assert part.digest() != whole.digest()
    assert {len(entry.items) for entry in part.entries} == {3}
    for entry, all_of_it in zip(part.entries, whole.entries, strict=True):
        assert list(entry.ids()) == list(all_of_it.ids())[:3]
        assert (entry.pool, entry.pool_digest) == (14, all_of_it.pool_digest)
    assert whole.first(99).digest() == whole.digest()
    with pytest.raises(ConfigurationError, match="no exam"):
        whole.first(0)


def test_chance_levels_change_no_exam_and_shots_do(tmp_path: Path) -> None:
    whole = build(material.small_bundle(tmp_path))
    entry = whole.entries[0]
    same = replace(entry, task=replace(entry.task, chance=Chance(core_v1=1, core_v2=2)))
    other = replace(entry, task=replace(entry.task, shots=1))
    assert replace(whole, entries=(same, *whole.entries[1:])).digest() == whole.digest()
    assert replace(whole, entries=(other, *whole.entries[1:])).digest() != whole.digest()


def test_another_bundle_than_the_manifests_is_refused(tmp_path: Path) -> None:
    manifest = build(material.small_bundle(tmp_path / "a")).first(2)
    longer = material.small_bundle(tmp_path / "b", count=15)
    fewer = material.small_bundle(tmp_path / "c", labels=["copa"])
    for bundle in (longer, fewer):
        with pytest.raises(ConfigurationError) as refused:
            load(bundle, manifest.entries[0])
        assert refused.value.code == "OPS-DATA"
    assert len(load(longer, build(longer).entries[0])) == 15
