"""Text of a Hugging Face data set, streamed at one commit: the only module that touches the ``datasets`` library."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ralph.data.corpora import Document
from ralph.errors import ConfigurationError, InfrastructureError

FINEWEB_EDU = "HuggingFaceFW/fineweb-edu"
FINEWEB_SUBSET = "sample-10BT"
SOURCE = "web"
TEXT = "text"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubCorpus:
    """The rows of one split in their order. A directory of Parquet files works like a data set of the hub."""

    dataset: str
    """Name on the hub, or a local directory."""
    subset: str | None
    revision: str | None
    """The commit; None for a local directory."""
    split: str = "train"
    limit: int | None = None
    """Documents to take; None takes all."""

    @property
    def name(self) -> str:
        """Return where the text comes from."""
        place = Path(self.dataset).name if self.revision is None else f"{self.dataset} at {self.revision}"
        parts = [place, self.subset or "", self.split, f"first {self.limit} documents" if self.limit is not None else ""]
        return ", ".join(part for part in parts if part)

    @property
    def identity(self) -> str | None:
        """Return the name where it fixes every byte."""
        return self.name if self.revision is not None else None

    def documents(self, skip: int) -> Iterator[Document]:
        """Yield the documents.

        Raises:
            ConfigurationError: There is no such data set, split or text.
            InfrastructureError: The connection broke; the preparation goes on there when it is started again.
        """
        library, left = _library(), None if self.limit is None else max(0, self.limit - skip)
        try:
            rows = library.load_dataset(self.dataset, self.subset, split=self.split, revision=self.revision, streaming=True)
            rows = rows.select_columns([TEXT]).skip(skip)
            for row in rows if left is None else rows.take(left):
                yield Document(source=SOURCE, text=row[TEXT])
        except (ValueError, KeyError, FileNotFoundError) as error:  # DatasetNotFoundError and DataFilesNotFoundError among them
            raise ConfigurationError(f"{self.name} cannot be read: {error}", code="OPS-DATA") from error
        except (OSError, ConnectionError) as error:
            raise InfrastructureError(f"{self.name}: {error}; start again to go on where it broke off") from error


def hub_corpus(dataset: str, *, subset: str | None, revision: str, limit: int | None) -> HubCorpus:
    """Return a data set of the hub at the commit that ``revision`` (a commit, branch or tag) names now.

    Raises:
        ConfigurationError: No such data set or revision.
        InfrastructureError: The hub cannot be reached.
    """
    commit = revision if _COMMIT.fullmatch(revision) else _commit(dataset, revision)
    return HubCorpus(dataset=dataset, subset=subset, revision=commit, limit=limit)


def _commit(dataset: str, revision: str) -> str:
    _library()
    import huggingface_hub  # noqa: PLC0415 - comes with datasets, an optional extra
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 - the same

    try:
        return str(huggingface_hub.HfApi().dataset_info(dataset, revision=revision).sha)
    except HfHubHTTPError as error:
        raise ConfigurationError(f"the hub has no {dataset} at {revision}: {error}", code="OPS-DATA") from error
    except (OSError, ConnectionError) as error:
        raise InfrastructureError(f"the hub cannot be reached: {error}") from error


def _library() -> Any:
    try:
        import datasets  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ConfigurationError("a data set of the hub needs the datasets library: pip install 'ralph-subnet[data]'") from error
    return datasets
