"""Read a validator's published history: from the digest in its slot to every Record and the throne.

Everything is checked on the way: digests, the record key's endorsement, signatures, the Merkle root of
each anchor, the links between Records, and each decision, which is recomputed. What is read once is kept.
"""

from dataclasses import dataclass

from ralph.errors import CorruptStateError, UntrustedInputError
from ralph.interfaces import BundleStore
from ralph.judge.fold import fold
from ralph.protocol.announcement import parse_anchor_payload
from ralph.protocol.keys import verify_hotkey, verify_record_key
from ralph.protocol.lineage import Throne
from ralph.protocol.network import NetworkProfile
from ralph.protocol.record import (
    MAX_ANCHOR_BYTES,
    MAX_RECORD_BYTES,
    Anchor,
    KeyEndorsement,
    SignedRecord,
    endorsement_name,
)
from ralph.records.log import MerkleLog

MAX_ANCHORS_PER_READ = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One published Record with the anchor that pins it and the state it leaves."""

    anchor: Anchor
    anchor_digest: bytes
    signed: SignedRecord
    locator: bytes
    throne: Throne


class History:
    """The Records of one validator, read and verified incrementally."""

    def __init__(self, store: BundleStore, profile: NetworkProfile, hotkey: str) -> None:
        self._store, self._profile, self._hotkey = store, profile, hotkey
        self._log = MerkleLog()
        self._entries: list[Entry] = []
        self._key: bytes | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return every Record so far, oldest first."""
        return tuple(self._entries)

    @property
    def throne(self) -> Throne:
        """Return the state after the newest Record."""
        return self._entries[-1].throne if self._entries else Throne.genesis(self._profile.rules.genesis_tree)

    def root(self) -> bytes:
        """Return the root of the log so far."""
        return self._log.root()

    def root_with(self, leaf: bytes) -> bytes:
        """Return the root that the log would have with one more leaf."""
        longer = MerkleLog()
        for entry in self._entries:
            longer.append(entry.signed.record.to_bytes())
        longer.append(leaf)
        return longer.root()

    def read(self, anchor_digest: bytes) -> "History":
        """Extend the history up to the anchor that the slot shows.

        Raises:
            CorruptStateError: Something published does not verify, or history was rewritten.
            StoreUnavailable: Something is not there (yet).
        """
        known = {entry.anchor_digest for entry in self._entries}
        pending: list[tuple[bytes, Anchor]] = []
        digest: bytes | None = anchor_digest
        while digest is not None and digest not in known:
            anchor = self._anchor(digest)
            pending.append((digest, anchor))
            digest = anchor.previous
            if len(pending) > MAX_ANCHORS_PER_READ:
                raise CorruptStateError("the chain of anchors does not end")
        if pending and self._entries and digest != self._entries[-1].anchor_digest:
            raise CorruptStateError("the newest anchor does not extend the history read before: history was rewritten")
        for one, anchor in reversed(pending):
            if anchor.measurements is None:
                self._extend(one, anchor)
        return self

    def _anchor(self, digest: bytes) -> Anchor:
        try:
            return Anchor.from_bytes(self._store.get(digest, limit=MAX_ANCHOR_BYTES), limit=MAX_ANCHOR_BYTES)
        except UntrustedInputError as error:
            raise CorruptStateError(f"anchor {digest.hex()[:16]}: {error.detail}") from error

    def record_key(self) -> bytes:
        """Return the validator's record key, endorsed by its hotkey. Raises CorruptStateError."""
        if self._key is None:
            try:
                endorsement = KeyEndorsement.from_bytes(
                    self._store.get_named(endorsement_name(self._hotkey), limit=MAX_ANCHOR_BYTES), limit=MAX_ANCHOR_BYTES
                )
            except UntrustedInputError as error:
                raise CorruptStateError(f"endorsement of the record key: {error.detail}") from error
            message = KeyEndorsement.message(endorsement.hotkey, endorsement.record_key)
            if endorsement.hotkey != self._hotkey or not verify_hotkey(self._hotkey, message, endorsement.signature):
                raise CorruptStateError("the record key is not endorsed by the validator's hotkey")
            self._key = endorsement.record_key
        return self._key

    def _extend(self, anchor_digest: bytes, anchor: Anchor) -> None:
        if anchor.record is None:
            raise CorruptStateError(f"anchor of round {anchor.round} names no record")
        try:
            signed = SignedRecord.from_bytes(self._store.get(anchor.record, limit=MAX_RECORD_BYTES), limit=MAX_RECORD_BYTES)
        except UntrustedInputError as error:
            raise CorruptStateError(f"record of round {anchor.round}: {error.detail}") from error
        self._check(signed, anchor)
        throne = fold(self.throne, signed.record, self._profile.rules)
        self._entries.append(Entry(anchor=anchor, anchor_digest=anchor_digest, signed=signed, locator=anchor.record, throne=throne))

    def _check(self, signed: SignedRecord, anchor: Anchor) -> None:
        record = signed.record
        key = self.record_key()
        previous = self._entries[-1].signed.record.digest() if self._entries else None
        faults = {
            "is signed by another key": not verify_record_key(key, record.digest(), signed.signature),
            "belongs to another chain": record.chain != self._profile.chain,
            "names another validator": record.validator != self._hotkey,
            "does not follow the record before it": record.previous != previous or record.round != len(self._entries),
            "is of another round than its anchor": record.round != anchor.round,
            "holds a measurement with a bad signature": not all(
                verify_record_key(key, item.measurement.digest(), item.signature) for item in record.measurements
            ),
        }
        for fault, found in faults.items():
            if found:
                raise CorruptStateError(f"record of round {record.round} {fault}")
        self._log.append(record.to_bytes())
        if anchor.size != len(self._entries) + 1 or anchor.root != self._log.root():
            raise CorruptStateError(f"anchor of round {anchor.round} has another log root than its records give")


def anchor_of(slot: bytes | None) -> bytes | None:
    """Return the anchor digest that a validator's slot shows, or None while it shows none."""
    try:
        return parse_anchor_payload(slot) if slot else None
    except UntrustedInputError:
        return None
