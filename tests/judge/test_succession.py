"""The throne changes hands: crowned, vested, demoted, restored, paid; and what somebody who wants a throne tries."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.errors import CorruptStateError
from ralph.judge import succession
from ralph.judge.canary import Cause
from ralph.judge.decide import Decision
from ralph.judge.plan import Beacons, canary_seeds, follow_ups, needs, probation_seeds
from ralph.judge.weights import weights
from ralph.protocol.lineage import REIGNING, KingRun, Reign, Throne, TrialRun
from ralph.protocol.measurement import Measurement
from ralph.protocol.reasons import Reason
from tests.judge.test_decide import B2, ENVIRONMENT, KING, POOL, RULES, case, contest_to, one_round, run, stage_runs, tree

OWN = tuple(replace(run, seed=run.seed + 200) for run in POOL)
"""A pool of which no run stands beside one of the king before."""
CAUSE = Cause(reason=Reason.STA_ROLLBACK, detail="worse", evidence=())
WEIGHTS = bytes([6]) * 32


def reign(name: int, round_index: int) -> Reign:
    return Reign(
        tree=tree(name), hotkey=f"hot{name}", crowned_round=round_index, standing="probation", gain_bpb=0.1, tag=f"recipe-v1.{name}.0"
    )


def after(throne: Throne, round_index: int) -> Throne:
    return replace(throne, round_index=round_index)


def trial(count: int, gain: float = 0.1) -> tuple[TrialRun, ...]:
    return tuple(TrialRun(seed=seed, king=2.5 - gain, former=2.5, evidence=(bytes(32), bytes(32))) for seed in range(count))


def two_kings() -> Throne:
    """Return a throne with a vested king 8 over genesis and king 9 on probation over him, in round 10."""
    throne = succession.crown(replace(Throne.genesis(KING), pool=POOL, round_index=2), reign(8, 3), POOL[:4])
    throne = succession.tried(throne, trial(8), (), RULES.crown)
    entered = frozenset({tree(50), tree(51)})
    throne = replace(throne, pool=POOL, entries=3, entered=entered)
    return after(succession.crown(throne, reign(9, 9), POOL[4:], broken_off=frozenset({tree(51)})), 10)


def test_a_king_is_on_probation_until_his_runs_after_the_crown_are_in():
    throne = succession.crown(Throne.genesis(KING), reign(8, 3), ())
    assert [one.standing for one in throne.lineage] == ["dethroned", "probation"]
    assert succession.tried(throne, trial(7), (), RULES.crown).king.standing == "probation"
    assert succession.tried(throne, trial(8), (), RULES.crown).king.standing == "vested"


def test_a_demoted_king_stays_in_the_lineage_and_leaves_the_main_line():
    throne = succession.demote(two_kings(), 11, RULES.crown)
    assert [one.standing for one in throne.lineage] == ["dethroned", "restored", "demoted"]
    assert [one.tree for one in throne.main_line] == [KING, tree(8)]
    assert throne.king.restored_round == 11
    assert throne.lineage[2].demoted_round == 11


def test_a_restored_king_goes_on_with_his_pool_and_the_error_budget_he_had_spent():
    throne = succession.demote(two_kings(), 11, RULES.crown)
    assert (throne.pool, throne.entries) == (POOL, 3)
    assert throne.king.crowned_round == 3


def test_a_contest_that_the_crown_broke_off_may_enter_again_and_one_that_was_decided_may_not():
    assert succession.demote(two_kings(), 11, RULES.crown).entered == {tree(50)}


def test_a_king_dethroned_on_probation_and_restored_is_on_probation_again_and_goes_on_with_it():
    throne = succession.crown(Throne.genesis(KING), reign(8, 3), POOL)
    throne = succession.tried(throne, trial(2), (), RULES.crown)
    throne = succession.demote(succession.crown(throne, reign(9, 4), ()), 5, RULES.crown)
    assert (throne.king.tree, throne.king.standing, len(throne.king.trial)) == (tree(8), "probation", 2)


def test_both_kings_may_fall_and_the_genesis_recipe_cannot():
    throne = succession.demote(succession.demote(two_kings(), 11, RULES.crown), 12, RULES.crown)
    assert [one.standing for one in throne.lineage] == ["restored", "demoted", "demoted"]
    assert throne.king.tree == KING
    with pytest.raises(CorruptStateError, match="OPS-HOLD"):
        succession.demotion(throne, CAUSE)
    with pytest.raises(CorruptStateError, match="OPS-HOLD"):
        succession.demote(throne, 13, RULES.crown)


def test_release_tags_count_crowns_and_restorations_after_them():
    throne = two_kings()
    assert succession.demotion(throne, CAUSE).tag == "recipe-v1.2.1"
    throne = after(succession.demote(throne, 11, RULES.crown), 11)
    assert succession.demotion(throne, CAUSE).tag == "recipe-v1.2.2"
    assert succession.crowned_tag(throne) == "recipe-v1.3.0"
    throne = after(succession.crown(throne, reign(10, 12), ()), 12)
    assert succession.demotion(throne, CAUSE).tag == "recipe-v1.3.1"


@settings(deadline=None)
@given(st.lists(st.sampled_from(["crown", "demote", "run"]), max_size=30))
def test_exactly_one_king_reigns_whatever_happens(moves: list[str]):
    throne = replace(Throne.genesis(KING), pool=POOL)
    for index, move in enumerate(moves):
        if move == "crown":
            throne = succession.crown(throne, reign(index % 40 + 10, index), ())
        elif move == "run":
            throne = succession.tried(throne, trial(3), (), RULES.crown)
        elif throne.former is not None:
            throne = succession.demote(throne, index, RULES.crown)
        throne = after(throne, index)
        assert sum(one.standing in REIGNING for one in throne.lineage) == 1
        assert throne.main_line[0].tree == KING
        assert throne.main_line[-1] == throne.king
        assert all(one.standing == "dethroned" for one in throne.main_line[:-1])
        assert throne.high_water_bpb >= 0
        shares = weights(throne, RULES, owner="owner", registered=frozenset({"owner", *(one.hotkey for one in throne.lineage)}))
        assert set(shares) <= {"owner", *(one.hotkey for one in throne.main_line)}


def test_the_high_water_mark_forgets_what_was_demoted():
    throne = succession.tried(succession.crown(Throne.genesis(KING), reign(8, 3), ()), trial(8, 0.3), (), RULES.crown)
    throne = succession.tried(succession.crown(throne, reign(9, 5), ()), trial(4, -0.1), (), RULES.crown)
    assert throne.high_water_bpb == pytest.approx(0.3)
    throne = succession.tried(throne, trial(4, 0.4), (), RULES.crown)
    assert throne.high_water_bpb == pytest.approx(0.45)
    assert succession.demote(throne, 6, RULES.crown).high_water_bpb == pytest.approx(0.3)


def test_of_two_contenders_of_a_crown_that_is_taken_back_the_loser_may_enter_again_and_the_winner_may_not():
    throne = contest_to("proof", {1: 0.15, 2: 0.25})
    crowned = one_round(throne, [case(1, "proof"), case(2, "proof")], stage_runs("proof", {1: 0.15, 2: 0.25}, range(20, 24))).throne
    assert crowned.king.tree == tree(2)
    restored = succession.demote(crowned, 9, RULES.crown)
    assert tree(2) in restored.entered
    assert tree(1) not in restored.entered
    assert restored.entries == 2


def paid(throne: Throne) -> dict[str, int]:
    registered = frozenset({"owner", "hot8", "hot9"})
    return dict(weights(throne, RULES, owner="owner", registered=registered))


def test_the_demoted_king_is_paid_nothing_and_the_restored_one_what_he_would_have_had():
    throne = two_kings()
    assert paid(throne)["hot9"] > 0
    uninterrupted = succession.tried(succession.crown(Throne.genesis(KING), reign(8, 3), ()), trial(8), (), RULES.crown)
    assert paid(after(succession.demote(throne, 11, RULES.crown), 11)) == paid(after(uninterrupted, 11)) == {"hot8": 65535}


def test_what_was_not_vested_is_the_former_kings_and_stays_his():
    throne = two_kings()
    shares = paid(throne)
    assert shares["hot8"] > 2.9 * shares["hot9"]


def test_royalty_follows_gains_after_the_crown_and_not_the_luck_of_the_crown():
    lucky = replace(reign(9, 9), gain_bpb=5.0)
    throne = succession.tried(succession.crown(Throne.genesis(KING), reign(8, 3), ()), trial(8, 0.3), (), RULES.crown)
    throne = succession.tried(succession.crown(throne, lucky, ()), trial(8, 0.1), (), RULES.crown)
    late = paid(after(throne, 500))
    assert late["hot8"] == pytest.approx(3 * late["hot9"], rel=0.05)


def on_probation(runs: int = 0) -> Throne:
    throne = succession.crown(replace(Throne.genesis(KING), pool=POOL), reign(8, 0), ())
    return after(replace(succession.tried(throne, trial(runs), (), RULES.crown), pool=OWN), 0)


def beside(gains: list[float | None], former: float | None = 2.5) -> list[Measurement]:
    """Return a round's runs on probation; the king is so much better than the king before."""
    kings = [run("king", "probation", tree(8), 30 + index, None if gain is None else 2.5 - gain) for index, gain in enumerate(gains)]
    return kings + [run("former", "probation", KING, 30 + index, former) for index in range(len(gains))]


def doubted(seed: int, king: float | None, reference: float | None) -> list[Measurement]:
    return [
        run("king", "repeat", tree(8), seed, king),
        run("reference", "canary", KING, seed, reference),
        run("reference", "repeat", KING, seed, reference),
    ]


def worse(count: int = 6) -> list[float | None]:
    return [-0.3 + 0.01 * (index % 3) for index in range(count)]


def test_a_king_that_was_lucky_is_rolled_back_by_his_runs_after_the_crown():
    decision = one_round(on_probation(), [], beside(worse()))
    assert decision.demotion is not None
    assert (decision.demotion.tree, decision.demotion.restored, decision.demotion.reason) == (tree(8), KING, "STA-ROLLBACK")
    assert set(decision.demotion.evidence) == {item.digest() for item in beside(worse())}
    assert decision.throne.king.tree == KING
    assert decision.throne.king.standing == "restored"


def test_the_runs_on_probation_add_up_over_rounds():
    throne = on_probation()
    for start in range(0, 6, 2):
        decision = one_round(throne, [], beside(worse()[start : start + 2]))
        throne = decision.throne
    assert decision.demotion is not None
    assert len(decision.demotion.evidence) == 12


def compared(stage: str, *, failing: bool = False) -> Decision:
    """Decide a round in which the king falls while somebody stands in ``stage`` against him."""
    gain = None if failing else 0.3
    throne = replace(contest_to("proof", {1: 0.2}), lineage=on_probation().lineage, pool=OWN) if stage == "proof" else on_probation()
    runs = [
        item.model_copy(update={"tree": tree(8)}) if item.role == "king" else item for item in stage_runs(stage, {1: gain}, range(20, 24))
    ]
    if stage == "screen":
        runs = [item for item in runs if item.seed == 20]
    return one_round(throne, [case(1, stage)], [*runs, *beside(worse())])


@pytest.mark.parametrize("stage", ["screen", "proof"])
def test_who_was_compared_with_a_demoted_king_is_neither_dropped_nor_crowned_and_nothing_is_held_against_him(stage: str):
    decision = compared(stage)
    assert decision.demotion is not None
    assert [(one.state, one.reason) for one in decision.outcomes] == [("void", "STA-DEMOTED")]
    assert decision.crown is None
    assert decision.throne.contests == ()
    assert tree(1) not in decision.throne.entered


def test_a_run_that_failed_by_itself_is_refused_whoever_the_king_was():
    assert [(one.state, one.reason) for one in compared("screen", failing=True).outcomes] == [("rejected", "FRD-CLAIM")]


def test_a_king_that_fails_where_the_reference_trains_is_demoted():
    """T40: before there was a reference, one bomb in a king held every round."""
    runs = [run("king", "pool", tree(8), 77, None), *doubted(77, None, 2.9), *beside([0.1])]
    decision = one_round(on_probation(), [], runs)
    assert decision.demotion is not None
    assert decision.demotion.reason == "RUN-KING"
    assert len(decision.demotion.evidence) == 4


def test_a_king_that_fails_where_the_reference_fails_too_holds_the_round():
    runs = [run("king", "pool", tree(8), 77, None), *doubted(77, None, None), *beside([0.1])]
    with pytest.raises(CorruptStateError, match="OPS-HOLD"):
        one_round(on_probation(), [], runs)


def test_without_the_reference_a_failed_king_is_not_demoted_but_the_round_is_held():
    runs = [run("king", "pool", tree(8), 77, None), *beside([0.1])]
    with pytest.raises(CorruptStateError, match="OPS-HOLD"):
        one_round(on_probation(), [], runs)


def test_a_run_that_goes_well_when_it_is_repeated_counts_with_that_value():
    runs = [run("king", "pool", tree(8), 77, None), *doubted(77, 2.4, 2.9), *beside([0.1])]
    decision = one_round(on_probation(), [], runs)
    assert decision.demotion is None
    assert decision.throne.pool[-1].val_bpb == pytest.approx(2.4) or any(
        one.seed == 77 and one.val_bpb == 2.4 for one in decision.throne.pool
    )


def test_one_failure_on_probation_is_counted_and_the_second_demotes():
    first = one_round(on_probation(), [], [*beside([None, 0.1]), *doubted(30, None, 2.9)])
    assert first.demotion is None
    again = [item.model_copy(update={"seed": item.seed + 10}) for item in [*beside([None, 0.1]), *doubted(30, None, 2.9)]]
    second = one_round(first.throne, [], again)
    assert second.demotion is not None
    assert second.demotion.reason == "STA-UNSTABLE"


def test_a_king_whose_run_no_longer_gives_the_same_weights_is_demoted():
    throne = on_probation()
    throne = replace(throne, pool=(*throne.pool, KingRun(seed=88, val_bpb=2.4, weights=WEIGHTS, environment=ENVIRONMENT)))
    runs = [run("king", "canary", tree(8), 88, 2.4), *doubted(88, 2.4, 2.9), *beside([0.1])]
    decision = one_round(throne, [], runs)
    assert decision.demotion is not None
    assert "other weights" in decision.demotion.detail
    assert one_round(throne, [], beside([0.1])).demotion is None


@pytest.mark.parametrize("role", ["former", "reference"])
def test_runs_of_another_tree_cannot_pass_for_the_former_king_or_the_reference(role: str):
    """An operator lets something better run as the king before."""
    runs = [item.model_copy(update={"tree": tree(33)}) if item.role == role else item for item in [*beside([0.1]), *doubted(30, None, 2.9)]]
    with pytest.raises(CorruptStateError, match=f"OPS-HOLD: {role} run"):
        one_round(on_probation(), [], runs)


def test_leaving_out_the_former_kings_run_holds_the_round():
    """An operator who likes the king shows only his side."""
    with pytest.raises(CorruptStateError, match="OPS-HOLD"):
        one_round(on_probation(), [], beside(worse())[:-1])


BEACONS = Beacons(one=bytes(32), two=B2, previous_two=None)


def test_a_round_runs_the_king_on_probation_beside_the_king_before_on_the_same_seeds():
    found = needs(replace(on_probation(), pool=()), [], BEACONS, RULES, round_index=1)
    kings = [need.seed for need in found if (need.role, need.stage) == ("king", "probation")]
    assert kings == [need.seed for need in found if (need.role, need.stage, need.tree) == ("former", "probation", KING)]
    assert len(kings) == RULES.canary.probation_per_round
    assert len([need for need in found if need.stage == "pool"]) == RULES.crown.pool_runs - len(kings)


@pytest.mark.parametrize(("made", "left"), [(0, 2), (6, 2), (7, 1), (8, 0)])
def test_a_probation_ends_with_its_runs(made: int, left: int):
    assert len(probation_seeds(on_probation(made), RULES, beacon_two=B2, round_index=1)) == left


def test_which_run_is_trained_again_is_drawn_and_only_runs_with_known_weights_are():
    stored = tuple(KingRun(seed=500 + index, val_bpb=2.5, weights=WEIGHTS, environment=ENVIRONMENT) for index in range(20))
    throne = replace(on_probation(), pool=(*POOL, *stored))
    drawn = {canary_seeds(throne, RULES, beacon_two=bytes([index]) * 32, round_index=4) for index in range(30)}
    assert len(drawn) > 5
    assert all(seed[0] >= 500 for seed in drawn)
    assert canary_seeds(throne, RULES, beacon_two=B2, round_index=5) == ()
    assert canary_seeds(on_probation(), RULES, beacon_two=B2, round_index=4) == ()


def test_a_doubt_asks_for_the_king_again_and_the_reference_twice_and_no_more_once_it_is_settled():
    throne, failing = on_probation(), [run("king", "pool", tree(8), seed, None) for seed in (70, 71)]
    asked = follow_ups(throne, failing, RULES)
    assert [(need.role, need.stage, need.seed) for need in asked[:3]] == [
        ("king", "repeat", 70),
        ("reference", "canary", 70),
        ("reference", "repeat", 70),
    ]
    assert len(asked) == 3
    assert len(follow_ups(throne, [*failing, *doubted(70, None, 2.9)], RULES)) == 3
    assert len(follow_ups(throne, [*failing, *doubted(70, 2.4, 2.9)], RULES)) == 6
    assert follow_ups(replace(Throne.genesis(KING), pool=POOL), [run("king", "pool", KING, 70, None)], RULES) == ()
