"""The bundle: what a folder or an archive may hold, and that whatever is missing is said."""

import json
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.errors import ConfigurationError
from ralph.evaluate.core22 import declared, source
from ralph.evaluate.core22.bundle import open_bundle
from ralph.evaluate.core22.tasks import BY_LABEL, TASKS, TaskType
from tests.evaluate.core22 import material

LABELS = tuple(task.label for task in TASKS)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        open_bundle(path)
    assert refused.value.code == "OPS-DATA"
    return refused.value.detail


def test_there_are_22_tasks_and_the_tables_differ_for_three() -> None:
    assert len(set(LABELS)) == 22
    assert [task.label for task in TASKS if task.chance.core_v1 != task.chance.core_v2] == [
        "commonsense_qa",
        "agi_eval_lsat_ar",
        "bigbench_language_identification",
    ]
    assert sum(task.type is TaskType.SCHEMA for task in TASKS) == 2
    assert sum(task.type is TaskType.LANGUAGE_MODELING for task in TASKS) == 9


@pytest.mark.parametrize("root", ["", "eval_bundle/"])
@pytest.mark.parametrize("write", [material.write_folder, material.write_zip])
def test_a_whole_bundle_opens_as_a_folder_and_as_an_archive(tmp_path: Path, write: Callable[..., Path], root: str) -> None:
    bundle = open_bundle(write(tmp_path / "bundle", {root + name: data for name, data in material.files().items()}))
    assert bundle.absent == ()
    assert tuple(task.label for task in bundle.present) == LABELS
    assert [len(bundle.items(task)) for task in bundle.present] == [14] * 22


def test_missing_files_are_named(tmp_path: Path) -> None:
    content = material.files()
    del content["eval_data/reading_comprehension/coqa.jsonl"], content["eval_data/language_understanding/hellaswag.jsonl"]
    bundle = open_bundle(material.write_folder(tmp_path, content))
    assert bundle.absent == ("hellaswag_zeroshot", "hellaswag", "coqa")
    assert len(bundle.present) == 19


def test_a_folder_without_any_task_is_no_bundle(tmp_path: Path) -> None:
    assert "holds no eval_data/" in refusal(tmp_path)
    assert "cannot be read" in refusal(tmp_path / "nowhere")


def test_a_task_needs_more_items_than_it_shows(tmp_path: Path) -> None:
    bundle = material.small_bundle(tmp_path, count=10)
    assert len(bundle.items(BY_LABEL["copa"])) == 10
    with pytest.raises(ConfigurationError, match="more than its 10 shots"):
        bundle.items(BY_LABEL["piqa"])


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("num_fewshot: [10]", "num_fewshot: [9]", "number of shots"),
        ("num_fewshot: [10]", "num_fewshot: [0, 10]", "number of shots"),
        ("num_fewshot: [10]", "num_fewshot: ten", "number of shots"),
        ("language_understanding/hellaswag.jsonl", "language_understanding/other.jsonl", "the file"),
        ("multiple_choice", "schema", "the type"),
        ('"\\nAnswer: "', '"\\nAnswer:"', "the delimiter"),
        ('"\\nAnswer: "', '"\\nAnswer: ', "core.yaml"),
        ("- label: copa", "- label: opac", "copa 0 times"),
        ("- label: copa", "- label: jeopardy", "jeopardy 2 times"),
        ("- label: copa", "- &anchor {label: copa}", "unknown shape"),
        ("- label: copa", "- label: copa\n  label: copa", "twice"),
        ("icl_tasks:", "tasks:", "0 times"),
    ],
)
def test_a_list_of_other_tasks_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    content = material.files()
    text = content["core.yaml"].decode()
    assert old in text
    content["core.yaml"] = text.replace(old, new, 1).encode()
    assert complaint in refusal(material.write_folder(tmp_path, content))


def test_a_list_may_name_further_tasks_and_say_further_things() -> None:
    text = "seed: 1\nmodel:\n  name: x\n" + material.task_list() + "-\n  label: mmlu\n  has_categories: true\nepoch: 1\n"
    declared.check_list(text.encode(), name="core.yaml")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("copa,made up,multiple_choice,0,14,50", "copa,made up,multiple_choice,0,14,51", "copa is 51"),
        ("copa,made up,multiple_choice,0,14,50", "copa,made up,multiple_choice,0,14,half", "no table"),
        ("copa,made up,multiple_choice,0,14,50", "copa,made up,multiple_choice,0,14,nan", "copa is nan"),
        ("copa,", "opac,", "copa is None"),
        ("Random baseline", "Guess", "None"),
    ],
)
def test_other_chance_levels_are_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    content = material.files()
    content["eval_meta_data.csv"] = content["eval_meta_data.csv"].decode().replace(old, new, 1).encode()
    assert complaint in refusal(material.write_folder(tmp_path, content))


def test_either_table_of_chance_levels_is_known() -> None:
    assert "commonsense_qa,made up,multiple_choice,10,14,20," in material.chances()
    declared.check_chances(material.chances().replace("10,14,20,", "10,14,40.3,").encode(), name="f")


@given(st.binary(max_size=200) | st.text(alphabet='-: abic_l\n#"[]0\\', max_size=200).map(str.encode), st.booleans())
def test_any_list_or_table_is_read_or_refused(data: bytes, table: bool) -> None:
    check = declared.check_chances if table else declared.check_list
    with pytest.raises(ConfigurationError):
        check(b"icl_tasks:\n" + data, name="f")


def entry(name: str, *, mode: int = 0, date: tuple[int, ...] = (2020, 1, 1, 0, 0, 0)) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name, date)
    made.external_attr = mode << 16
    return made


def archive_with(path: Path, *extra: zipfile.ZipInfo, data: bytes = b"x") -> Path:
    material.write_zip(path, material.files(tasks=TASKS[5:6]))
    with zipfile.ZipFile(path, "a") as archive:
        for one in extra:
            archive.writestr(one, data)
    return path


@pytest.mark.parametrize(
    ("hostile", "complaint"),
    [
        (entry("../outside"), "leaves the archive"),
        (entry("eval_data/../../outside"), "leaves the archive"),
        (entry("/etc/passwd"), "leaves the archive"),
        (entry("eval_data//double"), "not plain"),
        (entry("./here"), "not plain"),
        (entry("C:/windows"), "no name should"),
        (entry("eval_data\\windows"), "no name should"),
        (entry("line\nbreak"), "no name should"),
        (entry("n" * 300), "too long"),
        (entry("link", mode=stat.S_IFLNK | 0o777), "link"),
        (entry("pipe", mode=stat.S_IFIFO | 0o777), "special file"),
    ],
)
def test_a_hostile_name_or_kind_is_refused(tmp_path: Path, hostile: zipfile.ZipInfo, complaint: str) -> None:
    assert complaint in refusal(archive_with(tmp_path / "b.zip", hostile))


def test_folders_and_plain_files_of_any_system_are_allowed(tmp_path: Path) -> None:
    path = archive_with(tmp_path / "b.zip", entry("__MACOSX/._x", mode=stat.S_IFREG | 0o644), entry("folder/", mode=stat.S_IFDIR | 0o755))
    assert open_bundle(path).present == TASKS[5:6]


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with pytest.warns(UserWarning, match="Duplicate"):
        archive_with(path, entry("a"), entry("a"))
    assert "there twice" in refusal(path)


@pytest.mark.parametrize(
    ("limit", "value", "complaint"),
    [
        ("MAX_ENTRIES", 2, "3 entries"),
        ("MAX_ENTRY_BYTES", 500, "unpacks to"),
        ("MAX_TOTAL_BYTES", 1000, "unpacks to"),
        ("MAX_DIRECTORY_BYTES", 100, "directory of"),
    ],
)
def test_an_archive_is_bounded_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, complaint: str
) -> None:
    monkeypatch.setattr(source, limit, value)
    assert complaint in refusal(material.write_zip(tmp_path / "b.zip", material.files(tasks=TASKS[5:6])))


def test_a_bomb_is_refused_by_its_declared_size(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    content = material.files(tasks=TASKS[5:6])
    content[f"eval_data/{TASKS[5].file}"] = b"\n" * ((64 << 20) + 1)
    material.write_zip(path, content)
    assert path.stat().st_size < 200_000
    with pytest.raises(ConfigurationError, match="limit 67108864"):
        open_bundle(path).items(TASKS[5])


def test_a_size_that_lies_is_found(tmp_path: Path) -> None:
    path = archive_with(tmp_path / "b.zip")
    data = bytearray(path.read_bytes())
    name = f"eval_data/{TASKS[5].file}".encode()
    place = data.rindex(b"PK\x01\x02", 0, data.rindex(name))
    struct.pack_into("<L", data, place + 24, 50)
    path.write_bytes(data)
    with pytest.raises(ConfigurationError) as refused:
        open_bundle(path).items(TASKS[5])
    assert refused.value.code == "OPS-DATA"


def test_an_encrypted_or_oddly_packed_entry_is_refused(tmp_path: Path) -> None:
    path = archive_with(tmp_path / "b.zip")
    for offset, value in ((8, 1), (10, 12)):
        data = bytearray(path.read_bytes())
        struct.pack_into("<H", data, data.rindex(b"PK\x01\x02") + offset, value)
        broken = tmp_path / f"broken{offset}.zip"
        broken.write_bytes(data)
        assert "encrypted or packed" in refusal(broken)


def test_an_archive_whose_directory_another_record_describes_is_refused(tmp_path: Path) -> None:
    path = archive_with(tmp_path / "b.zip")
    data = path.read_bytes()
    path.write_bytes(data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:])
    assert "zip64" in refusal(path)


def test_an_archive_with_a_comment_or_without_an_end_is_refused(tmp_path: Path) -> None:
    path = archive_with(tmp_path / "b.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"hello"
    assert "comment" in refusal(path)
    path.write_bytes(b"PK")
    assert "no zip file" in refusal(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_a_damaged_archive_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, seed: int, flips: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / "b.zip"
    data = bytearray(material.write_zip(path, material.files(count=3, tasks=TASKS[5:6])).read_bytes())
    generator = random.Random(seed)
    for _ in range(flips):
        data[generator.randrange(len(data))] = generator.randrange(256)
    path.write_bytes(data)
    try:
        assert len(open_bundle(path).items(TASKS[5])) == 3
    except ConfigurationError as refused:
        assert refused.code == "OPS-DATA"


def test_a_folder_file_over_the_limit_is_not_read_further(tmp_path: Path) -> None:
    folder = source.Folder(path=material.write_folder(tmp_path, {"a": b"12345"}))
    assert folder.read("a", 5) == b"12345"
    with pytest.raises(ConfigurationError, match="more than 4 bytes"):
        folder.read("a", 4)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        folder.read("b", 4)


def test_what_a_bundle_says_changes_no_task(tmp_path: Path) -> None:
    """The list is compared, never used: a bundle without one gives the same tasks."""
    content = {name: data for name, data in material.files().items() if name.startswith("eval_data/")}
    bundle = open_bundle(material.write_folder(tmp_path, content))
    assert bundle.present == TASKS
    assert json.loads(content[f"eval_data/{TASKS[0].file}"].split(b"\n")[0])["query"] == bundle.items(TASKS[0])[0].query
