"""Establish that the commitment precedes the beacon, is registered, within its caps and not judged already."""

from collections.abc import Sequence
from dataclasses import dataclass

from ralph.errors import UntrustedInputError
from ralph.interfaces import Metagraph
from ralph.protocol.announcement import Slot, case_id
from ralph.protocol.lineage import Throne
from ralph.protocol.reasons import Reason
from ralph.protocol.rules import Rules
from ralph.protocol.seeds import draw
from ralph.protocol.verdict import Finding

GATE = "announced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A slot of the announce state that stands for a case of this round."""

    hotkey: str
    coldkey: str
    registered_at: int
    slot: Slot

    @property
    def case(self) -> bytes:
        """Return the case's id."""
        return case_id(self.slot.announcement, self.hotkey)


def entrants(slots: dict[str, bytes], metagraph: Metagraph, throne: Throne, rules: Rules) -> tuple[Entrant, ...]:
    """Return who takes part: every slot of this track that is new or belongs to a running contest.

    A slot that does not parse is no announcement, and one that was judged before is history; both
    leave no row. Sorted by hotkey.
    """
    neurons = metagraph.by_hotkey()
    running = {contest.case for contest in throne.contests}
    found = []
    for hotkey, payload in sorted(slots.items()):
        try:
            slot = Slot.from_bytes(payload)
        except UntrustedInputError:
            continue
        if hotkey not in neurons or slot.track != rules.track_number:
            continue
        case = case_id(slot.announcement, hotkey)
        if case in throne.seen_cases and case not in running:
            continue
        neuron = neurons[hotkey]
        found.append(Entrant(hotkey=hotkey, coldkey=neuron.coldkey, registered_at=neuron.registered_at, slot=slot))
    return tuple(found)


def announced(entrant: Entrant, others: Sequence[Entrant], throne: Throne, rules: Rules, *, beacon_one: bytes) -> Finding:
    """Check the caps and the parent of a new announcement."""
    king = throne.king.tree
    running = {contest.case for contest in throne.contests}
    fresh = [other for other in others if other.coldkey == entrant.coldkey and other.case not in running]
    ranked = sorted(fresh, key=lambda other: draw(beacon=beacon_one, purpose="cap", subject=other.case))
    place = ranked.index(entrant) + 1
    if place > rules.announcements_per_coldkey:
        detail = f"announcement {place} of its coldkey in this round, {rules.announcements_per_coldkey} may enter"
        return Finding(gate=GATE, reason=Reason.INT_CAP, detail=detail)
    if entrant.slot.parent != king[:8]:
        detail = f"made for parent {entrant.slot.parent.hex()}, the king is {king[:8].hex()}"
        return Finding(gate=GATE, reason=Reason.INT_PARENT, detail=detail)
    return Finding(gate=GATE, reason=None, detail=f"committed before the beacon, announcement {place} of its coldkey")
