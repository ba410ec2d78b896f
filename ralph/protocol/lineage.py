"""The throne and the contests around it: everything that one round hands to the next.

The state is derived from Records and from nothing else; an empty throne does not exist, because
round 0 starts with the genesis recipe as king.
"""

from dataclasses import dataclass, field
from typing import Literal

from ralph.protocol.announcement import case_id
from ralph.protocol.canonical import Digest

ContestStage = Literal["filter", "proof"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KingRun:
    """One validator run of a king during his reign, scored on documents of ``confirm``."""

    seed: int
    val_bpb: float
    weights: Digest
    """Of the trained model, which the validator keeps: it is scored again when the documents change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRun:
    """Challenger and king on one fresh seed."""

    seed: int
    challenger: float
    king: float
    challenger_weights: Digest
    king_weights: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """A screened case on its way through filter and proof."""

    announcement: Digest
    hotkey: str
    coldkey: str
    tree: Digest
    normalised: Digest
    stage: ContestStage
    opened_round: int
    entry: int = 0
    """Number of its proof entry in this reign, 0 before."""
    runs: tuple[PairedRun, ...] = ()
    """Runs of the present stage."""

    @property
    def case(self) -> bytes:
        """Return the case's id."""
        return case_id(self.announcement, self.hotkey)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """A king and when he was crowned."""

    tree: Digest
    hotkey: str
    """Empty for the genesis recipe, which earns for the subnet owner."""
    crowned_round: int
    gain_bpb: float = 0.0
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throne:
    """State after a round."""

    round_index: int
    """Last round folded in, -1 before round 0."""
    lineage: tuple[Reign, ...]
    rotation: int = 0
    """Of whose documents all values below are; they are scored again before anything of a later rotation is compared with them."""
    pool: tuple[KingRun, ...] = ()
    """The king's runs of this reign on ``confirm``."""
    previous: tuple[KingRun, ...] = ()
    """Runs of the king before him, on the seeds of the first runs of the pool."""
    sealed_documents: int = 0
    """How many further documents the king's crown sealed."""
    king_runs: int = 0
    """How often the king was run in this reign, at any stage."""
    entries: int = 0
    """Proof entries so far in this reign, over all coldkeys."""
    entered: frozenset[bytes] = field(default_factory=frozenset)
    """Normalised digests that entered the filter in this reign."""
    contests: tuple[Contest, ...] = ()
    seen_cases: frozenset[bytes] = field(default_factory=frozenset)
    seen_patches: tuple[tuple[bytes, str], ...] = ()
    """(normalised digest, hotkey) of every tree that was opened, in order."""

    @property
    def king(self) -> Reign:
        """Return the reigning king."""
        return self.lineage[-1]

    @staticmethod
    def genesis(tree: bytes) -> "Throne":
        """Return the state before round 0."""
        return Throne(round_index=-1, lineage=(Reign(tree=tree, hotkey="", crowned_round=0, tag="recipe-v1.0.0"),))
