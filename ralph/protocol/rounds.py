"""Block arithmetic of rounds: phases never depend on the chain's epochs, which an owner can move."""

from dataclasses import dataclass

from ralph.protocol.rules import RoundRules
from ralph.protocol.scoring_rules import HiddenRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The blocks of one round."""

    index: int
    start: int
    announce_end: int
    beacon_one: int
    submit_end: int
    beacon_two: int
    measure_end: int
    end: int
    """First block of the next round."""


def window(rules: RoundRules, index: int) -> Window:
    """Return the blocks of round ``index``."""
    start = rules.first_block + index * rules.length
    return Window(
        index=index,
        start=start,
        announce_end=start + rules.announce_end,
        beacon_one=start + rules.beacon_one,
        submit_end=start + rules.submit_end,
        beacon_two=start + rules.beacon_two,
        measure_end=start + rules.measure_end,
        end=start + rules.length,
    )


def round_at(rules: RoundRules, block: int) -> int:
    """Return the round that ``block`` belongs to; -1 before the first."""
    return (block - rules.first_block) // rules.length if block >= rules.first_block else -1


def rotation_of(rules: HiddenRules, round_index: int) -> int:
    """Return the rotation that a round belongs to."""
    return round_index // rules.rotation_rounds


def begins_rotation(rules: HiddenRules, round_index: int) -> bool:
    """Return whether a round is the first of its rotation: its B2 draws the documents."""
    return round_index % rules.rotation_rounds == 0
