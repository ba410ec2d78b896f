import shutil
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ralph.data.corpora import Document, stdlib_documents
from ralph.data.poolkey import key_beside
from ralph.data.shards import DataManifest, pool_commitment, prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Public data and a hidden pool, and the digests that Rules would name."""

    data: Path
    hidden: Path
    key: Path
    manifest: DataManifest
    digest: bytes
    commitment: bytes


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Real text: two packages of the standard library, and some of what tokenizers stumble over."""
    library = Path(sysconfig.get_path("stdlib"))
    real = [*stdlib_documents(library / "email"), *stdlib_documents(library / "logging")]
    odd = ["<|bos|>" * 40, "naïve café — ☃ 🜁 " * 20, "日本語の文書。" * 30, "\x00\x01\x7f\u0085\u2028" * 30, "-" * 400]
    return [*real, *(Document(source="docs", text=text) for text in odd)]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, documents: list[Document]) -> Prepared:
    root = tmp_path_factory.mktemp("prepared")
    manifest = prepare(root / "data", hidden=root / "hidden", vocabulary=400, documents=documents)
    commitment = pool_commitment(root / "hidden").digest()
    return Prepared(
        data=root / "data",
        hidden=root / "hidden",
        key=key_beside(root / "hidden"),
        manifest=manifest,
        digest=manifest.digest(),
        commitment=commitment,
    )


@pytest.fixture
def prepared(tmp_path: Path, original: Prepared) -> Prepared:
    """A copy that a test may damage."""
    root = tmp_path / "prepared"
    shutil.copytree(original.data, root / "data")
    shutil.copytree(original.hidden, root / "hidden")
    shutil.copy2(original.key, root / "hidden.key")
    return replace(original, data=root / "data", hidden=root / "hidden", key=root / "hidden.key")
