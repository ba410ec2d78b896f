"""Weights: one pure function of the lineage and a metagraph snapshot.

The king earns a decaying share; until his probation runs are in, most of it stays with the king before
him. What is not earned goes to the lineage as royalty in proportion to each ancestor's gain. The pay
for informative failures does not exist yet, so its tenth is royalty as well.
"""

from collections.abc import Mapping

from ralph.protocol.lineage import Throne
from ralph.protocol.rules import EmissionRules, Rules

WEIGHT_SCALE = 65_535


def shares(throne: Throne, rules: Rules, *, owner: str) -> dict[str, float]:
    """Return hotkey -> share of the emission before anybody has left the subnet. The shares sum to 1."""
    emission = rules.emission
    crowned = throne.lineage[1:]
    if not crowned:
        return {owner: 1.0}
    king = throne.king
    earned = emission.king_share * emission.decay_per_round ** (throne.round_index - king.crowned_round)
    vested = 1.0 if throne.king_runs >= rules.crown.pool_runs + rules.crown.probation_runs else emission.probation_share
    previous = throne.lineage[-2].hotkey or owner
    paid: dict[str, float] = {}
    _add(paid, king.hotkey, earned * vested)
    _add(paid, previous, earned * (1.0 - vested))
    for hotkey, part in _royalties(throne, emission).items():
        _add(paid, hotkey, (1.0 - earned) * part)
    return paid


def weights(throne: Throne, rules: Rules, *, owner: str, registered: frozenset[str]) -> Mapping[str, int]:
    """Return hotkey -> weight on the u16 scale; hotkeys that left the subnet are dropped, their share rescaled.

    Args:
        throne: State after the newest published Record.
        rules: The Rules in force.
        owner: The subnet owner's hotkey, as the chain says.
        registered: Hotkeys registered at the named block.
    """
    present = {hotkey: share for hotkey, share in shares(throne, rules, owner=owner).items() if hotkey in registered and share > 0}
    total = sum(present.values())
    if not present or total <= 0:
        return {}
    exact = {hotkey: share / total * WEIGHT_SCALE for hotkey, share in sorted(present.items())}
    floor = {hotkey: int(value) for hotkey, value in exact.items()}
    rest = WEIGHT_SCALE - sum(floor.values())
    for hotkey in sorted(exact, key=lambda name: (floor[name] - exact[name], name))[:rest]:
        floor[hotkey] += 1
    return {hotkey: value for hotkey, value in floor.items() if value > 0}


def _royalties(throne: Throne, emission: EmissionRules) -> dict[str, float]:
    ancestors = throne.lineage[1:][-emission.royalty_generations :]
    total = sum(max(0.0, reign.gain_bpb) for reign in ancestors)
    if total <= 0:
        return {throne.king.hotkey: 1.0}
    parts: dict[str, float] = {}
    for reign in ancestors:
        _add(parts, reign.hotkey, max(0.0, reign.gain_bpb) / total)
    return parts


def _add(paid: dict[str, float], hotkey: str, amount: float) -> None:
    paid[hotkey] = paid.get(hotkey, 0.0) + amount
