"""An operator who loves or hates the king: demotions without cause, and kings who stay though they must go."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.auditor.report import Check, Verdict
from ralph.protocol.measurement import Measurement
from ralph.protocol.record import DemotionRow, Record
from tests.auditor.test_forgeries import assert_caught, found
from tests.auditor.world import GENESIS, Forgery, World, key

Measurements = tuple[Measurement, ...]
LOSS = -3.0


def fallen(world: World, forgery: Forgery | None = None) -> World:
    """Let the king turn out worse than he looked, and go on to the round in which his runs call for a demotion."""
    world.gains[world.trees["alice"].digest()] = LOSS
    world.play()
    world.play()
    world.play(forgery or Forgery())
    return world


@pytest.fixture(scope="module")
def demoted(honest: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    return fallen(honest.copy(tmp_path_factory.mktemp("demoted") / "world"))


def row(record: Record, **changed: object) -> DemotionRow:
    """Return a demotion of the king, made up."""
    made = DemotionRow(
        tree=record.king,
        hotkey=key("alice").key_id,
        restored=GENESIS.digest(),
        restored_hotkey="",
        reason="STA-ROLLBACK",
        detail="worse, he says",
        evidence=(record.measurements[0].measurement.digest(),),
        tag="recipe-v1.1.1",
    )
    return made.model_copy(update=changed)


def test_an_honest_demotion_is_reproduced_and_the_restored_king_is_paid(demoted: World) -> None:
    demotion = demoted.records[-1].record.demotion
    assert demotion is not None
    assert (demotion.reason, demotion.restored) == ("STA-ROLLBACK", GENESIS.digest())
    assert demoted.throne.king.tree == GENESIS.digest()
    report = demoted.audit()
    assert report.findings == ()
    assert report.verdict is Verdict.REPRODUCED


def test_every_piece_of_evidence_is_a_published_measurement_of_the_two_kings(demoted: World) -> None:
    demotion = demoted.records[-1].record.demotion
    assert demotion is not None
    published = {item.measurement.digest(): item.measurement for one in demoted.records for item in one.record.measurements}
    assert {published[name].role for name in demotion.evidence} == {"king", "former"}


def test_a_king_demoted_without_cause_is_caught(world: World) -> None:
    world.play(Forgery(record=lambda record: record.model_copy(update={"demotion": row(record)})))
    report = assert_caught(world, Check.DEMOTION, "without cause")
    assert {one.check for one in report.findings} == {Check.DEMOTION}


def test_a_king_who_stays_though_he_must_go_is_caught(honest: World, tmp_path: Path) -> None:
    world = fallen(honest.copy(tmp_path / "copy"), Forgery(record=lambda record: record.model_copy(update={"demotion": None})))
    report = assert_caught(world, Check.OVERDUE, "keeps a king whom its inputs demote")
    assert not found(report, Check.DEMOTION)


@pytest.mark.parametrize("change", [{"reason": "RUN-KING"}, {"restored_hotkey": "mine"}, {"evidence": ()}, {"tag": "recipe-v9.9.9"}])
def test_a_demotion_for_another_cause_or_in_favour_of_another_is_caught(honest: World, tmp_path: Path, change: dict[str, object]) -> None:
    def lie(record: Record) -> Record:
        assert record.demotion is not None
        return record.model_copy(update={"demotion": record.demotion.model_copy(update=change)})

    assert_caught(fallen(honest.copy(tmp_path / "copy"), Forgery(record=lie)), Check.DEMOTION, "demotes otherwise than its inputs do")


def without(*, stage: str) -> Callable[[Measurements], Measurements]:
    return lambda measurements: tuple(one for one in measurements if one.stage != stage)


def test_leaving_out_the_runs_on_probation_is_caught(world: World) -> None:
    world.play(Forgery(measurements=without(stage="probation")))
    assert_caught(world, Check.SEEDS, "measurements that the beacons draw are missing: probation/king")


def test_a_king_whose_failures_are_called_the_machines_is_caught(world: World) -> None:
    """The king fails and the reference holds; the operator publishes a round without the failed runs and without the reference."""
    world.broken.add(world.trees["alice"].digest())
    world.play(Forgery(measurements=lambda all_: tuple(one for one in all_ if one.failure is None and one.role == "challenger")))
    assert_caught(world, Check.SEEDS, "measurements that the beacons draw are missing")


def test_a_broken_king_is_demoted_beside_a_reference_that_holds_and_the_audit_repeats_the_questions(world: World) -> None:
    world.broken.add(world.trees["alice"].digest())
    record = world.play().record
    assert record.demotion is not None
    assert record.demotion.reason in ("RUN-KING", "STA-UNSTABLE")
    assert {item.measurement.role for item in record.measurements} >= {"king", "former", "reference"}
    assert world.audit().verdict is Verdict.REPRODUCED


def test_a_reference_that_was_asked_once_and_is_listed_twice_is_caught(world: World) -> None:
    """An operator who wants the king gone calls his runs failed and the reference sound."""

    def twice(record: Record) -> Record:
        once = {one.measurement.seed: one for one in record.measurements if one.measurement.role == "reference"}
        listed = tuple(once[one.measurement.seed] if one.measurement.role == "reference" else one for one in record.measurements)
        return record.model_copy(update={"measurements": listed})

    world.broken.add(world.trees["alice"].digest())
    world.play(Forgery(record=twice))
    assert_caught(world, Check.DECISION, "the decision cannot be made from what the record holds")


def test_going_on_to_pay_the_demoted_king_is_caught(demoted: World, tmp_path: Path) -> None:
    world = demoted.copy(tmp_path / "copy")
    alice = {key("alice").key_id: 16_384, key("owner").key_id: 49_151}
    for _ in range(2):
        world.play(Forgery(weights=lambda _: alice))
    assert_caught(world, Check.WEIGHTS, "they are not what any record gives")


def test_a_record_that_goes_on_with_the_demoted_king_is_caught(demoted: World, tmp_path: Path) -> None:
    world = demoted.copy(tmp_path / "copy")
    king = world.trees["alice"].digest()
    world.play(Forgery(record=lambda record: record.model_copy(update={"king": king})))
    assert_caught(world, Check.LINK, "names another king than the records before it give")


def lost(world: World, forgery: Forgery | None = None) -> World:
    """Let the vested king turn out worse on the documents of the rotation that begins."""
    world.gains[world.trees["alice"].digest()] = LOSS
    world.play(forgery or Forgery())
    return world


def test_a_vested_king_who_loses_on_new_documents_is_demoted_and_the_audit_agrees(due: World) -> None:
    assert due.throne.king.standing == "vested"
    record = lost(due).records[-1].record
    assert record.demotion is not None
    assert (record.demotion.reason, record.demotion.restored) == ("STA-CANARY", GENESIS.digest())
    published = {item.measurement.digest(): item.measurement for item in record.measurements}
    evidence = [published[name] for name in record.demotion.evidence]
    assert {(one.role, one.stage, one.subset.key) for one in evidence} == {
        ("king", "rescore", "confirm-2"),
        ("former", "rescore", "confirm-2"),
    }
    due.play()
    report = due.audit()
    assert report.verdict is Verdict.REPRODUCED, report.findings


def test_a_king_who_loses_on_new_documents_and_stays_is_caught(due: World) -> None:
    lost(due, Forgery(record=lambda record: record.model_copy(update={"demotion": None})))
    assert_caught(due, Check.OVERDUE, "keeps a king whom its inputs demote")


def test_scoring_fewer_runs_of_the_king_before_again_is_caught(due: World) -> None:
    """With too few of them new documents would decide nothing."""

    def fewer(record: Record) -> Record:
        former = [one for one in record.measurements if (one.measurement.role, one.measurement.stage) == ("former", "rescore")]
        kept = tuple(one for one in record.measurements if one not in former[4:])
        return record.model_copy(update={"measurements": kept, "demotion": None})

    lost(due, Forgery(record=fewer))
    report = due.audit()
    assert found(report, Check.DECISION)
    assert any("kept runs were not scored again" in one.detail for one in report.findings)
