"""A Measurement: a number executed and signed by a validator."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ralph.protocol.announcement import ShortText
from ralph.protocol.canonical import U64, Canonical, Digest, Real, digest
from ralph.protocol.pool import Subset
from ralph.protocol.scoring_rules import GuardKind

Role = Literal["king", "challenger", "former", "reference"]
"""``former``: the king before the reigning one. ``reference``: the genesis recipe, which tells a king's fault from the machine's."""
Stage = Literal["pool", "screen", "filter", "proof", "probation", "canary", "repeat", "rescore"]
"""``probation``: after a crown, the new king beside the old one. ``canary``: a run of the reign trained again, and the reference on the
seed of a run in doubt. ``repeat``: once more on such a seed. ``rescore``: weights that were kept from an earlier run, scored on other
documents."""
MAX_EXACT_BYTES = 1 << 28
SET_TAG = "recipe-net/measurement-set/v1"


class SourceValue(Canonical):
    """val_bpb on the documents of one source."""

    TAG: ClassVar[str] = "recipe-net/source-value/v1"

    source: ShortText
    val_bpb: Real
    documents: U64


class Score(Canonical):
    """The outcome of claim-then-audit on the hidden documents.

    Bits per byte have the decimals of the Rules. Correction, standard error and mismatch are rounded up to a power of ten.
    """

    TAG: ClassVar[str] = "recipe-net/score/v1"

    val_bpb: Real
    claimed_bpb: Real
    correction_nats: Real
    standard_error_nats: Real
    worst_mismatch_nats: Real
    cells: U64
    """Draws of cells; 0 where all code that the evaluation ran is reviewed."""
    exceedances: U64
    """Probed cells whose mismatch is above tau."""
    documents: U64
    draw: Digest
    """Digest of the frozen claims and the key: the seed of the cells that were probed. Without the key no worker can aim at its bits."""
    sources: tuple[SourceValue, ...]


class TaskValue(Canonical):
    """What a run answered to the items of one guarded task. Which items it got right stays with the validator."""

    TAG: ClassVar[str] = "recipe-net/task-value/v1"

    task: ShortText
    items: U64
    accuracy: Real
    gold_bpb: Real
    """Bits per byte of the right answers."""


class GuardRow(Canonical):
    """One part of the test on which a challenger may not be much worse than the king, over all proof runs of a contest so far."""

    TAG: ClassVar[str] = "recipe-net/guard-row/v1"

    kind: GuardKind
    name: ShortText
    """Source of text, or task."""
    runs: U64
    items: U64
    """Documents, or items of the task."""
    difference: Real
    """Challenger less king in bits per byte, or king less challenger in right answers as a part of the items; positive is worse."""
    upper: Real
    """Upper end of its one-sided interval."""


class Failure(Canonical):
    """Why there is no score: the recipe's own doing, with a reason code."""

    TAG: ClassVar[str] = "recipe-net/failure/v1"

    reason: ShortText
    detail: ShortText


class Measurement(Canonical):
    """One run of one tree with one seed, and its score or failure.

    ``executed`` says whether the validator trained it himself in this round; a filter run is the miner's training, scored by
    the validator, and a re-scored run was trained before. No field depends on the clock, so a repeat gives the same bytes.
    """

    TAG: ClassVar[str] = "recipe-net/measurement/v1"

    round: U64
    executor: ShortText
    role: Role
    stage: Stage
    tree: Digest
    rung: Annotated[str, Field(max_length=8)]
    seed: U64
    executed: bool
    subset: Subset
    """The hidden documents that it was scored on."""
    environment: Digest
    transcript_root: Digest | None
    segments_root: Digest | None
    weights: Digest | None
    parameters: U64
    tokens: U64
    score: Score | None
    failure: Failure | None
    tasks: tuple[TaskValue, ...] = ()
    """Where the Rules guard tasks and ``sits_exams`` says so; empty everywhere else."""
    guards: tuple[GuardRow, ...] = ()
    """Of the last proof run of a contest in this round; empty everywhere else."""
    document_error: Real | None = None
    """Beside the guards: standard error over documents of challenger less king, mean of this round's proof runs, in bpb."""


def sits_exams(role: Role, stage: Stage, subset: Subset) -> bool:
    """Return whether a run is examined on guarded tasks: proof runs, and the king's repeats, one of which may stand in for a proof run."""
    return stage == "proof" or (role == "king" and stage == "repeat" and subset.shard == "confirm")


class SignedMeasurement(Canonical):
    """A Measurement with the executor's ed25519 signature over its digest."""

    TAG: ClassVar[str] = "recipe-net/signed-measurement/v1"

    measurement: Measurement
    signature: Annotated[bytes, Field(min_length=64, max_length=64)]


class ExactScore(Canonical):
    """What one measured run scored, to the last digit."""

    TAG: ClassVar[str] = "recipe-net/exact-score/v1"

    measurement: Digest
    val_bpb: Real
    document_nats: bytes
    """Little-endian float64 for each document of the subset, in the order of the openings: estimated sum of its losses."""


class ExactScores(Canonical):
    """Every score on one subset, opened with its documents."""

    TAG: ClassVar[str] = "recipe-net/exact-scores/v1"

    subset: Subset
    scores: tuple[ExactScore, ...]
    """In the order of the Measurements in the Records."""


def set_digest(measurements: tuple[SignedMeasurement, ...]) -> bytes:
    """Return the digest of a round's measurements, published on chain before they are opened."""
    return digest(SET_TAG, [item.measurement.digest() for item in measurements])
