"""The throne and the contests around it: everything that one round hands to the next.

The state is derived from Records and from nothing else; an empty throne does not exist, because
round 0 starts with the genesis recipe as king.

The lineage holds every king in the order of crowns, also those that were demoted. Each names the king that he was crowned against, so it
is a tree; the **main line** is the path from the genesis recipe to the king. ``ralph.judge.succession`` moves the standings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ralph.protocol.announcement import case_id
from ralph.protocol.canonical import Digest

ContestStage = Literal["filter", "proof"]
Standing = Literal["genesis", "probation", "vested", "restored", "dethroned", "demoted"]
"""``genesis``: reigns and was never crowned. ``probation``: reigns, and his runs after the crown are not all in. ``vested``: reigns, and
they are. ``restored``: reigns again because his successor was demoted. ``dethroned``: another was crowned against him. ``demoted``: taken
off the throne for a cause."""
REIGNING: frozenset[Standing] = frozenset({"genesis", "probation", "vested", "restored"})


@dataclass(frozen=True, slots=True, kw_only=True)
class KingRun:
    """One validator run of a king during his reign, scored on documents of ``confirm``."""

    seed: int
    val_bpb: float
    weights: Digest
    """Of the trained model, which the validator keeps: it is scored again when the documents change, and a replay is compared with it."""
    environment: bytes | None = None
    """Digest of the stack that trained it: on another one the weights need not be the same. None where the run was a challenger's and
    helped to crown him: it is not replayed, and says nothing about him that it has not said already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRun:
    """A king on probation and the king before him on one seed that was drawn after the crown."""

    seed: int
    king: float | None
    """val_bpb; None where the run failed."""
    former: float | None
    evidence: tuple[bytes, bytes]
    """Digests of the two Measurements, the king's first."""


def scored(trial: Sequence[TrialRun]) -> tuple[list[float], list[float]]:
    """Return val_bpb of a probation's scored runs: the king's, and the former king's."""
    return [run.king for run in trial if run.king is not None], [run.former for run in trial if run.former is not None]


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
class Kept:
    """What a reign had when it was interrupted, and goes on with if it is restored."""

    pool: tuple[KingRun, ...]
    """On the same documents as everything else. Of the former king also his runs beside the reigning one on probation."""
    entries: int
    entered: frozenset[bytes]
    """Without the contests that the change of king broke off: they may enter again."""
    rotation: int
    """In which it was interrupted: a probation that was open then goes on in no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """A king, when he was crowned, and how he stands."""

    tree: Digest
    hotkey: str
    """Empty for the genesis recipe, which earns for the subnet owner."""
    crowned_round: int
    standing: Standing
    parent: int | None = None
    """Place in the lineage of the king that he was crowned against; None for the genesis recipe."""
    gain_bpb: float = 0.0
    """At the look that crowned him, which flatters whoever was lucky there."""
    tag: str = ""
    demoted_round: int | None = None
    restored_round: int | None = None
    """Newest round in which he was put back on the throne."""
    trial: tuple[TrialRun, ...] = ()
    kept: Kept | None = None

    @property
    def published_gain_bpb(self) -> float | None:
        """Return the gain over the king before in runs after the crown, which selected nothing; None before there are two a side."""
        kings, formers = scored(self.trial)
        if min(len(kings), len(formers)) < 2:
            return None
        return math.fsum(formers) / len(formers) - math.fsum(kings) / len(kings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throne:
    """State after a round."""

    round_index: int
    """Last round folded in, -1 before round 0."""
    lineage: tuple[Reign, ...]
    """Every king in the order of crowns; exactly one of them reigns."""
    rotation: int = 0
    """Of whose documents all values below are; they are scored again before anything of a later rotation is compared with them."""
    pool: tuple[KingRun, ...] = ()
    """The king's runs of this reign on ``confirm``."""
    sealed_documents: int = 0
    """How many further documents the king's crown sealed."""
    entries: int = 0
    """Proof entries so far in this reign, over all coldkeys."""
    entered: frozenset[bytes] = field(default_factory=frozenset)
    """Normalised digests that entered the filter in this reign."""
    contests: tuple[Contest, ...] = ()
    seen_cases: frozenset[bytes] = field(default_factory=frozenset)
    seen_patches: tuple[tuple[bytes, str], ...] = ()
    """(normalised digest, hotkey) of every tree that was opened, in order."""

    @property
    def seat(self) -> int:
        """Return the reigning king's place in the lineage."""
        return next(index for index in reversed(range(len(self.lineage))) if self.lineage[index].standing in REIGNING)

    @property
    def king(self) -> Reign:
        """Return the reigning king."""
        return self.lineage[self.seat]

    @property
    def former(self) -> Reign | None:
        """Return the king that the reigning one was crowned against; None for the genesis recipe."""
        return None if self.king.parent is None else self.lineage[self.king.parent]

    @property
    def former_runs(self) -> tuple[KingRun, ...]:
        """Return the runs of the former king that were kept."""
        return () if self.former is None or self.former.kept is None else self.former.kept.pool

    @property
    def main_line(self) -> tuple[Reign, ...]:
        """Return the kings from the genesis recipe to the reigning one; whoever was demoted is not among them."""
        line, place = [], self.seat
        while True:
            line.append(self.lineage[place])
            parent = self.lineage[place].parent
            if parent is None:
                return tuple(reversed(line))
            place = parent

    @property
    def high_water_bpb(self) -> float:
        """Return the largest published gain over the genesis recipe along the main line, which follows from the log alone."""
        best = total = 0.0
        for reign in self.main_line:
            total += reign.published_gain_bpb or 0.0
            best = max(best, total)
        return best

    @staticmethod
    def genesis(tree: bytes) -> "Throne":
        """Return the state before round 0."""
        first = Reign(tree=tree, hotkey="", crowned_round=0, standing="genesis", tag="recipe-v1.0.0")
        return Throne(round_index=-1, lineage=(first,))
