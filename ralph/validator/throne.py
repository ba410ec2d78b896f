"""From a decision to a paid king: record, publish, read back, anchor, crown, weights; each step resumable.

Nothing takes effect before the Record that says why has been published, read back from the store and
verified. Weights are a function of published Records only; setting them is reconciliation, not an event.
"""

import logging
from dataclasses import dataclass

from ralph.chain.waiting import reach
from ralph.errors import ChainRejected, CorruptStateError
from ralph.judge.decide import decide
from ralph.judge.weights import weights
from ralph.protocol.announcement import Environment, anchor_payload
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import set_digest
from ralph.protocol.record import (
    MAX_ANCHOR_BYTES,
    MAX_RECORD_BYTES,
    Anchor,
    KeyEndorsement,
    Record,
    SignedRecord,
    endorsement_name,
)
from ralph.protocol.rounds import Window
from ralph.records.history import History
from ralph.repository.lineage import CrownFacts, RestorationFacts
from ralph.repository.stored import load_tree, store_tree
from ralph.validator.round import Gathered
from ralph.validator.services import Services

logger = logging.getLogger(__name__)

NOMINAL_BLOCK_S = 12
"""Crown commits are dated block number x 12 s, so that they repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """Writes what was decided into the log, the chain and the repository."""

    services: Services
    history: History

    async def commit_measurements(self, gathered: Gathered, window: Window) -> None:
        """Anchor the digest of the round's measurements before a Record opens them."""
        key = f"{window.index}/measurements"
        if self.services.events.get("anchored", key) is None:
            last = self.history.entries[-1] if self.history.entries else None
            anchor = Anchor(
                round=window.index,
                size=last.anchor.size if last else 0,
                root=self.history.root(),
                record=last.locator if last else None,
                measurements=set_digest(gathered.measurements),
                hidden=self.services.pools.newest.commitment.digest(),
                previous=last.anchor_digest if last else None,
            )
            await self._anchor(anchor, key)
        await reach(self.services.chain, window.measure_end)

    def record(self, gathered: Gathered, throne: Throne, window: Window) -> SignedRecord:
        """Decide, and write the account of the round."""
        payload = self.services.events.get("record", str(window.index))
        if payload is None:
            signed = self._write(gathered, throne, window)
            payload = signed.to_bytes()
            self.services.events.append("record", str(window.index), payload)
        return SignedRecord.from_bytes(payload, limit=MAX_RECORD_BYTES)

    def _write(self, gathered: Gathered, throne: Throne, window: Window) -> SignedRecord:
        services = self.services
        rules = services.profile.rules
        decision = decide(
            throne,
            round_index=window.index,
            beacon_two=gathered.beacon_two.beacon,
            cases=gathered.cases,
            measurements=tuple(item.measurement for item in gathered.measurements),
            sealed=gathered.sealed,
            rules=rules,
        )
        last = self.history.entries[-1] if self.history.entries else None
        record = Record(
            round=window.index,
            track=rules.track,
            chain=services.profile.chain,
            rules=rules.digest(),
            validator=services.hotkey.key_id,
            previous=last.signed.record.digest() if last else None,
            beacons=(gathered.beacon_one, gathered.beacon_two),
            king=throne.king.tree,
            environments=self._environments(gathered),
            cases=gathered.cases,
            measurements=gathered.measurements,
            outcomes=decision.outcomes,
            crown=decision.crown,
            demotion=decision.demotion,
            hidden=gathered.hidden,
            watch=decision.watch,
            openings=gathered.openings,
        )
        return SignedRecord(record=record, signature=services.record_key.sign(record.digest()))

    def _environments(self, gathered: Gathered) -> tuple[Environment, ...]:
        """Return the stacks that the round's measurements name."""
        found = []
        for digest in sorted({item.measurement.environment for item in gathered.measurements}):
            payload = self.services.events.get("environment", digest.hex())
            if payload is None:
                raise CorruptStateError(f"environment {digest.hex()[:16]} of a measurement is not in the event table")
            found.append(Environment.from_bytes(payload, limit=MAX_ANCHOR_BYTES))
        return tuple(found)

    async def publish(self, signed: SignedRecord, window: Window) -> None:
        """Publish the Record, read it back, anchor it, and verify the history as a stranger would."""
        store, key = self.services.store, f"{window.index}/record"
        if self.services.events.get("anchored", key) is None:
            self._endorse()
            locator = store.put(signed.to_bytes())
            read_back = SignedRecord.from_bytes(store.get(locator, limit=MAX_RECORD_BYTES), limit=MAX_RECORD_BYTES)
            if read_back != signed:
                raise CorruptStateError("the store returned another record than was published", code="OPS-HOLD")
            last = self.history.entries[-1] if self.history.entries else None
            anchor = Anchor(
                round=window.index,
                size=len(self.history.entries) + 1,
                root=self.history.root_with(signed.record.to_bytes()),
                record=locator,
                measurements=None,
                hidden=self.services.pools.newest.commitment.digest(),
                previous=last.anchor_digest if last else None,
            )
            await self._anchor(anchor, key)
        digest = self.services.events.get("anchored", key)
        if digest is not None:
            self.history.read(digest)

    async def _anchor(self, anchor: Anchor, key: str) -> None:
        data = anchor.to_bytes()
        digest = self.services.store.put(data)
        if Anchor.from_bytes(self.services.store.get(digest, limit=MAX_ANCHOR_BYTES), limit=MAX_ANCHOR_BYTES) != anchor:
            raise CorruptStateError("the store returned another anchor than was published", code="OPS-HOLD")
        chain, own = self.services.chain, self.services.hotkey.key_id
        head = await chain.head()
        if (await chain.commitments(head.number)).get(own) != anchor_payload(digest):
            block = await chain.commit(anchor_payload(digest))
            await reach(chain, block)
            if (await chain.commitments(block)).get(own) != anchor_payload(digest):
                raise CorruptStateError(f"the anchor is not in our slot at block {block}", code="OPS-HOLD")
        self.services.events.append("anchored", key, digest)

    def _endorse(self) -> None:
        services = self.services
        name, own = endorsement_name(services.hotkey.key_id), services.hotkey.key_id
        if services.events.get("endorsed", own) is None:
            public = services.record_key.public_key
            signature = services.hotkey.sign(KeyEndorsement.message(own, public))
            services.store.put_named(name, KeyEndorsement(hotkey=own, record_key=public, signature=signature).to_bytes())
            services.events.append("endorsed", own, public)

    def crown(self, signed: SignedRecord, window: Window) -> None:
        """Merge and tag the new king's tree, once his Record is published and verified."""
        record = signed.record
        if record.crown is None or self.services.events.get("crowned", str(window.index)) is not None:
            return
        tree = load_tree(self.services.store, record.crown.tree, max_file_bytes=self.services.profile.rules.patch.max_file_bytes)
        case = next(case for case in record.cases if case.announcement == record.crown.announcement and case.hotkey == record.crown.hotkey)
        facts = CrownFacts(
            round=record.round,
            announcement=record.crown.announcement,
            hotkey=record.crown.hotkey,
            gain_bpb=record.crown.gain_bpb,
            parent=record.crown.parent,
            record=record.digest(),
            change=case.hypothesis.change if case.hypothesis else "",
            when=window.measure_end * NOMINAL_BLOCK_S,
        )
        tag = self.services.repository.crown(tree, facts)
        if tag != record.crown.tag:
            raise CorruptStateError(f"the repository tagged {tag}, the record says {record.crown.tag}")
        self.services.events.append("crowned", str(window.index), tag.encode("ascii"))
        logger.info("round %d: %s crowned as %s", record.round, record.crown.hotkey, tag)

    def demote(self, signed: SignedRecord, window: Window) -> None:
        """Put the tree of the king before back on the main line, once the Record that demotes is published and verified."""
        record = signed.record
        if record.demotion is None or self.services.events.get("demoted", str(window.index)) is not None:
            return
        facts = RestorationFacts(
            round=record.round,
            demoted=record.demotion.tree,
            restored=record.demotion.restored,
            reason=record.demotion.reason,
            record=record.digest(),
            when=window.measure_end * NOMINAL_BLOCK_S,
        )
        tag = self.services.repository.restore(facts)
        if tag != record.demotion.tag:
            raise CorruptStateError(f"the repository tagged {tag}, the record says {record.demotion.tag}")
        self.services.events.append("demoted", str(window.index), tag.encode("ascii"))
        logger.warning(
            "round %d: %s is demoted, %s: %s", record.round, record.demotion.hotkey, record.demotion.reason, record.demotion.detail
        )

    async def reconcile_weights(self) -> None:
        """Make the weights on chain equal to what the published Records say; nothing when the chain will not take them yet."""
        chain, rules = self.services.chain, self.services.profile.rules
        head = await chain.head()
        metagraph = await chain.snapshot(head.number)
        owner = await chain.owner_hotkey()
        registered = frozenset(metagraph.by_hotkey())
        desired = dict(weights(self.history.throne, rules, owner=owner, registered=registered))
        if not desired:
            return
        current = (await chain.weights(head.number)).get(self.services.hotkey.key_id, {})
        if _normalised(current) == _normalised(desired):
            return
        try:
            await chain.set_weights(desired, version_key=rules.version)
        except ChainRejected as error:
            if error.retry_after_blocks is None:
                raise
            logger.info("weights wait %d blocks: %s", error.retry_after_blocks, error.detail)

    def publish_genesis(self) -> None:
        """Put into the store what everyone starts from: the genesis recipe, the commitments, and what counts bytes of opened documents."""
        store_tree(self.services.store, self.services.genesis)
        self.services.pools.publish(self.services.store)


def _normalised(vector: dict[str, int]) -> dict[str, int]:
    largest = max(vector.values(), default=0)
    return {hotkey: weight * 65_535 // largest for hotkey, weight in vector.items()} if largest else {}
