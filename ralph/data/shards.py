"""The public face of prepared data: make it, open it, learn its digests."""

from pathlib import Path

from ralph.data.dataset import DataSet, DocumentSet, Rows, open_data
from ralph.data.layout import read_manifest
from ralph.data.partition import Progress
from ralph.data.pool import HiddenPool, open_pool
from ralph.data.prepare import prepare
from ralph.protocol.data import DataManifest
from ralph.protocol.pool import PoolCommitment

__all__ = [
    "DataManifest",
    "DataSet",
    "DocumentSet",
    "HiddenPool",
    "PoolCommitment",
    "Progress",
    "Rows",
    "data_manifest",
    "open_data",
    "open_pool",
    "pool_commitment",
    "prepare",
]


def data_manifest(directory: Path) -> DataManifest:
    """Read the manifest of public data as it is there; its digest goes into Rules."""
    return read_manifest(directory, DataManifest)


def pool_commitment(directory: Path) -> PoolCommitment:
    """Read the commitment of a hidden pool as it is there; its digest goes into Rules."""
    return read_manifest(directory, PoolCommitment)
