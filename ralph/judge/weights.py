"""Weights: one pure function of the lineage and a metagraph snapshot.

The king earns a share that falls from his crown on; until his probation is over, most of it stays with the king before him, and for good
if he is demoted. A restored king earns again what he would have, had nobody interrupted him. What is not earned goes to the main line as
royalty in proportion to published gains, which are those of runs after the crown. Who was demoted is paid nothing. The pay for
informative failures does not exist yet, so its tenth is royalty as well.
"""

from collections.abc import Mapping

from ralph.judge.succession import on_probation
from ralph.protocol.lineage import Throne
from ralph.protocol.rules import EmissionRules, Rules

WEIGHT_SCALE = 65_535


def shares(throne: Throne, rules: Rules, *, owner: str) -> dict[str, float]:
    """Return hotkey -> share of the emission before anybody has left the subnet. The shares sum to 1."""
    emission = rules.emission
    king, former = throne.king, throne.former
    if former is None:
        return {owner: 1.0}
    earned = emission.king_share * emission.decay_per_round ** (throne.round_index - king.crowned_round)
    vested = emission.probation_share if on_probation(throne) else 1.0
    previous = former.hotkey or owner
    paid: dict[str, float] = {}
    _add(paid, king.hotkey, earned * vested)
    _add(paid, previous, earned * (1.0 - vested))
    for hotkey, part in _royalties(throne, emission, nobody=previous).items():
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


def _royalties(throne: Throne, emission: EmissionRules, *, nobody: str) -> dict[str, float]:
    """Return each one's part of the royalty. While no gain of the main line is published, all of it is ``nobody``'s."""
    ancestors = throne.main_line[1:][-emission.royalty_generations :]
    gains = [(reign.hotkey, max(0.0, reign.published_gain_bpb or 0.0)) for reign in ancestors]
    total = sum(gain for _, gain in gains)
    if total <= 0:
        return {nobody: 1.0}
    parts: dict[str, float] = {}
    for hotkey, gain in gains:
        _add(parts, hotkey, gain / total)
    return parts


def _add(paid: dict[str, float], hotkey: str, amount: float) -> None:
    paid[hotkey] = paid.get(hotkey, 0.0) + amount
