"""L0: do the weights on chain follow from the published Records?

Weights are set after a Record is anchored, and a chain limits how often, so a vector may belong to an
earlier Record than the newest. It must belong to one, and be at most one Record behind.
"""

from collections.abc import Sequence

from ralph.auditor.decisions import Decided
from ralph.auditor.facts import ValidatorFacts, WeightSetting
from ralph.auditor.published import Reading
from ralph.auditor.report import Check, Findings
from ralph.chain.consensus import upscale
from ralph.judge.weights import weights
from ralph.protocol.lineage import Throne
from ralph.protocol.rules import Rules

ALLOWED_LAG = 1
"""Records that weights may be behind: a rate limit can make the validator wait for the next round."""


def check_weights(facts: ValidatorFacts, decided: Sequence[Decided], reading: Reading, rules: Rules, found: Findings) -> None:
    """Check every vector that the validator set against the Records that were anchored by then."""
    anchored = [(reading.appeared(facts, one.published.digest), one) for one in decided]
    for setting in _answerable(facts, decided, reading):
        published = [one for block, one in anchored if block is not None and block <= setting.block]
        subject = f"weights of block {setting.block}"
        if not found.expect(Check.WEIGHTS, subject, bool(published), "weights were set before any record was anchored"):
            continue
        lag = _lag(setting, published, rules, facts.owner)
        found.expect(Check.WEIGHTS, subject, lag is not None, "they are not what any record gives")
        if lag:
            record = published[-1 - lag].record
            detail = f"they belong to round {record.round}, {lag} records behind the newest at that block"
            _stale(lag, subject, detail, found)
    if len(decided) == len(reading.chain):
        _check_newest(facts, anchored, rules, found)


def _answerable(facts: ValidatorFacts, decided: Sequence[Decided], reading: Reading) -> tuple[WeightSetting, ...]:
    """Return the settings made before the first Record whose state could not be read or recomputed."""
    if len(decided) == len(reading.chain):
        return facts.settings
    end = reading.appeared(facts, reading.chain[len(decided)])
    return tuple(setting for setting in facts.settings if end is not None and setting.block < end)


def _check_newest(facts: ValidatorFacts, anchored: Sequence[tuple[int | None, Decided]], rules: Rules, found: Findings) -> None:
    """Check that what is paid now is not an old state."""
    if not facts.settings or not anchored:
        if anchored:
            found.note(Check.WEIGHTS, "weights", "the validator has set no weights that can be seen")
        return
    last = facts.settings[-1]
    newer = [one for block, one in anchored if block is not None and block > last.block]
    current = _normal(last.vector)
    unpaid = [one for one in newer if current not in _vectors(one.after, last, rules, facts.owner)]
    if unpaid:
        detail = f"{len(unpaid)} records were anchored after block {last.block}, when weights were set last, and call for others"
        _stale(len(unpaid), "weights", detail, found)


def _stale(lag: int, subject: str, detail: str, found: Findings) -> None:
    if lag > ALLOWED_LAG:
        found.expect(Check.WEIGHTS, subject, False, detail)
    else:
        found.note(Check.WEIGHTS, subject, detail)


def _lag(setting: WeightSetting, published: Sequence[Decided], rules: Rules, owner: str) -> int | None:
    """Return how many Records back the newest one is that gives these weights; None when none does."""
    vector = _normal(setting.vector)
    for lag, one in enumerate(reversed(published)):
        if vector in _vectors(one.after, setting, rules, owner):
            return lag
    return None


def _vectors(throne: Throne, setting: WeightSetting, rules: Rules, owner: str) -> list[dict[str, int]]:
    return [_normal(dict(weights(throne, rules, owner=owner, registered=registered))) for registered in setting.registered]


def _normal(vector: dict[str, int]) -> dict[str, int]:
    """Return a vector as the chain stores it: the largest is 65535, zeros are dropped."""
    return upscale(vector)
