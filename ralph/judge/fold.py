"""Fold Records into the state of the throne, recomputing every decision on the way."""

from ralph.errors import CorruptStateError
from ralph.judge.decide import Decision, decide
from ralph.protocol.lineage import Throne
from ralph.protocol.record import Record
from ralph.protocol.rules import Rules


def redecide(throne: Throne, record: Record, rules: Rules) -> Decision:
    """Decide again what a Record says was decided, from its own inputs."""
    beacon_two = next((row.beacon for row in record.beacons if row.name == "B2"), None)
    if beacon_two is None:
        raise CorruptStateError(f"record of round {record.round} has no beacon B2")
    return decide(
        throne,
        round_index=record.round,
        beacon_two=beacon_two,
        cases=record.cases,
        measurements=tuple(item.measurement for item in record.measurements),
        rules=rules,
    )


def fold(throne: Throne, record: Record, rules: Rules) -> Throne:
    """Return the state after ``record``.

    Raises:
        CorruptStateError: The Record does not follow the state, or its outcome is not what its inputs give.
    """
    if record.king != throne.king.tree or record.rules != rules.digest():
        raise CorruptStateError(f"record of round {record.round} names another king or other rules")
    decision = redecide(throne, record, rules)
    if (decision.outcomes, decision.crown, decision.demotion) != (record.outcomes, record.crown, record.demotion):
        raise CorruptStateError(f"record of round {record.round} states another outcome than its inputs give")
    return decision.throne
