"""When hidden documents change: what is scored again, and that numbers of different documents never meet in a decision."""

from dataclasses import replace

import pytest

from ralph.errors import CorruptStateError
from ralph.judge.decide import Decision, decide
from ralph.judge.plan import Beacons, Need, needs
from ralph.judge.rotation import ended, kept_runs
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import Failure, Measurement
from ralph.protocol.pool import Subset
from tests.judge.test_decide import B2, KING, POOL, RULES, SEALED, THRONE, case, guards, run, stage_runs, tree

HIDDEN = RULES.hidden.model_copy(update={"rotation_rounds": 4, "watched_runs": 2})
SHORT = RULES.model_copy(update={"hidden": HIDDEN})
BEACONS = Beacons(one=bytes(32), two=B2, previous_two=bytes([3]) * 32)
SCREEN, CONFIRM, AUDIT = (Subset(shard=name, rotation=1) for name in ("screen", "confirm", "audit"))
HARDER = 0.5
"""The documents of rotation 1 cost everybody this much more, bpb: many times any gain."""


def one_round(throne: Throne, cases: list, measurements: list[Measurement], rules=SHORT) -> Decision:
    return decide(
        throne, round_index=throne.round_index + 1, beacon_two=B2, cases=cases, measurements=measurements, sealed=SEALED, rules=rules
    )


def on(measurements: list[Measurement], rotation: int) -> list[Measurement]:
    """Return the runs of a stage as they are scored in another rotation."""
    moved = []
    for one in measurements:
        score = one.score and one.score.model_copy(update={"val_bpb": one.score.val_bpb + HARDER * rotation})
        moved.append(one.model_copy(update={"subset": one.subset.model_copy(update={"rotation": rotation}), "score": score}))
    return moved


def proving(gain: float) -> Throne:
    """Return the state at the end of rotation 0 with one contest that has half its proof runs."""
    throne = replace(THRONE, round_index=0)
    throne = one_round(throne, [case(1)], stage_runs("screen", {1: 0.2}, range(1))).throne
    throne = one_round(throne, [case(1, "filter")], stage_runs("filter", {1: 0.2}, range(10, 12))).throne
    throne = one_round(throne, [case(1, "proof")], stage_runs("proof", {1: gain}, range(20, 24), upper=1.0)).throne
    assert throne.round_index == 3
    assert [len(one.runs) for one in throne.contests] == [4]
    return throne


def rescored(need: Need, throne: Throne) -> Measurement:
    """Return a kept run as it is scored on the documents of rotation 1."""
    contest = throne.contests[0] if throne.contests else None
    known = {(throne.king.tree, one.seed): one.val_bpb for one in throne.pool}
    if contest is not None:
        known |= {(contest.tree, one.seed): one.challenger for one in contest.runs}
    if len(throne.lineage) > 1:
        known |= {(throne.lineage[-2].tree, one.seed): one.val_bpb for one in throne.former_runs}
    value = known[need.tree, need.seed] + HARDER * need.subset.rotation
    made = run(need.role, "pool", need.tree, need.seed, value, round_index=throne.round_index + 1)
    return made.model_copy(update={"stage": "rescore", "executed": False, "subset": need.subset, "weights": need.weights})


def again(throne: Throne) -> list[Measurement]:
    wanted = needs(throne, [], BEACONS, SHORT, round_index=throne.round_index + 1)
    return [rescored(need, throne) for need in wanted if need.stage == "rescore"]


def test_stages_have_their_documents_and_the_king_runs_on_those_of_the_stage():
    throne = replace(THRONE, round_index=0)
    wanted = needs(throne, [case(1)], BEACONS, SHORT, round_index=1)
    assert {(one.role, one.subset.key) for one in wanted} == {("king", "screen-0"), ("challenger", "screen-0")}
    throne = proving(0.03)
    wanted = needs(throne, [case(1, "proof")], BEACONS, SHORT, round_index=4)
    assert {(one.role, one.subset.key) for one in wanted if one.stage == "proof"} == {("king", "confirm-1"), ("challenger", "confirm-1")}
    short = replace(THRONE, pool=POOL[:6])
    assert [one.subset.key for one in needs(short, [], BEACONS, SHORT, round_index=1)] == ["confirm-0", "confirm-0"]


def test_a_rotation_scores_every_run_again_that_is_compared_later_and_each_once():
    throne = proving(0.03)
    kept = kept_runs(throne, SHORT, 4)
    kings = {one.seed for one in kept if one.role == "king"}
    assert kings == {one.seed for one in throne.pool} >= {20, 21, 22, 23}
    assert [one.seed for one in kept if one.role == "challenger"] == [20, 21, 22, 23]
    assert {one.subset for one in kept} == {CONFIRM}
    assert len({one.key for one in kept}) == len(kept)
    assert kept_runs(throne, SHORT, 3) == ()


def test_the_decision_goes_on_after_a_rotation_as_if_the_documents_had_always_been_these():
    throne = proving(0.03)
    later = [*again(throne), *on(stage_runs("proof", {1: 0.2}, range(24, 28)), 1)]
    later[-1] = later[-1].model_copy(update={"guards": guards(8)})
    decision = one_round(throne, [case(1, "proof")], later)
    assert decision.throne.rotation == 1
    look = decision.outcomes[0].look
    assert look is not None
    same = [one.model_copy(update={"guards": guards(8)}) if one.guards else one for one in stage_runs("proof", {1: 0.2}, range(24, 28))]
    unmoved = decide(throne, round_index=4, beacon_two=B2, cases=[case(1, "proof")], measurements=same, sealed=SEALED, rules=RULES)
    assert look.gain_bpb == pytest.approx(unmoved.outcomes[0].look.gain_bpb, abs=1e-12)


def test_numbers_of_different_documents_would_crown_and_are_never_compared():
    """The documents of rotation 1 are easier. A worthless challenger on them, beside the king on the old ones, looks like a gain."""
    throne = replace(THRONE, round_index=0)
    throne = one_round(throne, [case(1)], stage_runs("screen", {1: 0.2}, range(1))).throne
    throne = one_round(throne, [case(1, "filter")], stage_runs("filter", {1: 0.2}, range(10, 12))).throne
    worthless = stage_runs("proof", {1: -0.1}, range(20, 24))
    easier = [
        one.model_copy(update={"subset": CONFIRM, "score": one.score.model_copy(update={"val_bpb": one.score.val_bpb - HARDER})})
        if one.role == "challenger"
        else one
        for one in worthless
    ]
    relabelled = [one.model_copy(update={"subset": worthless[0].subset}) for one in easier]
    assert one_round(throne, [case(1, "proof")], relabelled).crown is not None, "mixing must be worth something here"
    with pytest.raises(CorruptStateError, match="was scored on documents confirm-1, not confirm-0") as caught:
        one_round(throne, [case(1, "proof")], easier)
    assert caught.value.code == "OPS-HOLD"


def test_a_round_after_a_rotation_without_the_kept_runs_is_held():
    throne = proving(0.03)
    fresh = on(stage_runs("proof", {1: 0.2}, range(24, 28)), 1)
    whole = again(throne)
    for some in ([], whole[:-1], whole[1:]):
        with pytest.raises(CorruptStateError, match="kept runs were not scored again") as caught:
            one_round(throne, [case(1, "proof")], [*some, *fresh])
        assert caught.value.code == "OPS-HOLD"


CHEATS = {
    "other weights": ({"weights": bytes([9]) * 32}, "other weights than were kept"),
    "trained anew": ({"executed": True}, "without being due"),
    "of the old documents": ({"subset": Subset(shard="confirm", rotation=0)}, "without being due"),
    "of the other shard": ({"subset": SCREEN}, "without being due"),
    "in another role": ({"role": "challenger"}, "without being due"),
    "of another seed": ({"seed": 77}, "without being due"),
    "no score": ({"score": None, "failure": Failure(reason="FRD-CLAIM", detail="peeks")}, "of the king has no score"),
}


@pytest.mark.parametrize(("change", "words"), CHEATS.values(), ids=CHEATS)
def test_a_kept_run_of_the_king_cannot_be_exchanged(change, words):
    throne = proving(0.03)
    whole = again(throne)
    whole[0] = whole[0].model_copy(update=change)
    with pytest.raises(CorruptStateError, match=words):
        one_round(throne, [], whole)


def test_a_challenger_whose_kept_weights_fail_on_new_documents_is_refused():
    throne = proving(0.03)
    whole = again(throne)
    failed = whole[-1].model_copy(update={"score": None, "failure": Failure(reason="FRD-CLAIM", detail="peeks")})
    decision = one_round(throne, [case(1, "proof")], [*whole[:-1], failed, *on(stage_runs("proof", {1: 0.2}, range(24, 28)), 1)])
    assert [(one.state, one.reason) for one in decision.outcomes] == [("rejected", "FRD-CLAIM")]


def crowned_at(round_index: int) -> Throne:
    throne = replace(THRONE, round_index=round_index - 3, rotation=(round_index - 3) // 4)
    for stage, seeds in (("screen", range(1)), ("filter", range(10, 12)), ("proof", range(20, 24))):
        runs = on(stage_runs(stage, {1: 0.2}, seeds), throne.rotation)
        throne = one_round(throne, [case(1, stage)], runs).throne
    assert throne.king.tree == tree(1)
    assert throne.king.crowned_round == round_index
    return throne


def test_after_a_crown_both_kings_are_watched_on_audit_and_the_new_one_is_scored_on_what_it_sealed():
    throne = crowned_at(3)
    assert throne.sealed_documents == SEALED.documents
    throne = replace(throne, rotation=1)
    kept = kept_runs(throne, SHORT, 4)
    sealed = Subset(shard="confirm", rotation=0, crown=3)
    assert [(one.tree, one.seed, one.subset.key) for one in kept] == [
        (tree(1), 20, "audit-1"),
        (tree(1), 21, "audit-1"),
        (tree(1), 20, sealed.key),
        (tree(1), 21, sealed.key),
        (KING, 20, "audit-1"),
        (KING, 21, "audit-1"),
    ]
    assert [one.role for one in kept] == ["king"] * 4 + ["former"] * 2


def test_the_record_says_what_the_king_gains_on_audit_beside_confirm():
    throne = crowned_at(3)
    whole = again(throne)
    learnt = [
        one.model_copy(update={"score": one.score.model_copy(update={"val_bpb": one.score.val_bpb + 0.15})})
        if (one.subset, one.tree) == (AUDIT, tree(1))
        else one
        for one in whole
    ]
    confirm, audit = one_round(throne, [], learnt).watch
    assert (confirm.subset, audit.subset) == (CONFIRM, AUDIT)
    assert (confirm.king, confirm.previous, confirm.runs) == (tree(1), KING, 2)
    assert confirm.gain_bpb == pytest.approx(0.2, abs=0.01)
    assert audit.gain_bpb == pytest.approx(confirm.gain_bpb - 0.15, abs=1e-9)
    assert one_round(proving(0.03), [], again(proving(0.03))).watch == ()


def test_what_is_over_is_opened_when_the_next_rotation_begins():
    assert [ended([], HIDDEN, index) for index in (0, 3)] == [(), ()]
    assert [one.key for one in ended([], HIDDEN, 4)] == ["screen-0", "confirm-0", "audit-0"]
    assert [one.key for one in ended([], HIDDEN, 8)] == ["screen-1", "confirm-1", "audit-1"]
