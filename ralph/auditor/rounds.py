"""L1: does what a Record says was drawn and announced follow from the chain?

Beacons are recomputed from block hashes and verified drand rounds, seeds from beacons, the list of cases
from the slots in the state of block A, and the measurements' digest must have been on chain first.
"""

from collections.abc import Sequence

from ralph.auditor.decisions import HOSTILE, Decided, case_name
from ralph.auditor.facts import BeaconFacts, RoundFacts, ValidatorFacts
from ralph.auditor.published import Reading
from ralph.auditor.report import Check, Findings
from ralph.chain.author import verify_round
from ralph.gates.announced import Entrant, entrants
from ralph.judge.plan import Beacons, follow_ups, needs
from ralph.protocol.announcement import Slot
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import set_digest
from ralph.protocol.record import BeaconRow, CaseRow, Record
from ralph.protocol.rules import Rules
from ralph.protocol.seeds import beacon, draw


def beacon_of(record: Record, name: str) -> bytes | None:
    """Return the value of a beacon as a Record states it."""
    return next((row.beacon for row in record.beacons if row.name == name), None)


def check_beacons(record: Record, facts: RoundFacts, public_key: bytes, found: Findings) -> None:
    """Check both beacons against the chain."""
    subject = f"round {record.round}"
    names = [row.name for row in record.beacons]
    if found.expect(Check.BEACON, subject, sorted(names) == ["B1", "B2"], f"the record holds the beacons {', '.join(names) or 'none'}"):
        for row in record.beacons:
            _check_beacon(row, facts.beacons[row.name], subject, public_key, found)


def _check_beacon(row: BeaconRow, facts: BeaconFacts, subject: str, public_key: bytes, found: Findings) -> None:
    drand = facts.drand
    if drand is None or facts.previous_signature is None:
        found.unknown(Check.BEACON, subject, f"{row.name}: the chain does not have the drand round after block {facts.block}")
        return
    checks = (
        (row.block == facts.block, f"is of block {row.block}, must be {facts.block}"),
        (row.block_hash == facts.block_hash, f"states another hash of block {facts.block} than the chain"),
        (row.drand_round == drand.number and row.drand_signature == drand.signature, "states another drand round than the chain"),
        (verify_round(public_key, facts.previous_signature, drand), "uses a drand round whose signature does not verify"),
        (row.beacon == beacon(block_hash=row.block_hash, drand_signature=row.drand_signature), "is not the digest of its parts"),
    )
    for holds, detail in checks:
        found.expect(Check.BEACON, subject, holds, f"{row.name} {detail}")


def check_commitment(record: Record, digest: bytes, reading: Reading, facts: ValidatorFacts, found: Findings) -> None:
    """Check that the digest of the measurements was in the slot before the Record's anchor."""
    subject, wanted = f"round {record.round}", set_digest(record.measurements)
    opened = reading.appeared(facts, digest)
    committed = [
        block
        for key, anchor in reading.anchors.items()
        if anchor.measurements is not None and anchor.round == record.round and (block := reading.appeared(facts, key)) is not None
        if anchor.measurements == wanted
    ]
    early = opened is not None and any(block < opened for block in committed)
    found.expect(Check.COMMITMENT, subject, early, "the digest of its measurements was not on chain before the record")


def expected_entrants(throne: Throne, facts: RoundFacts, rules: Rules, beacon_two: bytes) -> tuple[Entrant, ...]:
    """Return who must be a case of the round, in the order of the queue; contests without a slot come last."""
    present = entrants(facts.announced, facts.metagraph, throne, rules)
    queue = sorted(present, key=lambda one: draw(beacon=beacon_two, purpose="queue", subject=one.case))
    known = {one.case for one in present}
    gone = tuple(
        Entrant(
            hotkey=one.hotkey,
            coldkey=one.coldkey,
            registered_at=0,
            slot=Slot(track=0, parent=throne.king.tree[:8], announcement=one.announcement),
        )
        for one in throne.contests
        if one.case not in known
    )
    return (*queue, *gone)


def check_entrants(record: Record, expected: Sequence[Entrant], throne: Throne, found: Findings) -> bool:
    """Check that every slot of the window is a case exactly once. Return whether cases and entrants are the same."""
    subject = f"round {record.round}"
    stated, wanted = [case.case for case in record.cases], [one.case for one in expected]
    omitted = [one for one in expected if one.case not in stated]
    invented = [case for case in record.cases if case.case not in wanted]
    complete = found.expect(
        Check.ENTRANTS, subject, not omitted, f"announcements without a row: {', '.join(one.hotkey for one in omitted)}"
    )
    real = found.expect(Check.ENTRANTS, subject, not invented, f"rows without an announcement: {', '.join(map(case_name, invented))}")
    once = found.expect(Check.ENTRANTS, subject, len(set(stated)) == len(stated), "a case has more than one row")
    if not (complete and real and once):
        return False
    ordered = found.expect(Check.ENTRANTS, subject, stated == wanted, "the rows are not in the order that B2 draws")
    by_case = {one.case: one for one in expected}
    for case in record.cases:
        one = by_case[case.case]
        _check_row(case, one, throne, found)
    return ordered


def _check_row(case: CaseRow, entrant: Entrant, throne: Throne, found: Findings) -> None:
    contest = next((one for one in throne.contests if one.case == case.case), None)
    checks = (
        (case.coldkey == entrant.coldkey, "states another coldkey than the chain"),
        (case.parent == entrant.slot.parent, "states another parent than the slot"),
        (case.stage == ("screen" if contest is None else contest.stage), f"is in stage {case.stage}"),
    )
    for holds, detail in checks:
        found.expect(Check.ENTRANTS, case_name(case), holds, f"the row {detail}")


def check_seeds(one: Decided, previous: Record | None, rules: Rules, found: Findings) -> None:
    """Check that the Record holds exactly the measurements that beacons, cases and state call for, in their order."""
    record, subject = one.record, f"round {one.record.round}"
    first, second = beacon_of(record, "B1"), beacon_of(record, "B2")
    if first is None or second is None:
        return
    before = beacon_of(previous, "B2") if previous is not None else None
    try:
        drawn_needs = needs(one.before, record.cases, Beacons(one=first, two=second, previous_two=before), rules, round_index=record.round)
        wanted = (*drawn_needs, *follow_ups(one.before, tuple(item.measurement for item in record.measurements), rules))
    except HOSTILE as error:
        found.expect(Check.SEEDS, subject, False, f"the measurements that it needs cannot be listed: {error}")
        return
    stated = [
        (one.role, one.stage, one.tree, one.seed, one.executed, one.subset) for one in (item.measurement for item in record.measurements)
    ]
    drawn = [(need.role, need.stage, need.tree, need.seed, need.executed, need.subset) for need in wanted]
    missing = [need.key for need, key in zip(wanted, drawn, strict=True) if key not in stated]
    extra = sum(key not in drawn for key in stated)
    found.expect(Check.SEEDS, subject, not missing, f"measurements that the beacons draw are missing: {', '.join(missing[:4])}")
    found.expect(Check.SEEDS, subject, not extra, f"{extra} measurements have seeds, trees, stages or documents that were not drawn")
    if not missing and not extra:
        found.expect(Check.SEEDS, subject, stated == drawn, "the measurements are repeated or not in the order of the draw")
