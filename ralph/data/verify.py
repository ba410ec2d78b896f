"""Say everything that is wrong with a directory of prepared data, instead of stopping at the first."""

import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ralph.data.layout import (
    MANIFEST,
    Index,
    map_file,
    map_filler,
    map_shard,
    map_token_bytes,
    problem_of,
    read_manifest,
)
from ralph.errors import ConfigurationError, CorruptStateError
from ralph.protocol.data import DataManifest, HiddenManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that differs from the manifest."""

    file: str
    problem: str


def verify(directory: Path, *, expect: bytes | None = None) -> list[Finding]:
    """Check public data or a hidden pool; an empty list means that it is exactly what its manifest says.

    Args:
        directory: What ``prepare`` wrote, either of the two.
        expect: Digest that the manifest must have; None checks the files against whatever manifest is there.

    Raises:
        InfrastructureError: the disk does not answer.
    """
    try:
        manifest = _manifest(directory, expect)
    except (ConfigurationError, CorruptStateError) as error:
        return [Finding(file=MANIFEST, problem=problem_of(error, directory))]
    findings = _file_findings(directory, manifest)
    if not findings:
        findings = _content_findings(directory, manifest)
    return findings + _stray_findings(directory, manifest) + _permission_findings(directory, manifest)


def shared_documents(data: Path, hidden: Path) -> int:
    """Return how many documents of the hidden pool are also in the public data: 0, or somebody mixed directories."""
    public = _digests(data, read_manifest(data, DataManifest))
    return len(public & _digests(hidden, read_manifest(hidden, HiddenManifest)))


def _manifest(directory: Path, expect: bytes | None) -> DataManifest | HiddenManifest:
    try:
        return read_manifest(directory, DataManifest, expect=expect)
    except CorruptStateError as error:
        try:
            return read_manifest(directory, HiddenManifest, expect=expect)
        except CorruptStateError:
            raise error from None


def _file_findings(directory: Path, manifest: DataManifest | HiddenManifest) -> list[Finding]:
    findings: list[Finding] = []
    for entry in manifest.files():
        try:
            map_file(directory, entry)
        except (ConfigurationError, CorruptStateError) as error:
            findings.append(Finding(file=entry.name, problem=problem_of(error, directory)))
    return findings


def _content_findings(directory: Path, manifest: DataManifest | HiddenManifest) -> list[Finding]:
    """Check that files which are what the manifest says also fit together."""
    try:
        token_bytes = map_token_bytes(directory, manifest)
        map_filler(directory, manifest)
        for shard in manifest.shards():
            map_shard(directory, shard, token_bytes=token_bytes, sources=len(manifest.source_names))
    except CorruptStateError as error:
        return [Finding(file=MANIFEST, problem=problem_of(error, directory))]
    return []


def _stray_findings(directory: Path, manifest: DataManifest | HiddenManifest) -> list[Finding]:
    known = {MANIFEST, *(entry.name for entry in manifest.files())}
    strays = sorted(path.name for path in directory.iterdir() if path.name not in known)
    return [Finding(file=name, problem=f"{directory / name} is not named by the manifest") for name in strays]


def _permission_findings(directory: Path, manifest: DataManifest | HiddenManifest) -> list[Finding]:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if isinstance(manifest, HiddenManifest) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [Finding(file=".", problem=f"{directory} holds the hidden pool and has mode {mode:o}; make it 700")]
    return []


def _digests(directory: Path, manifest: DataManifest | HiddenManifest) -> set[bytes]:
    token_bytes = map_token_bytes(directory, manifest)
    indexes: list[Index] = [
        map_shard(directory, shard, token_bytes=token_bytes, sources=len(manifest.source_names))[1] for shard in manifest.shards()
    ]
    return {row.tobytes() for index in indexes for row in np.asarray(index["digest"])}
