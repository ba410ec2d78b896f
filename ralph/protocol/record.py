"""Records: the signed account of a round, its anchor on chain, and the endorsement of the signing key.

A Record holds every input of the decision (cases with their refusals, Measurements, beacons) and its
outcome, so that anyone can recompute the outcome. It never holds the weights that follow from it.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ralph.protocol.announcement import Environment, Hypothesis, ShortText, Text, case_id
from ralph.protocol.bundle import RunClaim
from ralph.protocol.canonical import U64, Canonical, Digest, Real, digest
from ralph.protocol.measurement import SignedMeasurement
from ralph.protocol.pool import Subset

MAX_RECORD_BYTES = 4 * 1024 * 1024
MAX_ANCHOR_BYTES = 4096
CaseStage = Literal["screen", "filter", "proof"]
State = Literal["rejected", "absent", "void", "dropped", "queued", "deferred", "screened", "filtering", "proving", "crowned"]
TERMINAL_STATES = frozenset({"rejected", "absent", "void", "dropped", "deferred", "crowned"})


class BeaconRow(Canonical):
    """Public randomness of a round, checkable against the chain."""

    TAG: ClassVar[str] = "recipe-net/beacon-row/v1"

    name: Literal["B1", "B2"]
    block: U64
    block_hash: Digest
    drand_round: U64
    drand_signature: Annotated[bytes, Field(max_length=256)]
    beacon: Digest


class Refusal(Canonical):
    """Why a case did not reach the decision."""

    TAG: ClassVar[str] = "recipe-net/refusal/v1"

    gate: ShortText
    reason: ShortText
    detail: Text


class CaseRow(Canonical):
    """One announcement of the window or one running contest: an input of the decision."""

    TAG: ClassVar[str] = "recipe-net/case-row/v1"

    hotkey: ShortText
    coldkey: ShortText
    announcement: Digest
    parent: Annotated[bytes, Field(min_length=8, max_length=8)]
    bundle: Digest | None
    tree: Digest | None
    normalised: Digest | None
    patch: Digest | None
    """SHA-256 of the diff in the store."""
    hypothesis: Hypothesis | None
    environment: Digest | None
    claims: tuple[RunClaim, ...]
    """What the miner says of the runs in the bundle."""
    stage: CaseStage
    refusal: Refusal | None

    @property
    def case(self) -> bytes:
        """Return the case's id."""
        return case_id(self.announcement, self.hotkey)


class LookRow(Canonical):
    """The numbers of one look at one contest."""

    TAG: ClassVar[str] = "recipe-net/look-row/v1"

    runs: U64
    gain_bpb: Real
    standard_error_bpb: Real
    statistic: Real | None
    threshold: Real | None
    entry: U64
    """Number of this proof entry in the reign, 0 outside stage P."""
    alpha: Real
    """Error budget that this look may spend, 0 outside stage P."""


class OutcomeRow(Canonical):
    """What the decision made of one case."""

    TAG: ClassVar[str] = "recipe-net/outcome-row/v1"

    case: Digest
    state: State
    reason: ShortText
    detail: Text
    look: LookRow | None


class CrownRow(Canonical):
    """A change of king."""

    TAG: ClassVar[str] = "recipe-net/crown-row/v1"

    tree: Digest
    parent: Digest
    hotkey: ShortText
    announcement: Digest
    gain_bpb: Real
    tag: ShortText
    sealed: Digest
    """RFC 6962 root over the leaves of the further documents that this crown seals, in the order of their places."""
    sealed_documents: U64
    sub_pools: U64
    """On how many disjoint sub-pools he was measured. 1 says that nobody has confirmed him on other documents."""


class WatchRow(Canonical):
    """The king beside the one before him on one shard. Where ``audit`` shows less than ``confirm``, the test was learnt."""

    TAG: ClassVar[str] = "recipe-net/watch-row/v1"

    subset: Subset
    king: Digest
    previous: Digest
    runs: U64
    gain_bpb: Real
    """Mean of the previous king's val_bpb less the king's over the same seeds; positive is better."""
    standard_error_bpb: Real


class OpeningRow(Canonical):
    """Documents that are over and published: what they were, and what every run scored on them to the last digit."""

    TAG: ClassVar[str] = "recipe-net/opening-row/v1"

    subset: Subset
    documents: Digest
    """Store key of the OpenedSubset."""
    scores: Digest
    """Store key of the ExactScores."""


class DemotionRow(Canonical):
    """A king taken off the throne, and the king before him put back."""

    TAG: ClassVar[str] = "recipe-net/demotion-row/v1"

    tree: Digest
    hotkey: ShortText
    restored: Digest
    """Tree of the king that reigns again."""
    restored_hotkey: ShortText
    """Empty for the genesis recipe."""
    reason: ShortText
    detail: Text
    evidence: tuple[Digest, ...]
    """The Measurements that it rests on, of this Record and of earlier ones."""
    tag: ShortText
    """Of the release that restores the tree."""


class Record(Canonical):
    """The account of one round."""

    TAG: ClassVar[str] = "recipe-net/record/v1"

    round: U64
    track: ShortText
    chain: Digest
    rules: Digest
    validator: ShortText
    previous: Digest | None
    beacons: tuple[BeaconRow, ...]
    king: Digest
    environments: tuple[Environment, ...]
    cases: tuple[CaseRow, ...]
    measurements: tuple[SignedMeasurement, ...]
    outcomes: tuple[OutcomeRow, ...]
    crown: CrownRow | None
    demotion: DemotionRow | None
    hidden: Digest
    """Digest of the PoolCommitment that this rotation's documents were drawn from."""
    watch: tuple[WatchRow, ...]
    openings: tuple[OpeningRow, ...]
    """Every subset that ended with the round before; see ``ralph.judge.rotation.ended``."""


class SignedRecord(Canonical):
    """A Record with the record key's ed25519 signature over its digest."""

    TAG: ClassVar[str] = "recipe-net/signed-record/v1"

    record: Record
    signature: Annotated[bytes, Field(min_length=64, max_length=64)]


class Anchor(Canonical):
    """What a validator's slot stands for; the chain of anchors leads to every Record."""

    TAG: ClassVar[str] = "recipe-net/anchor/v1"

    round: U64
    size: U64
    """Leaves in the log."""
    root: Digest
    """RFC 6962 root over the Records' envelopes."""
    record: Digest | None
    """Store key of the newest SignedRecord."""
    measurements: Digest | None
    """Set digest of the running round's measurements, on chain before the Record opens them."""
    hidden: Digest
    """Digest of the newest PoolCommitment: the next rotation draws from what the anchor of the Record before it names."""
    previous: Digest | None
    """Store key of the anchor before this one."""


class KeyEndorsement(Canonical):
    """A hotkey's statement that an ed25519 key signs its Records and Measurements."""

    TAG: ClassVar[str] = "recipe-net/key-endorsement/v1"

    hotkey: ShortText
    record_key: Digest
    signature: Annotated[bytes, Field(min_length=64, max_length=64)]

    @staticmethod
    def message(hotkey: str, record_key: bytes) -> bytes:
        """Return the 32-byte digest that the hotkey signs."""
        return digest("recipe-net/key-endorsement-signature/v1", {"hotkey": hotkey, "record_key": record_key})


def endorsement_name(hotkey: str) -> str:
    """Return the store name of a validator's KeyEndorsement."""
    return f"validators/{hotkey}/record-key"
