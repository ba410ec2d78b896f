"""What a gate finds and what follows from it."""

from dataclasses import dataclass

from ralph.protocol.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer of one gate about one case.

    Args:
        gate: Name of the gate.
        reason: None when the case passes, else the reason of the refusal.
        detail: One sentence with the measured value and the threshold.
    """

    gate: str
    reason: Reason | None
    detail: str

    @property
    def passed(self) -> bool:
        """Return whether the case may go on."""
        return self.reason is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Every gate passed."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A gate refused; the miner's doing."""

    gate: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A gate could not run; our doing, retried."""

    reason: Reason
    detail: str


Verdict = Accepted | Rejected | Deferred
