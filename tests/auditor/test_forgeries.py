"""An operator with every key forges his own records. Each forgery is caught, at the check that is there for it."""

from pathlib import Path

import pytest

from ralph.auditor.report import Check, Finding, Kind, Report, Verdict
from ralph.chain.local import LocalChain
from ralph.protocol.announcement import anchor_payload
from ralph.protocol.canonical import digest
from ralph.protocol.measurement import Measurement, SignedMeasurement
from ralph.protocol.record import BeaconRow, CaseRow, Record, Refusal, SignedRecord
from ralph.protocol.seeds import beacon
from tests.auditor.world import GENESIS, Forgery, World, edited, key, moved, run

Cases = tuple[CaseRow, ...]
Measurements = tuple[Measurement, ...]


def found(report: Report, check: Check) -> list[Finding]:
    return [one for one in report.findings if one.check is check and one.kind is Kind.DIVERGED]


def assert_caught(world: World, check: Check, words: str) -> Report:
    report = world.audit(hotkey=world.validator)
    assert report.verdict is Verdict.DIVERGED
    assert [one for one in found(report, check) if words in one.detail], report.findings
    return report


def challenger_raised(measurements: Measurements) -> Measurements:
    """Make the first challenger look better, with a score that contradicts nothing."""
    return tuple(
        one.model_copy(update={"score": moved(one.score, 0.5)}) if one.role == "challenger" and one.score else one for one in measurements
    )


@pytest.fixture
def contested(world: World) -> World:
    """A world in which carol's tree may be announced next, worse than the king."""
    king = world.trees["alice"]
    world.trees["bob"] = edited(king, "config/base.toml", "value = 16", "value = 8")
    world.gains[world.trees["bob"].digest()] = 0.1
    return world


def test_an_honest_history_is_reproduced_and_every_check_was_made(honest: World) -> None:
    honest.reproduced.clear()
    report = honest.audit()
    assert report.findings == ()
    assert report.verdict is Verdict.REPRODUCED
    assert all(tally.count > 0 for tally in report.tallies)
    assert report.records == 5


def test_what_is_not_checked_is_listed_in_every_report(honest: World) -> None:
    assert {one.level for one in honest.audit().unchecked} >= {"L1", "L2", "L3", "L4"}


def test_a_score_rigged_after_its_digest_was_on_chain_is_caught(contested: World) -> None:
    contested.play(Forgery(opened=challenger_raised), announce=("bob",))
    report = assert_caught(contested, Check.COMMITMENT, "was not on chain before the record")
    assert {one.check for one in report.findings} == {Check.COMMITMENT}


def test_a_score_that_does_not_follow_from_its_claims_is_caught(contested: World) -> None:
    def rig(measurements: Measurements) -> Measurements:
        first = measurements[0]
        assert first.score is not None
        better = first.score.model_copy(update={"val_bpb": first.score.val_bpb - 0.01})
        return (first.model_copy(update={"score": better}), *measurements[1:])

    contested.play(Forgery(measurements=rig), announce=("bob",))
    assert_caught(contested, Check.MEASUREMENT, "differs from its claims by more than the correction")


def test_a_mismatch_over_the_tolerance_that_was_no_failure_is_caught(contested: World) -> None:
    def rig(measurements: Measurements) -> Measurements:
        first = measurements[0]
        assert first.score is not None
        return (first.model_copy(update={"score": first.score.model_copy(update={"worst_mismatch_nats": 1.0})}), *measurements[1:])

    contested.play(Forgery(measurements=rig), announce=("bob",))
    assert_caught(contested, Check.MEASUREMENT, "has a mismatch of 1.0 nats")


def test_a_friend_who_is_spared_the_probes_is_caught(contested: World) -> None:
    """T39: only reviewed code is scored without an audit of its claims."""

    def spare(measurements: Measurements) -> Measurements:
        return tuple(
            one.model_copy(update={"score": one.score.model_copy(update={"cells": 0})}) if one.role == "challenger" and one.score else one
            for one in measurements
        )

    contested.play(Forgery(measurements=spare), announce=("bob",))
    assert_caught(contested, Check.MEASUREMENT, "was scored without probes, and its code is not reviewed")


def test_measurements_that_were_never_committed_are_caught(contested: World) -> None:
    contested.play(Forgery(commits=False))
    assert_caught(contested, Check.COMMITMENT, "was not on chain before the record")


def test_seeds_of_the_operators_choice_are_caught(contested: World) -> None:
    def shop(measurements: Measurements) -> Measurements:
        return tuple(one.model_copy(update={"seed": one.seed ^ 1}) for one in measurements)

    contested.play(Forgery(measurements=shop))
    contested.play(Forgery(measurements=shop), announce=("bob",))
    report = assert_caught(contested, Check.SEEDS, "measurements that the beacons draw are missing")
    assert [one for one in found(report, Check.SEEDS) if "were not drawn" in one.detail]


def test_a_measurement_too_many_is_caught(contested: World) -> None:
    def add(measurements: Measurements) -> Measurements:
        beside = next(one for one in measurements if one.stage == "screen")
        return (*measurements, beside.model_copy(update={"seed": 7}))

    contested.play(Forgery(measurements=add), announce=("bob",))
    assert_caught(contested, Check.SEEDS, "1 measurements have seeds, trees, stages or documents that were not drawn")


def test_a_measurement_made_twice_is_caught(contested: World) -> None:
    contested.play(Forgery(measurements=lambda all_: (*all_, all_[0])), announce=("bob",))
    assert_caught(contested, Check.SEEDS, "repeated or not in the order of the draw")


@pytest.mark.parametrize("name", ["B1", "B2"])
def test_a_beacon_of_the_operators_choice_is_caught(contested: World, name: str) -> None:
    def grind(rows: tuple[BeaconRow, ...]) -> tuple[BeaconRow, ...]:
        chosen = digest("test/ground", 1)
        return tuple(
            row.model_copy(update={"block_hash": chosen, "beacon": beacon(block_hash=chosen, drand_signature=row.drand_signature)})
            if row.name == name
            else row
            for row in rows
        )

    contested.play(Forgery(beacons=grind))
    assert_caught(contested, Check.BEACON, f"{name} states another hash")


def test_a_beacon_that_is_not_the_digest_of_its_parts_is_caught(contested: World) -> None:
    contested.play(Forgery(beacons=lambda rows: tuple(row.model_copy(update={"beacon": digest("test/ground", 2)}) for row in rows)))
    assert_caught(contested, Check.BEACON, "B1 is not the digest of its parts")


def test_a_dropped_submission_is_caught(contested: World) -> None:
    contested.play(Forgery(cases=lambda _: ()), announce=("bob",))
    assert_caught(contested, Check.ENTRANTS, f"announcements without a row: {key('bob').key_id}")


def test_an_invented_submission_is_caught(contested: World) -> None:
    def invent(cases: Cases) -> Cases:
        refusal = Refusal(gate="scope", reason="INT-SCOPE", detail="made up")
        return (*cases, cases[0].model_copy(update={"hotkey": key("carol").key_id, "refusal": refusal}))

    contested.play(Forgery(cases=invent), announce=("bob",))
    assert_caught(contested, Check.ENTRANTS, "rows without an announcement")


def test_a_queue_in_another_order_is_caught(contested: World) -> None:
    contested.trees["alice"] = edited(contested.trees["alice"], "config/base.toml", "value = 16", "value = 4")
    contested.play(Forgery(cases=lambda cases: tuple(reversed(cases))), announce=("alice", "bob"))
    assert_caught(contested, Check.ENTRANTS, "not in the order that B2 draws")


def test_a_coldkey_of_the_operators_choice_is_caught(contested: World) -> None:
    contested.play(Forgery(cases=lambda cases: tuple(case.model_copy(update={"coldkey": "another"}) for case in cases)), announce=("bob",))
    assert_caught(contested, Check.ENTRANTS, "states another coldkey than the chain")


def test_refusing_a_good_submission_is_caught(contested: World) -> None:
    refusal = Refusal(gate="scope", reason="INT-SCOPE", detail="does not please")
    contested.play(Forgery(cases=lambda cases: tuple(case.model_copy(update={"refusal": refusal}) for case in cases)), announce=("bob",))
    assert_caught(contested, Check.GATES, "the gates say accepted")


def test_accepting_a_copy_of_an_earlier_patch_is_caught(contested: World) -> None:
    contested.trees["bob"] = edited(contested.trees["alice"], "model.py", "depth = 3", "depth = 3  # mine")

    def accept(cases: Cases) -> Cases:
        return tuple(case.model_copy(update={"refusal": None}) for case in cases)

    contested.play(Forgery(cases=accept), announce=("bob",))
    assert_caught(contested, Check.GATES, "the gates say refused at novelty with INT-DUP")


def test_accepting_what_the_gates_refuse_is_caught(contested: World) -> None:
    tree = contested.trees["bob"]
    contested.trees["bob"] = type(tree)(files={**tree.files, "smuggled.py": b"x = 1\n"})

    def accept(cases: Cases) -> Cases:
        tree = contested.trees["bob"]
        update = {"refusal": None, "tree": tree.digest(), "normalised": tree.normalised_digest()}
        return tuple(case.model_copy(update=update) for case in cases)

    contested.play(Forgery(cases=accept), announce=("bob",))
    assert_caught(contested, Check.GATES, "the record says accepted; the gates say refused at scope with INT-SCOPE")


def test_a_row_that_shows_other_claims_than_the_bundle_is_caught(contested: World) -> None:
    contested.play(Forgery(cases=lambda cases: tuple(case.model_copy(update={"hypothesis": None}) for case in cases)), announce=("bob",))
    assert_caught(contested, Check.GATES, "the row shows other contents than the bundle")


def test_setting_a_submission_aside_as_our_own_failure_leaves_the_audit_incomplete(contested: World) -> None:
    refusal = Refusal(gate="intake", reason="OPS-INFRA", detail="our disk")
    contested.play(Forgery(cases=lambda cases: tuple(case.model_copy(update={"refusal": refusal}) for case in cases)), announce=("bob",))
    report = contested.audit()
    assert report.verdict is Verdict.INCOMPLETE
    assert [one for one in report.findings if one.check is Check.GATES and "accepted today" in one.detail]


def test_a_changed_outcome_is_caught(contested: World) -> None:
    def change(record: Record) -> Record:
        return record.model_copy(update={"outcomes": (record.outcomes[0].model_copy(update={"state": "dropped"}),)})

    contested.gains[contested.trees["bob"].digest()] = 0.9
    contested.play(Forgery(record=change), announce=("bob",))
    assert_caught(contested, Check.DECISION, "outcome 0 is stated as dropped")


def test_an_invented_crown_is_caught(contested: World) -> None:
    crown = next(one.record.crown for one in contested.records if one.record.crown is not None)
    contested.play(Forgery(record=lambda record: record.model_copy(update={"crown": crown})))
    assert_caught(contested, Check.DECISION, "the record crowns otherwise; its inputs crown no king")


def test_a_record_under_other_rules_is_caught(contested: World) -> None:
    contested.play(Forgery(record=lambda record: record.model_copy(update={"rules": digest("test/rules", 1)})))
    assert_caught(contested, Check.LINK, "made under other rules")


def test_a_record_that_names_another_king_is_caught(contested: World) -> None:
    contested.play(Forgery(record=lambda record: record.model_copy(update={"king": GENESIS.digest()})))
    assert_caught(contested, Check.LINK, "names another king")


def test_an_anchor_with_another_root_is_caught(contested: World) -> None:
    contested.play(Forgery(anchor=lambda anchor: anchor.model_copy(update={"root": digest("test/root", 1)})))
    assert_caught(contested, Check.LOG, "states another root than the records give")


def test_another_hidden_pool_is_caught(contested: World) -> None:
    contested.play(Forgery(anchor=lambda anchor: anchor.model_copy(update={"hidden": digest("test/hidden", 2)})))
    report = contested.audit(hotkey=contested.validator)
    assert [one.check for one in report.findings if "commitment or leaves could not be read" in one.detail] == [Check.POOL]
    assert report.verdict is Verdict.INCOMPLETE


def test_reordered_records_are_caught(world: World) -> None:
    records = [one.record for one in world.records]
    world.records, world.anchors = [], []
    for record in (records[0], records[2], records[1], records[3], records[4]):
        world.publish(record)
    assert_caught(world, Check.LINK, "the record at place 1 is of round 2")


def test_rewritten_history_is_caught(world: World) -> None:
    """The operator drops a row of round 1 and makes everything after it again, links, signatures and anchors included."""
    records = [one.record for one in world.records]
    world.records, world.anchors = [], []
    previous = None
    for record in records:
        kept = record.cases[:1] if record.round == 1 else record.cases
        signed = world.publish(record.model_copy(update={"previous": previous, "cases": kept}))
        previous = signed.record.digest()
    assert_caught(world, Check.FACES, "is not part of the history")


def test_a_rollback_is_caught(world: World) -> None:
    world.set_slot(anchor_payload(world.anchors[2]))
    report = assert_caught(world, Check.FACES, "the slot went back from 5 records to 3")
    assert report.records == 3


def test_two_faces_in_one_slot_are_caught(world: World) -> None:
    other = world.copy(world.home.with_name("other"))
    other.play(Forgery(weights=lambda vector: vector))
    record = other.records[-1].record.model_copy(update={"track": "another"})
    world.play()
    world.records.pop()
    world.anchors.pop()
    world.publish(record)
    assert_caught(world, Check.FACES, "the anchor of round 5 in the slot is not part of the history")


def test_two_faces_on_two_machines_are_caught_when_auditors_exchange_heads(world: World, tmp_path: Path) -> None:
    shown_to_others = world.copy(tmp_path / "other")
    shown_to_others.play()
    world.play(Forgery(record=lambda record: record.model_copy(update={"environments": ()})))
    head = shown_to_others.audit()
    assert head.verdict is Verdict.REPRODUCED
    report = world.audit(heads=((head.records, head.root),))
    assert [one.detail for one in found(report, Check.FACES)] == [
        "a log of that size with another root was seen before: history was rewritten"
    ]


def test_a_log_that_is_shorter_than_one_seen_before_is_caught(honest: World) -> None:
    report = honest.audit(heads=((9, digest("test/root", 9)),))
    assert [one.detail for one in found(report, Check.FACES)] == ["a log of 9 records was seen before, now there are 5"]


def test_weights_that_follow_from_no_record_are_caught(world: World) -> None:
    world.play(Forgery(weights=lambda vector: {key("bob").key_id: 65535}))
    assert_caught(world, Check.WEIGHTS, "they are not what any record gives")


def test_a_record_signed_by_another_key_is_caught(world: World) -> None:
    world.play()
    signed = world.records.pop()
    world.anchors.pop()
    forged = SignedRecord(record=signed.record, signature=bytes(64))
    world.records.append(forged)
    world._anchor(record=world.store.put(forged.to_bytes()), measurements=None)
    assert_caught(world, Check.SIGNER, "the record is not signed by the endorsed key")


def test_a_measurement_signed_by_another_key_is_caught(contested: World) -> None:
    def unsign(record: Record) -> Record:
        first = SignedMeasurement(measurement=record.measurements[0].measurement, signature=bytes(64))
        return record.model_copy(update={"measurements": (first, *record.measurements[1:])})

    contested.play(Forgery(record=unsign), announce=("bob",))
    assert_caught(contested, Check.SIGNER, "measurement 0 is not signed by the endorsed key")


def test_an_endorsement_that_the_hotkey_did_not_sign_is_caught(world: World) -> None:
    name = f"validators/{world.validator}/record-key"
    data = bytearray(world.store.get_named(name, limit=4096))
    data[-1] ^= 1
    world.store.put_named(name, bytes(data))
    report = world.audit()
    assert report.verdict is Verdict.DIVERGED
    assert report.records == 0


def test_anchors_of_a_hotkey_without_a_permit_are_caught(world: World) -> None:
    chain = LocalChain.connect(world.home / "chain.sqlite")
    run(chain.set_stake(world.validator, 0))
    run(chain.close())
    world._anchor(record=None, measurements=digest("test/set", 1))
    assert_caught(world, Check.SIGNER, "no validator permit")


def test_a_slot_that_holds_no_anchor_is_caught(world: World) -> None:
    world.set_slot(b"hello")
    assert assert_caught(world, Check.FACES, "holds something that is no anchor").records == 5


def test_a_crown_whose_patch_gives_another_tree_is_caught(world: World) -> None:
    """The row of round 1 names another patch than the one that was judged; everything after it is made again."""
    other = next(case.patch for case in world.records[1].record.cases if case.hotkey == key("bob").key_id)
    records = [one.record for one in world.records]
    world.records, world.anchors = [], []
    previous = None
    for record in records:
        cases = tuple(case.model_copy(update={"patch": other}) if case.patch else case for case in record.cases)
        previous = world.publish(record.model_copy(update={"previous": previous, "cases": cases})).record.digest()
    assert_caught(world, Check.CROWN, "the crowned patch gives another tree")


def test_a_record_that_hides_what_a_case_proved_does_not_crash_the_audit(world: World) -> None:
    """Inputs that contradict each other are a divergence; nothing follows from them, and that is said."""
    world.play(Forgery(record=lambda record: record.model_copy(update={"round": 9})))
    report = assert_caught(world, Check.DECISION, "the decision cannot be made from what the record holds")
    assert [one for one in report.findings if one.kind is Kind.UNKNOWN and one.subject == "rounds from 6"]


def test_a_changed_profile_is_another_audit(world: World) -> None:
    rules = world.profile.rules.model_copy(update={"announcements_per_coldkey": 1})
    world.profile = world.profile.model_copy(update={"rules": rules})
    assert_caught(world, Check.LINK, "made under other rules")


def test_weights_that_stay_with_the_state_before_the_crown_are_caught(honest: World, tmp_path: Path) -> None:
    """The operator goes on to publish, and to pay the old king."""
    world = honest.copy(tmp_path / "copy")
    old = {key("owner").key_id: 65535}
    for _ in range(2):
        world.play(Forgery(weights=lambda _: old))
    report = assert_caught(world, Check.WEIGHTS, "records behind the newest at that block")
    assert not [one for one in found(report, Check.WEIGHTS) if "not what any record gives" in one.detail]


def test_weights_one_record_behind_are_a_note_and_no_fault(world: World) -> None:
    world.play(Forgery(pays=False))
    report = world.audit()
    assert report.verdict is Verdict.REPRODUCED
    assert [one.kind for one in report.findings] == [Kind.NOTE]
    assert "1 records were anchored after block" in report.findings[0].detail


def test_weights_that_are_never_set_again_are_caught(world: World) -> None:
    for _ in range(2):
        world.play(Forgery(pays=False))
    assert_caught(world, Check.WEIGHTS, "2 records were anchored after block")
