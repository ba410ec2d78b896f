"""The nouns of research: a reign, an experiment and what it decided."""

import json
from dataclasses import dataclass, field
from enum import StrEnum

from ralph.protocol.patch import RecipeTree


class Kind(StrEnum):
    """Why an experiment was made."""

    BASELINE = "baseline"
    """The king itself, on every seed of the reign: the noise band."""
    REBASE = "rebase"
    """What worked on the previous king, on top of the new one."""
    PROPOSAL = "proposal"
    """An edit from a proposer."""
    CONFIRM = "confirm"
    """The branch head against the king, on seeds that no decision has seen."""
    EXHAUSTED = "exhausted"
    """The proposer has nothing that was not tried."""


class Decision(StrEnum):
    """What became of it, in the words of ``results.tsv``."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two runs with the same seed. A value is None when that run was not made or failed."""

    seed: int
    challenger_bpb: float | None
    head_bpb: float | None

    @property
    def difference(self) -> float | None:
        """Return the gain of the challenger on this seed, None when one of the two has no value."""
        return None if self.challenger_bpb is None or self.head_bpb is None else self.head_bpb - self.challenger_bpb


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """Research on one king: its seeds are its own."""

    number: int
    king: bytes
    """Digest of the king's tree."""
    rebased: bytes | None
    """Digest of the previous branch on top of this king, to be tested before anything else."""
    bench: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment: what was tried on top of what, what it came to, and what was decided."""

    number: int
    reign: int
    kind: Kind
    proposer: str
    king: bytes
    parent: bytes
    """Digest of the tree that it is compared with: the branch head of that time, or the king."""
    tree: bytes
    patch: bytes = field(repr=False)
    """Unified diff from ``parent`` to ``tree``."""
    change: str
    mechanism: str
    pairs: tuple[Pair, ...]
    decision: Decision
    reason: str
    gain_bpb: float | None
    standard_error_bpb: float | None
    worker_cpu_s: float
    """CPU seconds of the runs that this experiment had to make; runs found in the ledger cost nothing."""
    memory_bytes: int
    log_tail: str = field(default="", repr=False)

    @property
    def differences(self) -> tuple[float, ...]:
        """Return the gain on every seed that has both values."""
        return tuple(pair.difference for pair in self.pairs if pair.difference is not None)

    @property
    def val_bpb(self) -> float | None:
        """Return the mean val_bpb of the tree that was tried, None when no run has one."""
        values = [pair.challenger_bpb for pair in self.pairs if pair.challenger_bpb is not None]
        return sum(values) / len(values) if values else None

    def to_json(self) -> str:
        """Return one line of JSON for people and scripts."""
        plain = {
            "number": self.number,
            "reign": self.reign,
            "kind": self.kind,
            "proposer": self.proposer,
            "king": self.king.hex(),
            "parent": self.parent.hex(),
            "tree": self.tree.hex(),
            "change": self.change,
            "mechanism": self.mechanism,
            "decision": self.decision,
            "reason": self.reason,
            "val_bpb": self.val_bpb,
            "gain_bpb": self.gain_bpb,
            "standard_error_bpb": self.standard_error_bpb,
            "runs": [{"seed": str(pair.seed), "challenger_bpb": pair.challenger_bpb, "head_bpb": pair.head_bpb} for pair in self.pairs],
            "worker_cpu_s": round(self.worker_cpu_s, 3),
            "memory_bytes": self.memory_bytes,
            "log_tail": self.log_tail,
        }
        return json.dumps(plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an experiment compares, before it ran."""

    kind: Kind
    proposer: str = ""
    parent: RecipeTree = field(repr=False)
    tree: RecipeTree = field(repr=False)
    change: str
    mechanism: str = ""
