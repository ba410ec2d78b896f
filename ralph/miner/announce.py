"""Announce: commit to a tree, its parent, a hypothesis and a salt before the beacon exists."""

import secrets
from typing import ClassVar

from ralph.miner.services import MinerServices, Proposal
from ralph.protocol.announcement import ZERO, Announcement, Environment, Hypothesis, Slot
from ralph.protocol.canonical import Canonical, Digest
from ralph.protocol.patch import RecipeTree
from ralph.repository.apply import diff
from ralph.repository.stored import store_tree

MAX_ENTRY_BYTES = 1 << 16


class Entry(Canonical):
    """What a miner must not lose about an announcement: the preimage with its salt, and the patch."""

    TAG: ClassVar[str] = "recipe-net/miner-entry/v1"

    announcement: Announcement
    hypothesis: Hypothesis
    environment: Environment
    patch: Digest
    """SHA-256 of the diff in the private store."""
    round: int
    """Round it was announced in."""


def prepare(services: MinerServices, proposal: Proposal, king: RecipeTree, *, round_index: int) -> Entry:
    """Write down everything an announcement commits to, salt included, before anything is on chain."""
    patch = diff(services.scratch, king, proposal.tree)
    store_tree(services.private, proposal.tree)
    announcement = Announcement(
        tree=proposal.tree.digest(),
        parent=king.digest(),
        hotkey=services.hotkey.key_id,
        track=services.profile.rules.track,
        hypothesis=proposal.hypothesis.digest(),
        environment=services.environment.digest(),
        salt=secrets.token_bytes(32),
    )
    entry = Entry(
        announcement=announcement,
        hypothesis=proposal.hypothesis,
        environment=services.environment,
        patch=services.private.put(patch),
        round=round_index,
    )
    services.events.append("entry", announcement.digest().hex(), entry.to_bytes())
    return entry


def slot_of(services: MinerServices, entry: Entry, *, bundle: bytes | None = None) -> Slot:
    """Return the slot payload of an entry, with the bundle of the current look once there is one."""
    return Slot(
        track=services.profile.rules.track_number,
        parent=entry.announcement.parent[:8],
        announcement=entry.announcement.digest(),
        bundle=bundle or ZERO,
    )
