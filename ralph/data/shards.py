"""The public face of prepared data: make it, open it, learn its digests."""

from pathlib import Path

from ralph.data.dataset import DataSet, DocumentSet, Rows, open_data, open_hidden
from ralph.data.layout import read_manifest
from ralph.data.partition import Progress
from ralph.data.prepare import prepare
from ralph.protocol.data import DataManifest, HiddenManifest

__all__ = [
    "DataManifest",
    "DataSet",
    "DocumentSet",
    "HiddenManifest",
    "Progress",
    "Rows",
    "data_manifest",
    "hidden_manifest",
    "open_data",
    "open_hidden",
    "prepare",
]


def data_manifest(directory: Path) -> DataManifest:
    """Read the manifest of public data as it is there; its digest goes into Rules."""
    return read_manifest(directory, DataManifest)


def hidden_manifest(directory: Path) -> HiddenManifest:
    """Read the manifest of a hidden pool as it is there; its digest is the commitment in Rules."""
    return read_manifest(directory, HiddenManifest)
