"""Weights to money on a development chain: a stake-weighted median clips what one validator can say.

The idea of Yuma consensus with everything optional left out (no bonds, no dividends). For each hotkey the
consensus is the largest weight that validators holding at least half of the stake support; weights
above it are clipped; a hotkey's share is its clipped weight, weighted by stake. Whole numbers only, so
the result is the same everywhere.
"""

from collections.abc import Mapping

MAX_WEIGHT = 65535
"""Weights on the chain are u16."""

_ONE = 1 << 32


def upscale(weights: Mapping[str, int]) -> dict[str, int]:
    """Scale weights so that the largest is 65535, as the chain stores them; zeros are dropped."""
    largest = max(weights.values(), default=0)
    scaled = {hotkey: weight * MAX_WEIGHT // largest for hotkey, weight in weights.items() if weight > 0}
    return {hotkey: weight for hotkey, weight in scaled.items() if weight > 0}


def shares(stakes: Mapping[str, int], weights: Mapping[str, Mapping[str, int]], *, amount: int) -> dict[str, int]:
    """Split ``amount`` among hotkeys. What rounding leaves over is paid to nobody.

    Args:
        stakes: Validator hotkey -> stake; validators without weights do not count.
        weights: Validator hotkey -> hotkey -> weight on any scale. Nobody's weight on himself counts.
        amount: Whole units to pay.
    """
    rows = {validator: _normalised(validator, weights[validator]) for validator in stakes if weights.get(validator)}
    rows = {validator: row for validator, row in rows.items() if row and stakes[validator] > 0}
    targets = sorted({target for row in rows.values() for target in row})
    ranks: dict[str, int] = {}
    for target in targets:
        clip = _median([(row.get(target, 0), stakes[validator]) for validator, row in rows.items()])
        ranks[target] = sum(stakes[validator] * min(clip, row.get(target, 0)) for validator, row in rows.items())
    total = sum(ranks.values())
    return {target: amount * rank // total for target, rank in ranks.items() if rank > 0}


def _normalised(validator: str, row: Mapping[str, int]) -> dict[str, int]:
    others = {target: weight for target, weight in row.items() if target != validator and weight > 0}
    total = sum(others.values())
    return {target: weight * _ONE // total for target, weight in others.items()}


def _median(supported: list[tuple[int, int]]) -> int:
    """Return the largest value that at least half of the stake reaches; pairs are (value, stake)."""
    total = sum(stake for _, stake in supported)
    reached = 0
    for value, stake in sorted(supported, reverse=True):
        reached += stake
        if 2 * reached >= total:
            return value
    return 0
