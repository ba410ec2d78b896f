"""Submit: bundle the runs, put every file into the store, sign, and set the bundle's digest in the slot."""

import logging

from ralph.errors import CorruptStateError
from ralph.interfaces import Chain
from ralph.miner.announce import Entry, slot_of
from ralph.miner.prove import Files
from ralph.miner.services import MinerServices
from ralph.protocol.bundle import LICENCE, manifest_of
from ralph.protocol.seeds import nonce
from ralph.protocol.submission import Submission, submission_name

logger = logging.getLogger(__name__)


def bundle_files(services: MinerServices, entry: Entry, runs: Files) -> Files:
    """Return every file of a bundle."""
    limit = services.profile.rules.patch.max_patch_bytes
    return {
        "announcement.cbor": entry.announcement.to_bytes(),
        "environment.cbor": entry.environment.to_bytes(),
        "hypothesis.cbor": entry.hypothesis.to_bytes(),
        "licence": LICENCE,
        "patch.diff": services.private.get(entry.patch, limit=limit),
        **runs,
    }


def publish(services: MinerServices, entry: Entry, files: Files, *, beacon_one: bytes) -> bytes:
    """Put a bundle and its signed Submission into the store; return the bundle's digest."""
    manifest = manifest_of(files)
    for data in files.values():
        services.store.put(data)
    bundle = services.store.put(manifest.to_bytes())
    announcement = entry.announcement.digest()
    drawn = nonce(beacon_one=beacon_one, announcement=announcement, hotkey=services.hotkey.key_id)
    message = Submission.message(announcement=announcement, nonce=drawn, bundle=bundle)
    submission = Submission(
        hotkey=services.hotkey.key_id, announcement=announcement, nonce=drawn, bundle=bundle, signature=services.hotkey.sign(message)
    )
    services.store.put_named(submission_name(services.hotkey.key_id, bundle), submission.to_bytes())
    return bundle


async def set_slot(services: MinerServices, entry: Entry, *, bundle: bytes | None, deadline: int) -> bool:
    """Write the slot so that it lands by ``deadline``; return whether it did. Repeating it changes nothing."""
    payload = slot_of(services, entry, bundle=bundle).to_bytes()
    head = await services.chain.head()
    if await _shows(services.chain, services.hotkey.key_id, payload, head.number):
        return True
    if head.number + 1 > deadline:
        return False
    landed = await services.chain.commit(payload)
    logger.info("slot set in block %d (deadline %d)", landed, deadline)
    if landed > deadline:
        raise CorruptStateError(f"the slot landed in block {landed}, its deadline was {deadline}", code="INT-LATE")
    return True


async def _shows(chain: Chain, hotkey: str, payload: bytes, block: int) -> bool:
    return (await chain.commitments(block)).get(hotkey) == payload
