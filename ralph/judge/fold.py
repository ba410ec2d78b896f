"""Fold Records into the state of the throne, recomputing every decision on the way."""

from ralph.errors import CorruptStateError
from ralph.judge.decide import Decision, Sealed, decide
from ralph.protocol.lineage import Throne
from ralph.protocol.merkle import EMPTY_ROOT
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
        sealed=sealed_by(record),
        rules=rules,
    )


def sealed_by(record: Record) -> Sealed:
    """Return what a Record's crown says that it seals. Whether these are the documents that B2 draws needs the pool's leaves."""
    crown = record.crown
    return Sealed(root=EMPTY_ROOT, documents=0) if crown is None else Sealed(root=crown.sealed, documents=crown.sealed_documents)


def fold(throne: Throne, record: Record, rules: Rules) -> Throne:
    """Return the state after ``record``.

    Raises:
        CorruptStateError: The Record does not follow the state, or its outcome is not what its inputs give.
    """
    if record.king != throne.king.tree or record.rules != rules.digest():
        raise CorruptStateError(f"record of round {record.round} names another king or other rules")
    decision = redecide(throne, record, rules)
    given = (decision.outcomes, decision.crown, decision.demotion, decision.watch)
    if given != (record.outcomes, record.crown, record.demotion, record.watch):
        raise CorruptStateError(f"record of round {record.round} states another outcome than its inputs give")
    return decision.throne
