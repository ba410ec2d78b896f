from pathlib import Path

from ralph.data.corpora import Document
from ralph.data.layout import MANIFEST
from ralph.data.partition import Fractions
from ralph.data.shards import prepare
from ralph.data.verify import Finding, shared_documents, verify

from .conftest import Prepared


def files(findings: list[Finding]) -> list[str]:
    return [finding.file for finding in findings]


def test_fresh_data_have_no_findings(prepared: Prepared) -> None:
    assert verify(prepared.data, expect=prepared.digest) == []
    assert verify(prepared.hidden, expect=prepared.commitment) == []


def test_all_damage_is_listed_at_once(prepared: Prepared) -> None:
    (prepared.data / "val.bin").write_bytes(b"short")
    (prepared.data / "tokenizer.json").unlink()
    (prepared.data / "notes.txt").write_text("mine")
    findings = verify(prepared.data)
    assert files(findings) == ["tokenizer.json", "val.bin", "notes.txt"]
    assert "is missing" in findings[0].problem
    assert "has 5 bytes" in findings[1].problem
    assert all("ralph data verify" not in finding.problem for finding in findings)


def test_other_data_than_expected_is_one_finding(prepared: Prepared) -> None:
    assert files(verify(prepared.data, expect=bytes(32))) == [MANIFEST]


def test_no_data_is_one_finding(tmp_path: Path) -> None:
    assert files(verify(tmp_path)) == [MANIFEST]


def test_a_file_that_is_no_manifest_is_one_finding(prepared: Prepared) -> None:
    (prepared.data / MANIFEST).write_bytes(b"\x00")
    assert files(verify(prepared.data)) == [MANIFEST]


def test_files_that_are_what_the_manifest_says_but_do_not_fit_together_are_found(prepared: Prepared) -> None:
    shard = prepared.manifest.validation
    wrong = shard.model_copy(update={"byte_count": shard.byte_count + 1})
    (prepared.data / MANIFEST).write_bytes(prepared.manifest.model_copy(update={"validation": wrong}).to_bytes())
    findings = verify(prepared.data)
    assert "do not add up" in findings[0].problem


def test_a_hidden_pool_that_others_can_read_is_found(prepared: Prepared) -> None:
    prepared.hidden.chmod(0o755)
    findings = verify(prepared.hidden, expect=prepared.commitment)
    assert "mode 755" in findings[0].problem


def test_a_pool_of_another_preparation_that_overlaps_the_public_data_is_counted(
    tmp_path: Path, documents: list[Document], prepared: Prepared
) -> None:
    prepare(tmp_path / "b" / "data", hidden=tmp_path / "b" / "hidden", vocabulary=300, documents=documents, fractions=Fractions(hidden=0.8))
    assert shared_documents(prepared.data, tmp_path / "b" / "hidden") > 0
    assert shared_documents(prepared.data, prepared.hidden) == 0
