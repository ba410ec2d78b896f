"""Say everything that is wrong with a directory of prepared data, instead of stopping at the first."""

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ralph.data.layout import (
    LEAVES,
    MANIFEST,
    Index,
    map_file,
    map_filler,
    map_shard,
    map_token_bytes,
    problem_of,
    read_manifest,
    sealed_name,
)
from ralph.data.pool import HiddenPool, open_pool, read_leaves
from ralph.data.poolkey import PoolKey, key_beside
from ralph.errors import ConfigurationError, CorruptStateError
from ralph.protocol.data import DataManifest
from ralph.protocol.pool import SHARDS, PoolCommitment


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that differs from the manifest."""

    file: str
    problem: str


def verify(directory: Path, *, expect: bytes | None = None, key: Path | None = None) -> list[Finding]:
    """Check public data or a hidden pool; an empty list means that it is exactly what its manifest says.

    Args:
        directory: What ``prepare`` wrote, either of the two.
        expect: Digest that the manifest must have; None checks the files against whatever manifest is there.
        key: Of a hidden pool; by default beside it. Without it a pool cannot be checked, which is a finding.

    Raises:
        InfrastructureError: the disk does not answer.
    """
    try:
        manifest = _manifest(directory, expect)
    except (ConfigurationError, CorruptStateError) as error:
        return [Finding(file=MANIFEST, problem=problem_of(error, directory))]
    if isinstance(manifest, PoolCommitment):
        names = (LEAVES, *map(sealed_name, SHARDS))
        findings = [*_pool_findings(directory, manifest, key or key_beside(directory)), *_stray_findings(directory, names)]
        return findings + _permission_findings(directory)
    findings = _file_findings(directory, manifest)
    if not findings:
        findings = _content_findings(directory, manifest)
    return findings + _stray_findings(directory, (entry.name for entry in manifest.files()))


def shared_documents(data: Path, hidden: Path, *, key: Path | None = None) -> int:
    """Return how many documents of the hidden pool are also in the public data: 0, or somebody mixed directories."""
    pool = open_pool(hidden, key=key or key_beside(hidden), expect=None)
    return len(_digests(_public_indexes(data)) & _digests(pool.contents(name).index for name in SHARDS))


def _manifest(directory: Path, expect: bytes | None) -> DataManifest | PoolCommitment:
    try:
        return read_manifest(directory, DataManifest, expect=expect)
    except CorruptStateError as error:
        try:
            return read_manifest(directory, PoolCommitment, expect=expect)
        except CorruptStateError:
            raise error from None


def _pool_findings(directory: Path, commitment: PoolCommitment, key: Path) -> Iterator[Finding]:
    """Check what is public of a pool, then open every shard."""
    try:
        leaves = read_leaves(directory, commitment)
    except (ConfigurationError, CorruptStateError) as error:
        yield Finding(file=LEAVES, problem=problem_of(error, directory))
        return
    try:
        pool = HiddenPool(directory=directory, key=PoolKey.load(key), commitment=commitment, leaves=leaves)
    except (ConfigurationError, CorruptStateError) as error:
        yield Finding(file=key.name, problem=f"{error.detail}; the sealed shards are not checked")
        return
    for name in SHARDS:
        try:
            pool.contents(name)
        except (ConfigurationError, CorruptStateError) as error:
            yield Finding(file=sealed_name(name), problem=problem_of(error, directory))


def _file_findings(directory: Path, manifest: DataManifest) -> list[Finding]:
    findings: list[Finding] = []
    for entry in manifest.files():
        try:
            map_file(directory, entry)
        except (ConfigurationError, CorruptStateError) as error:
            findings.append(Finding(file=entry.name, problem=problem_of(error, directory)))
    return findings


def _content_findings(directory: Path, manifest: DataManifest) -> list[Finding]:
    """Check that files which are what the manifest says also fit together."""
    try:
        token_bytes = map_token_bytes(directory, manifest)
        map_filler(directory, manifest)
        for shard in manifest.shards():
            map_shard(directory, shard, token_bytes=token_bytes, sources=len(manifest.source_names))
    except CorruptStateError as error:
        return [Finding(file=MANIFEST, problem=problem_of(error, directory))]
    return []


def _stray_findings(directory: Path, names: Iterable[str]) -> list[Finding]:
    known = {MANIFEST, *names}
    strays = sorted(path.name for path in directory.iterdir() if path.name not in known)
    return [Finding(file=name, problem=f"{directory / name} is not named by the manifest") for name in strays]


def _permission_findings(directory: Path) -> list[Finding]:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [Finding(file=".", problem=f"{directory} holds the hidden pool and has mode {mode:o}; make it 700")]
    return []


def _public_indexes(directory: Path) -> Iterator[Index]:
    manifest = read_manifest(directory, DataManifest)
    token_bytes = map_token_bytes(directory, manifest)
    for shard in manifest.shards():
        yield map_shard(directory, shard, token_bytes=token_bytes, sources=len(manifest.source_names))[1]


def _digests(indexes: Iterable[Index]) -> set[bytes]:
    return {row.tobytes() for index in indexes for row in np.asarray(index["digest"])}
