from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ralph.data.corpora import CODE, DOCS, MIN_DOCUMENT_BYTES, PIECE_CHARACTERS, Document, cut, stdlib_documents

FILLING = "    # " + "x" * MIN_DOCUMENT_BYTES + "\n"


def documents_of(root: Path) -> list[Document]:
    return list(stdlib_documents(root))


def test_a_document_is_one_function_or_method_with_its_decorators(tmp_path: Path) -> None:
    function = f"@decorated\ndef one():\n{FILLING}    def inside():\n    {FILLING}        return 1\n    return inside\n"
    method = f"    async def two(self):\n    {FILLING}        return 2\n"
    conditional = f"    def three():\n    {FILLING}        return 3\n"
    (tmp_path / "module.py").write_text(f"{function}\nclass Holder:\n{method}\nif True:\n{conditional}\ntiny = lambda: 0\n")
    assert [document.text for document in documents_of(tmp_path)] == [function, method, conditional]
    assert {document.source for document in documents_of(tmp_path)} == {CODE}


def test_docstrings_of_modules_and_classes_and_help_topics_are_documentation(tmp_path: Path) -> None:
    module, inner = "Module." * 40, "Inner class." * 30
    (tmp_path / "module.py").write_text(f'"""{module}"""\n\nclass Outer:\n    class Inner:\n        """{inner}"""\n')
    (tmp_path / "pydoc_data").mkdir()
    topic = "Topic. " * 50
    (tmp_path / "pydoc_data" / "topics.py").write_text(f"topics = {{'topic': {topic!r}}}\n")
    found = documents_of(tmp_path)
    assert [document.text for document in found] == [module, inner, topic]
    assert {document.source for document in found} == {DOCS}


def test_tests_and_third_party_packages_and_unreadable_files_give_nothing(tmp_path: Path) -> None:
    text = f"def function():\n{FILLING}    return 1\n"
    for name in ("test", "site-packages", "idlelib", "ensurepip"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module.py").write_text(text)
    (tmp_path / "template.py").write_text(f"{text}\ndef {{{{ name }}}}():\n")
    (tmp_path / "latin.py").write_bytes(text.encode() + b"# \xe9\n")
    (tmp_path / "null.py").write_bytes(text.encode() + b"\x00\n")
    assert documents_of(tmp_path) == []


def test_short_functions_are_no_documents(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def short():\n    return 1\n")
    assert documents_of(tmp_path) == []


@given(st.lists(st.text(alphabet="ab \n", max_size=300), max_size=30))
def test_cutting_loses_only_blank_lines_and_keeps_pieces_near_their_size(blocks: list[str]) -> None:
    text = "\n".join(blocks)
    pieces = list(cut(text.splitlines(keepends=True)))
    assert [line for piece in pieces for line in piece.split("\n") if line.strip()] == [line for line in text.split("\n") if line.strip()]
    longest = max((len(line) for line in text.splitlines(keepends=True)), default=0)
    assert all(len(piece) <= PIECE_CHARACTERS * 2 + longest for piece in pieces)
    assert all(len(piece) >= PIECE_CHARACTERS for piece, _ in pairwise(pieces))
