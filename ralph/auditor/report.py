"""What an audit found: divergences, what could not be looked at, and what no audit of this depth can establish."""

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Level(StrEnum):
    """How deep a check goes. L2 (evaluation), L3 (re-training) and L4 (replication) are not in this release."""

    ARITHMETIC = "L0"
    SELECTION = "L1"


class Check(StrEnum):
    """What a check establishes."""

    FILE = "file"
    """A published file is there, is the one that its digest names, and parses."""
    SIGNER = "signer"
    """Records and measurements are signed by the key that the validator's hotkey endorses, and the hotkey has a permit."""
    LINK = "link"
    """Every Record follows the one before it, for the right chain, rules and validator."""
    LOG = "log"
    """Every anchor states the root over the Records so far, and each root extends the one before."""
    MEASUREMENT = "measurement"
    """A measurement contradicts neither itself nor the Rules."""
    DECISION = "decision"
    """The outcome is what the production decision function gives."""
    DEMOTION = "demotion"
    """A king is demoted for the cause that the inputs give, and for no other."""
    OVERDUE = "overdue"
    """A king whose inputs call for a demotion is demoted."""
    WEIGHTS = "weights"
    """The weights on chain are what the production function gives for the Records."""
    FACES = "faces"
    """Everything that was ever in the validator's slot is part of one history that only grew."""
    COMMITMENT = "commitment"
    """The measurements' digest was on chain before the Record that opens them."""
    BEACON = "beacon"
    """A beacon is the chain's block hash with the signature of the drand round after it."""
    ENTRANTS = "entrants"
    """Every announcement of the window and every running contest is a case exactly once, in the drawn order."""
    SEEDS = "seeds"
    """The measurements are those that the beacons draw: nothing missing, nothing extra."""
    GATES = "gates"
    """A case is accepted or refused as the production gates say."""
    POOL = "pool"
    """Hidden documents are drawn from the pool that was on chain before their beacon, and a crown seals what its beacon draws."""
    OPENING = "opening"
    """What is over was opened in time: exactly the drawn documents, each as it was committed to and where its text belongs."""
    SCORES = "scores"
    """The exact losses on opened documents give what the Records state of them, over bytes that were counted again."""
    CROWN = "crown"
    """A crowned tree is the result of the crowned case's patch on the king before."""

    @property
    def level(self) -> Level:
        """Return the level that this check belongs to."""
        return Level.ARITHMETIC if self in _ARITHMETIC else Level.SELECTION


_ARITHMETIC = frozenset(
    {Check.FILE, Check.SIGNER, Check.LINK, Check.LOG, Check.MEASUREMENT, Check.DECISION, Check.DEMOTION, Check.OVERDUE, Check.WEIGHTS}
)


class Kind(StrEnum):
    """What a finding means for the verdict."""

    DIVERGED = "diverged"
    """What was published is not what the inputs give."""
    UNKNOWN = "unknown"
    """It could not be looked at this time; never an accusation."""
    NOTE = "note"
    """True, worth knowing, and no fault."""


class Verdict(IntEnum):
    """The answer of an audit, which is also its exit status."""

    REPRODUCED = 0
    DIVERGED = 1
    INCOMPLETE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing an audit has to say."""

    check: Check
    kind: Kind
    subject: str
    """What it is about: a round, a case, a block."""
    detail: str
    """One sentence. It may quote foreign text."""

    @property
    def level(self) -> Level:
        """Return the level of the check."""
        return self.check.level


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchecked:
    """What an audit of this depth does not establish, whatever it found."""

    level: str
    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often a check was made."""

    check: Check
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of one audit."""

    validator: str
    block: int
    """Finalised block up to which the chain was read."""
    records: int
    root: bytes
    """Root of the log over all Records."""
    findings: tuple[Finding, ...]
    tallies: tuple[Tally, ...]
    unchecked: tuple[Unchecked, ...]

    @property
    def verdict(self) -> Verdict:
        """Return diverged when anything diverged, incomplete when anything is unknown, else reproduced."""
        kinds = {finding.kind for finding in self.findings}
        if Kind.DIVERGED in kinds:
            return Verdict.DIVERGED
        return Verdict.INCOMPLETE if Kind.UNKNOWN in kinds else Verdict.REPRODUCED


class Findings:
    """Collects findings and counts checks while an audit runs."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._counts: Counter[Check] = Counter()

    def expect(self, check: Check, subject: str, holds: bool, detail: str) -> bool:
        """Count a check; add a divergence unless it holds. Return whether it does."""
        self._counts[check] += 1
        if not holds:
            self._findings.append(Finding(check=check, kind=Kind.DIVERGED, subject=subject, detail=detail))
        return holds

    def unknown(self, check: Check, subject: str, detail: str) -> None:
        """Add something that could not be looked at."""
        self._findings.append(Finding(check=check, kind=Kind.UNKNOWN, subject=subject, detail=detail))

    def note(self, check: Check, subject: str, detail: str) -> None:
        """Add something worth knowing."""
        self._findings.append(Finding(check=check, kind=Kind.NOTE, subject=subject, detail=detail))

    def findings(self) -> tuple[Finding, ...]:
        """Return everything found so far, in order."""
        return tuple(self._findings)

    def tallies(self) -> tuple[Tally, ...]:
        """Return the count of every check, also of those that were never made."""
        return tuple(Tally(check=check, count=self._counts[check]) for check in Check)


LIMITS = (
    Unchecked(
        level="L1",
        what="the scores on hidden documents whose rotation is not over",
        why="they are opened, with the exact losses on them, when it ends",
    ),
    Unchecked(
        level="L2",
        what="the draw of the probed cells, and whether the losses on opened documents are the model's",
        why="that takes the weights and a sandbox, which no audit of this release uses",
    ),
    Unchecked(
        level="L1",
        what="the upper ends of guards, and which answers to items were right",
        why="they rest on single documents and items, which stay with the validator",
    ),
    Unchecked(level="L1", what="whether a file was really missing at the time of an INT-WITHHELD", why="the store keeps no history"),
    Unchecked(level="L2", what="re-evaluation of published weights", why="not in this release"),
    Unchecked(level="L3", what="re-training with the recorded seeds, also of runs that are recorded as failed", why="not in this release"),
    Unchecked(level="L4", what="replication on other seeds or hardware", why="not in this release"),
    Unchecked(
        level="-",
        what="signed verdicts of this or other auditors",
        why="not in this release; `ralph audit follow` remembers heads, `--head` takes those of others",
    ),
)
"""What no audit of this release establishes."""
