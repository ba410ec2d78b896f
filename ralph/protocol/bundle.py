"""A submission's bundle: a closed set of files under one manifest.

``bundle_digest`` is the manifest's digest. Every file is in the content-addressed store under its own
SHA-256. A bundle of a running contest carries the runs of the current look only.
"""

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import U64, Canonical, Digest, Real, blob_digest
from ralph.protocol.rules import BundleRules

FIXED_FILES = ("announcement.cbor", "environment.cbor", "hypothesis.cbor", "licence", "patch.diff")
RUN_FILES = ("run.cbor", "transcript", "weights.safetensors")
LICENCE = b"Apache-2.0\n"
_RUN_NAME = re.compile(r"runs/([A-Z][A-Z0-9]{0,7})-([0-9a-f]{16})/([a-z.]+)")
MAX_MANIFEST_BYTES = 1 << 16


class ManifestEntry(Canonical):
    """One file: its name inside the bundle, SHA-256 and size."""

    TAG: ClassVar[str] = "recipe-net/manifest-entry/v1"

    name: Annotated[str, Field(max_length=200)]
    sha256: Digest
    size: U64


class Manifest(Canonical):
    """All files of a bundle, sorted by name."""

    TAG: ClassVar[str] = "recipe-net/manifest/v1"

    files: tuple[ManifestEntry, ...]

    def run_keys(self, rules: BundleRules) -> tuple[tuple[str, int], ...]:
        """Check the closed schema and the limits; return (rung, seed) of each run, in manifest order.

        Raises:
            UntrustedInputError: ``INT-SCHEMA`` for a missing, unknown or repeated name, ``INT-SIZE`` over a limit.
        """
        names = [entry.name for entry in self.files]
        if names != sorted(set(names)):
            raise UntrustedInputError("INT-SCHEMA", "manifest names are not sorted and unique")
        total = sum(entry.size for entry in self.files)
        if len(names) > rules.max_files or total > rules.max_total_bytes:
            raise UntrustedInputError(
                "INT-SIZE", f"{len(names)} files of {total} bytes, limits {rules.max_files} and {rules.max_total_bytes}"
            )
        for entry in self.files:
            if entry.name.endswith(".cbor") and entry.size > rules.max_document_bytes:
                raise UntrustedInputError("INT-SIZE", f"{entry.name} has {entry.size} bytes, limit {rules.max_document_bytes}")
        return _run_keys(names)

    def entry(self, name: str) -> ManifestEntry:
        """Return the entry called ``name``. Raises UntrustedInputError ``INT-SCHEMA``."""
        for entry in self.files:
            if entry.name == name:
                return entry
        raise UntrustedInputError("INT-SCHEMA", f"the bundle has no {name}")


def _run_keys(names: list[str]) -> tuple[tuple[str, int], ...]:
    runs: dict[tuple[str, int], set[str]] = {}
    for name in names:
        if name in FIXED_FILES:
            continue
        match = _RUN_NAME.fullmatch(name)
        if match is None or match[3] not in RUN_FILES:
            raise UntrustedInputError("INT-SCHEMA", f"{name!r} is not a file of a bundle")
        runs.setdefault((match[1], int(match[2], 16)), set()).add(match[3])
    missing = [name for name in FIXED_FILES if name not in names]
    if missing or not runs or any(files != set(RUN_FILES) for files in runs.values()):
        raise UntrustedInputError("INT-SCHEMA", f"files are missing: {missing or 'of a run'}")
    return tuple(runs)


def run_prefix(rung: str, seed: int) -> str:
    """Return the directory of a run inside a bundle."""
    return f"runs/{rung}-{seed:016x}/"


def manifest_of(files: Mapping[str, bytes]) -> Manifest:
    """Return the manifest of ``files``."""
    return Manifest(files=tuple(ManifestEntry(name=name, sha256=blob_digest(files[name]), size=len(files[name])) for name in sorted(files)))


class RunClaim(Canonical):
    """What a miner says one run gave. All of it is a claim."""

    TAG: ClassVar[str] = "recipe-net/run-claim/v1"

    rung: Annotated[str, Field(max_length=8)]
    seed: U64
    steps: U64
    batch_rows: U64
    sequence: U64
    tokens: U64
    parameters: U64
    transcript_root: Digest
    segments_root: Digest
    weights: Digest
    final_loss_nats: Real
