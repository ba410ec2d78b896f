"""Announcements, and the single on-chain slot that carries them.

A hotkey has one slot on chain, so the slot always holds one versioned payload that is rewritten whole.
The announcement commits to the resulting tree, the parent king, the hypothesis and a salt before the
beacon that yields its seeds exists.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import Canonical, Digest, Real, digest

SLOT_VERSION = 1
ANCHOR_VERSION = 129
ZERO = bytes(32)
SLOT_BYTES = 106
ANCHOR_BYTES = 33

Text = Annotated[str, Field(max_length=2000)]
ShortText = Annotated[str, Field(max_length=200)]


class Hypothesis(Canonical):
    """What the miner expects, written before the result: prose that pays nothing by itself."""

    TAG: ClassVar[str] = "recipe-net/hypothesis/v1"

    change: Text
    mechanism: Text
    predicted_gain_bpb: Real
    predicted_low_bpb: Real
    predicted_high_bpb: Real
    falsifier: Text


class Environment(Canonical):
    """Pins of the machine and stack that made a run. What the miner says of itself is a claim."""

    TAG: ClassVar[str] = "recipe-net/environment/v1"

    system: ShortText
    python: ShortText
    torch: ShortText
    device: ShortText
    instruction_set: ShortText
    threads: Annotated[int, Field(ge=1, le=4096)]
    sandbox: ShortText


class Announcement(Canonical):
    """The preimage of an announcement; its digest goes on chain, the preimage into the bundle."""

    TAG: ClassVar[str] = "recipe-net/announcement/v1"

    tree: Digest
    """Digest of the tree that the patch results in."""
    parent: Digest
    """Digest of the king's tree that the patch applies to."""
    hotkey: ShortText
    track: ShortText
    hypothesis: Digest
    environment: Digest
    salt: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The payload of a miner's slot, 106 bytes."""

    track: int
    parent: bytes
    """First 8 bytes of the parent's tree digest, in clear so that caps can be charged."""
    announcement: bytes
    bundle: bytes = ZERO
    last_link: bytes = ZERO

    def to_bytes(self) -> bytes:
        """Return the fixed layout: version u8, track u8, parent[8], announcement, bundle, last link."""
        return bytes([SLOT_VERSION, self.track]) + self.parent + self.announcement + self.bundle + self.last_link

    @classmethod
    def from_bytes(cls, data: bytes) -> "Slot":
        """Parse a slot. Raises UntrustedInputError ``INT-SCHEMA``."""
        if len(data) != SLOT_BYTES or data[0] != SLOT_VERSION:
            raise UntrustedInputError("INT-SCHEMA", f"a slot is {SLOT_BYTES} bytes of version {SLOT_VERSION}, got {len(data)} bytes")
        return cls(track=data[1], parent=data[2:10], announcement=data[10:42], bundle=data[42:74], last_link=data[74:106])


def case_id(announcement: bytes, hotkey: str) -> bytes:
    """Return what identifies a case: anyone can copy a digest into his own slot, so the hotkey belongs to it."""
    return digest("recipe-net/case/v1", {"announcement": announcement, "hotkey": hotkey})


def anchor_payload(anchor: bytes) -> bytes:
    """Return a validator's slot: the digest of its Anchor, which itself is in the store."""
    return bytes([ANCHOR_VERSION]) + anchor


def parse_anchor_payload(data: bytes) -> bytes:
    """Return the Anchor digest of a validator's slot. Raises UntrustedInputError ``INT-SCHEMA``."""
    if len(data) != ANCHOR_BYTES or data[0] != ANCHOR_VERSION:
        raise UntrustedInputError(
            "INT-SCHEMA", f"an anchor slot is {ANCHOR_BYTES} bytes of version {ANCHOR_VERSION}, got {len(data)} bytes"
        )
    return data[1:]
