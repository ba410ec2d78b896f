"""A Submission, and the Case that a validator makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from ralph.protocol.announcement import Announcement, Environment, Hypothesis, ShortText
from ralph.protocol.bundle import Manifest, RunClaim
from ralph.protocol.canonical import Canonical, Digest, digest
from ralph.protocol.patch import RecipeTree

SUBMISSION_TAG = "recipe-net/submission-signature/v1"
MAX_SUBMISSION_BYTES = 1 << 12


class Submission(Canonical):
    """What a hotkey delivers for one look; stored by name because its signature is randomised."""

    TAG: ClassVar[str] = "recipe-net/submission/v1"

    hotkey: ShortText
    announcement: Digest
    nonce: Digest
    bundle: Digest
    signature: Annotated[bytes, Field(min_length=64, max_length=64)]

    @staticmethod
    def message(*, announcement: bytes, nonce: bytes, bundle: bytes) -> bytes:
        """Return the 32-byte digest that the hotkey signs."""
        return digest(SUBMISSION_TAG, {"announcement": announcement, "nonce": nonce, "bundle": bundle})


def submission_name(hotkey: str, bundle: bytes) -> str:
    """Return the store name under which a hotkey's Submission for ``bundle`` is found."""
    return f"submissions/{hotkey}/{bundle.hex()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun:
    """One run of a bundle: the claim, its transcript and its weights."""

    claim: RunClaim
    transcript: bytes = field(repr=False)
    weights: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFacts:
    """What the chain says about a case, pinned at finalised blocks."""

    round_index: int
    hotkey: str
    coldkey: str
    registered_at: int
    slot_announcement: bytes
    slot_parent: bytes
    slot_bundle: bytes
    beacon_one: bytes
    seeds: tuple[int, ...]
    """Seeds that the bundle's runs must have, in order."""
    rung: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A Submission with its unpacked bundle and pinned chain facts. Every file was checked against its digest."""

    facts: ChainFacts
    submission: Submission
    manifest: Manifest
    announcement: Announcement
    hypothesis: Hypothesis
    environment: Environment
    patch: bytes = field(repr=False)
    runs: Mapping[tuple[str, int], ClaimedRun] = field(repr=False)
    king: RecipeTree = field(repr=False)
