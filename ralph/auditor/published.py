"""Read what a validator published: endorsement, anchors, Records. Every file is hashed here, whatever the store promises.

Unlike ``ralph.records.history`` this does not stop at the first fault: it says what it found and reads on
as long as what follows can be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ralph.auditor.facts import SlotChange, ValidatorFacts
from ralph.auditor.report import Check, Findings
from ralph.errors import StoreUnavailable, UntrustedInputError
from ralph.interfaces import BundleStore
from ralph.protocol.canonical import blob_digest
from ralph.protocol.keys import verify_hotkey, verify_record_key
from ralph.protocol.merkle import EMPTY_ROOT, verify_consistency, verify_inclusion
from ralph.protocol.network import NetworkProfile
from ralph.protocol.record import MAX_ANCHOR_BYTES, MAX_RECORD_BYTES, Anchor, KeyEndorsement, Record, SignedRecord, endorsement_name
from ralph.records.history import anchor_of
from ralph.records.log import MerkleLog

MAX_ANCHORS = 100_000
Parsed = TypeVar("Parsed", Anchor, KeyEndorsement, SignedRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One Record with the anchor that pins it."""

    digest: bytes
    """Store key of the anchor."""
    anchor: Anchor
    signed: SignedRecord

    @property
    def record(self) -> Record:
        """Return the Record."""
        return self.signed.record


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything published that could be read."""

    records: tuple[Published, ...]
    """Oldest first, up to the first that could not be read."""
    chain: tuple[bytes, ...]
    """Store keys of the anchors of all Records, also of those that could not be read."""
    anchors: dict[bytes, Anchor]
    """Every anchor that was ever in the slot or is an ancestor of one that was, by store key."""
    root: bytes

    def appeared(self, facts: ValidatorFacts, digest: bytes) -> int | None:
        """Return the first block at which an anchor was in the slot."""
        return next((change.block for change in facts.slots if anchor_of(change.payload) == digest), None)


def signatures(signed: SignedRecord, key: bytes) -> tuple[tuple[bool, str], ...]:
    """Return whether each signature of a Record is the key's, and what it is of."""
    record = signed.record
    whole = (verify_record_key(key, record.digest(), signed.signature), "the record")
    parts = (
        (verify_record_key(key, item.measurement.digest(), item.signature), f"measurement {number}")
        for number, item in enumerate(record.measurements)
    )
    return (whole, *parts)


class Reader:
    """Reads one validator's files from a store that may lie."""

    def __init__(self, store: BundleStore, profile: NetworkProfile, hotkey: str, found: Findings) -> None:
        self._store, self._profile, self._hotkey, self._found = store, profile, hotkey, found

    def read(self, facts: ValidatorFacts) -> Reading:
        """Follow the newest anchor to the first and check signatures, links and the log on the way."""
        anchors = self._anchors(facts.slots)
        newest = self._newest(facts.slots, anchors)
        chain = self._ancestry(newest, anchors)
        key = self._record_key() if chain else None
        records = self._records(chain, key) if key is not None else ()
        root = self._check_log(records)
        self._check_faces(facts.slots, anchors, {digest for digest, _ in chain})
        self._check_permits(facts, anchors)
        return Reading(records=records, chain=tuple(digest for digest, _ in chain), anchors=anchors, root=root)

    def _anchors(self, slots: Sequence[SlotChange]) -> dict[bytes, Anchor]:
        anchors: dict[bytes, Anchor] = {}
        for change in slots:
            digest = anchor_of(change.payload)
            where = f"block {change.block}"
            if not self._found.expect(Check.FACES, where, digest is not None, "the validator's slot holds something that is no anchor"):
                continue
            while digest is not None and digest not in anchors and len(anchors) < MAX_ANCHORS:
                data = self._fetch(digest, MAX_ANCHOR_BYTES, f"anchor {digest.hex()[:16]}")
                if data is None:
                    break
                anchor = self._parse(Anchor, data, MAX_ANCHOR_BYTES, f"anchor {digest.hex()[:16]}")
                if anchor is None:
                    break
                anchors[digest] = anchor
                digest = anchor.previous
        return anchors

    def _newest(self, slots: Sequence[SlotChange], anchors: dict[bytes, Anchor]) -> bytes | None:
        """Return the newest anchor of a Record that the slot led to."""
        for change in reversed(slots):
            digest = anchor_of(change.payload)
            if digest in anchors and digest is not None:
                anchor = anchors[digest]
                return anchor.previous if anchor.measurements is not None else digest
        return None

    def _ancestry(self, newest: bytes | None, anchors: dict[bytes, Anchor]) -> list[tuple[bytes, Anchor]]:
        """Return the chain of Record anchors, oldest first."""
        chain: list[tuple[bytes, Anchor]] = []
        digest = newest
        while digest is not None:
            anchor = anchors.get(digest)
            if anchor is None:
                self._found.unknown(Check.FILE, f"anchor {digest.hex()[:16]}", "it could not be read, so the history before it is unknown")
                return []
            chain.append((digest, anchor))
            digest = anchor.previous
        chain.reverse()
        return chain

    def _record_key(self) -> bytes | None:
        """Return the key that the hotkey endorses."""
        name = endorsement_name(self._hotkey)
        try:
            data = self._store.get_named(name, limit=MAX_ANCHOR_BYTES)
        except (StoreUnavailable, UntrustedInputError) as error:
            self._found.unknown(Check.FILE, name, f"the endorsement of the record key could not be read: {error.detail}")
            return None
        endorsement = self._parse(KeyEndorsement, data, MAX_ANCHOR_BYTES, name)
        if endorsement is None:
            return None
        message = KeyEndorsement.message(endorsement.hotkey, endorsement.record_key)
        endorsed = endorsement.hotkey == self._hotkey and verify_hotkey(self._hotkey, message, endorsement.signature)
        detail = "the record key is not endorsed by the validator's hotkey"
        return endorsement.record_key if self._found.expect(Check.SIGNER, name, endorsed, detail) else None

    def _records(self, chain: Sequence[tuple[bytes, Anchor]], key: bytes) -> tuple[Published, ...]:
        records: list[Published] = []
        for index, (digest, anchor) in enumerate(chain):
            signed = self._record(anchor, index)
            if signed is None:
                break
            one = Published(digest=digest, anchor=anchor, signed=signed)
            self._check_signatures(one, key)
            self._check_links(one, index, records[-1].record.digest() if records else None)
            records.append(one)
        return tuple(records)

    def _record(self, anchor: Anchor, index: int) -> SignedRecord | None:
        subject = f"round {index}"
        named = anchor.record is not None and anchor.measurements is None
        if not self._found.expect(Check.LINK, subject, named, "the anchor of this place in the chain names no record"):
            return None
        data = self._fetch(anchor.record or b"", MAX_RECORD_BYTES, subject)
        return None if data is None else self._parse(SignedRecord, data, MAX_RECORD_BYTES, subject)

    def _check_signatures(self, one: Published, key: bytes) -> None:
        for holds, what in signatures(one.signed, key):
            self._found.expect(Check.SIGNER, f"round {one.record.round}", holds, f"{what} is not signed by the endorsed key")

    def _check_links(self, one: Published, index: int, previous: bytes | None) -> None:
        record, anchor, rules = one.record, one.anchor, self._profile.rules
        faults = (
            (record.round == index, f"the record at place {index} is of round {record.round}"),
            (record.previous == previous, "the record does not name the one before it"),
            (record.chain == self._profile.chain, "the record belongs to another chain"),
            (record.validator == self._hotkey, f"the record names the validator {record.validator}"),
            (record.rules == rules.digest(), "the record was made under other rules"),
            (record.track == rules.track, f"the record is of track {record.track}"),
            (anchor.round == record.round, f"its anchor is of round {anchor.round}"),
        )
        for holds, detail in faults:
            self._found.expect(Check.LINK, f"round {index}", holds, detail)

    def _check_log(self, records: Sequence[Published]) -> bytes:
        """Check every anchor's root by an inclusion proof, and each pair of roots by a consistency proof."""
        log, before_size, before_root = MerkleLog(), 0, EMPTY_ROOT
        for one in records:
            log.append(one.record.to_bytes())
        for index, one in enumerate(records):
            subject, size, root = f"round {index}", one.anchor.size, one.anchor.root
            fits = self._found.expect(Check.LOG, subject, size == index + 1, f"its anchor says {size} records, it is the {index + 1}th")
            if not fits:
                continue
            leaf, proof = one.record.to_bytes(), log.inclusion(index, size)
            included = verify_inclusion(leaf=leaf, index=index, size=size, proof=proof, root=root)
            self._found.expect(Check.LOG, subject, included, "its anchor states another root than the records give")
            extends = verify_consistency(
                old_size=before_size, old_root=before_root, new_size=size, new_root=root, proof=log.consistency(before_size, size)
            )
            self._found.expect(Check.LOG, subject, extends, "the log of its anchor does not extend the log of the anchor before")
            before_size, before_root = size, root
        return log.root()

    def _check_faces(self, slots: Sequence[SlotChange], anchors: dict[bytes, Anchor], chain: set[bytes]) -> None:
        """Check that whatever was in the slot is part of the one history, and that the history never shrank."""
        largest = 0
        for change in slots:
            digest = anchor_of(change.payload)
            anchor = anchors.get(digest) if digest is not None else None
            if digest is None or anchor is None:
                continue
            where = f"block {change.block}"
            parent = digest if anchor.measurements is None else anchor.previous
            inside = parent is None or parent in chain
            detail = f"the anchor of round {anchor.round} in the slot is not part of the history that the newest anchor leads to"
            self._found.expect(Check.FACES, where, inside, detail)
            grew = anchor.size >= largest
            self._found.expect(Check.FACES, where, grew, f"the slot went back from {largest} records to {anchor.size}")
            largest = max(largest, anchor.size)
            if anchor.measurements is not None:
                before = anchors.get(anchor.previous) if anchor.previous is not None else None
                same = (anchor.size, anchor.root) == ((before.size, before.root) if before is not None else (0, EMPTY_ROOT))
                self._found.expect(Check.LOG, where, same, "the anchor of measurements states another log than the anchor before it")

    def _check_permits(self, facts: ValidatorFacts, anchors: dict[bytes, Anchor]) -> None:
        for change in facts.slots:
            if anchor_of(change.payload) in anchors:
                permitted = facts.permitted[change.block]
                self._found.expect(Check.SIGNER, f"block {change.block}", permitted, "the hotkey had no validator permit when it anchored")

    def _fetch(self, digest: bytes, limit: int, subject: str) -> bytes | None:
        try:
            data = self._store.get(digest, limit=limit)
        except StoreUnavailable as error:
            self._found.unknown(Check.FILE, subject, error.detail)
            return None
        except UntrustedInputError as error:
            self._found.expect(Check.FILE, subject, False, error.detail)
            return None
        same = blob_digest(data) == digest
        return data if self._found.expect(Check.FILE, subject, same, "the store has other bytes than the digest promises") else None

    def _parse(self, kind: type[Parsed], data: bytes, limit: int, subject: str) -> Parsed | None:
        try:
            return kind.from_bytes(data, limit=limit)
        except UntrustedInputError as error:
            self._found.expect(Check.FILE, subject, False, error.detail)
            return None
