"""The decision of a round: what it needs, what it refuses, what it leaves to the next round."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.errors import CorruptStateError
from ralph.judge.decide import Decision, Sealed, decide, queue_order
from ralph.judge.rotation import stage_subset
from ralph.judge.weights import WEIGHT_SCALE, weights
from ralph.protocol.bundle import RunClaim
from ralph.protocol.lineage import KingRun, Reign, Standing, Throne, TrialRun
from ralph.protocol.measurement import Failure, GuardRow, Measurement, Role, Stage
from ralph.protocol.network import devnet_rules
from ralph.protocol.record import CaseRow, Refusal
from ralph.protocol.rules import Rules
from ralph.protocol.scoring_rules import TaskGuard
from tests.made import measurement, score

RULES = devnet_rules(genesis_tree=bytes(32), manifest=bytes(32), vocabulary=1024, hidden=bytes(32), sources=("code", "docs"))
KING = bytes(32)
B2 = bytes([9]) * 32
POOL = tuple(KingRun(seed=1000 + index, val_bpb=2.87 + 0.01 * ((index % 3) - 1), weights=bytes(32)) for index in range(8))
THRONE = replace(Throne.genesis(KING), round_index=0, pool=POOL)
ENVIRONMENT = bytes([7]) * 32
SEALED = Sealed(root=bytes([8]) * 32, documents=32)


def tree(name: int) -> bytes:
    return bytes([name]) * 32


def case(name: int, stage: str = "screen", *, refusal: Refusal | None = None, claims: tuple[RunClaim, ...] = ()) -> CaseRow:
    return CaseRow(
        hotkey=f"5hot{name}",
        coldkey=f"5cold{name}",
        announcement=tree(100 + name),
        parent=KING[:8],
        bundle=tree(50),
        tree=tree(name),
        normalised=tree(name),
        patch=None,
        hypothesis=None,
        environment=ENVIRONMENT,
        claims=claims,
        stage=stage,
        refusal=refusal,
    )


def run(role: Role, stage: Stage, of: bytes, seed: int, bpb: float | None, *, round_index: int = 1, root: bytes = bytes(32)) -> Measurement:
    return measurement(
        round=round_index,
        role=role,
        stage=stage,
        tree=of,
        seed=seed,
        executed=stage != "rescore" and (role != "challenger" or stage != "filter"),
        subset=stage_subset("pool" if stage in ("repeat", "rescore") else stage, 0),
        environment=ENVIRONMENT,
        transcript_root=root,
        score=None if bpb is None else score(bpb, cells=1),
        failure=Failure(reason="FRD-CLAIM", detail="peeks") if bpb is None else None,
    )


def one_round(throne: Throne, cases: list[CaseRow], measurements: list[Measurement], *, rules: Rules = RULES) -> Decision:
    return decide(
        throne, round_index=throne.round_index + 1, beacon_two=B2, cases=cases, measurements=measurements, sealed=SEALED, rules=rules
    )


def guards(runs: int, upper: float = 0.0) -> tuple[GuardRow, ...]:
    return tuple(
        GuardRow(kind="source", name=name, runs=runs, items=64, difference=upper - 0.01, upper=upper) for name in RULES.guards.sources
    )


def stage_runs(stage: Stage, names: dict[int, float | None], seeds: range, *, upper: float = 0.0) -> list[Measurement]:
    runs = [run("king", stage, KING, seed, 2.87 + 0.001 * (seed % 5)) for seed in seeds]
    for name, gain in names.items():
        runs += [run("challenger", stage, tree(name), seed, None if gain is None else 2.87 + 0.001 * (seed % 7) - gain) for seed in seeds]
        if stage == "proof":
            runs[-1] = runs[-1].model_copy(update={"guards": guards(seeds.stop - 20, upper)})
    return runs


def contest_to(stage: str, gains: dict[int, float]) -> Throne:
    """Return the state in which these names stand before ``stage``."""
    throne = one_round(THRONE, [case(name) for name in gains], stage_runs("screen", dict(gains), range(1))).throne
    if stage == "proof":
        throne = one_round(throne, [case(name, "filter") for name in gains], stage_runs("filter", dict(gains), range(10, 12))).throne
    assert len(throne.contests) == len(gains)
    return throne


def test_a_clear_gain_goes_from_screen_to_filter_to_proof_to_crown():
    throne = contest_to("proof", {1: 0.2})
    decision = one_round(throne, [case(1, "proof")], stage_runs("proof", {1: 0.2}, range(20, 24)))
    assert decision.outcomes[0].state == "crowned"
    assert decision.crown is not None
    assert decision.crown.tag == "recipe-v1.1.0"
    assert decision.throne.king.tree == tree(1)
    assert [entry.seed for entry in decision.throne.pool] == [20, 21, 22, 23]


def test_a_null_is_dropped_at_the_screen_as_noise():
    outcome = one_round(THRONE, [case(1)], stage_runs("screen", {1: 0.0}, range(1))).outcomes[0]
    assert (outcome.state, outcome.reason) == ("dropped", "STA-NOISE")


def test_harm_is_dropped_as_worse():
    outcome = one_round(THRONE, [case(1)], stage_runs("screen", {1: -0.3}, range(1))).outcomes[0]
    assert (outcome.state, outcome.reason) == ("dropped", "STA-WORSE")


def test_of_two_winners_the_larger_gain_is_crowned_and_the_other_is_told_to_rebase():
    throne = contest_to("proof", {1: 0.15, 2: 0.25})
    decision = one_round(throne, [case(1, "proof"), case(2, "proof")], stage_runs("proof", {1: 0.15, 2: 0.25}, range(20, 24)))
    states = {outcome.case: (outcome.state, outcome.reason) for outcome in decision.outcomes}
    assert states[case(2).case] == ("crowned", "STA-CROWN")
    assert states[case(1).case] == ("void", "INT-PARENT")
    assert decision.throne.contests == ()


MARGIN = RULES.guards.source_margin_sigmas * RULES.crown.sigma


def test_a_gain_that_may_hide_a_loss_in_one_source_waits_for_more_runs_and_is_no_crown_at_the_last_look():
    """T15: the mean says crown at both looks; a source may have lost more than the margin."""
    throne = contest_to("proof", {1: 0.2})
    first = one_round(throne, [case(1, "proof")], stage_runs("proof", {1: 0.2}, range(20, 24), upper=1.01 * MARGIN))
    assert (first.outcomes[0].state, first.outcomes[0].reason) == ("proving", "STA-CONTINUE")
    assert "docs" in first.outcomes[0].detail
    last = one_round(first.throne, [case(1, "proof")], stage_runs("proof", {1: 0.2}, range(24, 28), upper=1.01 * MARGIN))
    assert (last.outcomes[0].state, last.outcomes[0].reason, last.crown) == ("dropped", "STA-REGRESS", None)
    safe = one_round(first.throne, [case(1, "proof")], stage_runs("proof", {1: 0.2}, range(24, 28), upper=0.99 * MARGIN))
    assert safe.outcomes[0].state == "crowned"


def with_tasks(labels: tuple[str, ...]) -> Rules:
    """Return Rules that guard tasks only."""
    tasks = TaskGuard(manifest=bytes(32), tasks=labels, items=100)
    return RULES.model_copy(update={"guards": RULES.guards.model_copy(update={"sources": (), "tasks": tasks})})


def task_rows(labels: tuple[str, ...], *, answers: float, gold: float) -> tuple[GuardRow, ...]:
    row = lambda kind, name, upper: GuardRow(kind=kind, name=name, runs=4, items=100, difference=upper / 2, upper=upper)  # noqa: E731
    return tuple(row(kind, name, upper) for name in labels for kind, upper in (("answers", answers), ("gold", gold)))


@pytest.mark.parametrize(
    ("answers", "gold", "state", "named"),
    [
        (0.099, 0.24, "crowned", ()),
        (0.101, 0.24, "proving", ("answers to copa", "answers to piqa")),
        (0.099, 0.26, "proving", ("right answers of copa", "right answers of piqa")),
    ],
)
def test_a_gain_that_may_hide_a_lost_task_is_no_crown_and_the_task_is_named(answers: float, gold: float, state: str, named) -> None:
    """T15: both the right answers and the loss on them are guarded, each with the margin of the Rules."""
    labels = ("copa", "piqa")
    throne = contest_to("proof", {1: 0.2})
    runs = stage_runs("proof", {1: 0.2}, range(20, 24))
    runs[-1] = runs[-1].model_copy(update={"guards": task_rows(labels, answers=answers, gold=gold)})
    outcome = one_round(throne, [case(1, "proof")], runs, rules=with_tasks(labels)).outcomes[0]
    assert outcome.state == state
    assert all(name in outcome.detail for name in named)


def test_an_outcome_names_a_few_of_very_many_lost_tasks() -> None:
    labels = tuple(f"a_task_with_quite_a_long_name_{number}" for number in range(22))
    throne = contest_to("proof", {1: 0.2})
    runs = stage_runs("proof", {1: 0.2}, range(20, 24))
    runs[-1] = runs[-1].model_copy(update={"guards": task_rows(labels, answers=0.5, gold=2.0)})
    outcome = one_round(throne, [case(1, "proof")], runs, rules=with_tasks(labels)).outcomes[0]
    assert "and 38 more" in outcome.detail


@pytest.mark.parametrize("wrong", [(), guards(4)[:1], guards(3), (*guards(4), *guards(4))])
def test_without_the_guards_of_all_proof_runs_the_round_is_held(wrong):
    throne = contest_to("proof", {1: 0.2})
    runs = stage_runs("proof", {1: 0.2}, range(20, 24))
    runs[-1] = runs[-1].model_copy(update={"guards": wrong})
    with pytest.raises(CorruptStateError, match="OPS-HOLD"):
        one_round(throne, [case(1, "proof")], runs)


def test_entering_the_proof_spends_alpha_for_everyone_after():
    throne = contest_to("proof", {1: 0.2, 2: 0.2})
    assert throne.entries == 2
    assert sorted(contest.entry for contest in throne.contests) == [1, 2]


def test_a_failed_run_is_the_patchs_doing_and_ends_its_case():
    outcome = one_round(THRONE, [case(1)], stage_runs("screen", {1: None}, range(1))).outcomes[0]
    assert (outcome.state, outcome.reason) == ("rejected", "FRD-CLAIM")


def claim(root: bytes) -> RunClaim:
    return RunClaim(
        rung="C1",
        seed=0,
        steps=1,
        batch_rows=1,
        sequence=1,
        tokens=1,
        parameters=1,
        transcript_root=root,
        segments_root=bytes(32),
        weights=bytes(32),
        final_loss_nats=1.0,
    )


def test_a_claim_that_does_not_repeat_is_a_replay_fraud():
    outcome = one_round(THRONE, [case(1, claims=(claim(tree(5)),))], stage_runs("screen", {1: 0.2}, range(1))).outcomes[0]
    assert (outcome.state, outcome.reason) == ("rejected", "FRD-REPLAY")


def test_on_another_stack_a_different_transcript_accuses_nobody():
    other = case(1, claims=(claim(tree(5)),)).model_copy(update={"environment": tree(8)})
    assert one_round(THRONE, [other], stage_runs("screen", {1: 0.2}, range(1))).outcomes[0].state == "screened"


@pytest.mark.parametrize(
    ("code", "state"),
    [("INT-DUP", "rejected"), ("INT-ABSENT", "absent"), ("INT-PARENT", "void"), ("OPS-INFRA", "deferred"), ("FRD-CHAIN", "rejected")],
)
def test_a_refused_case_leaves_one_row_with_its_reason(code, state):
    outcome = one_round(THRONE, [case(1, refusal=Refusal(gate="g", reason=code, detail="d"))], []).outcomes[0]
    assert (outcome.state, outcome.reason) == (state, code)


def test_a_missing_king_run_holds_the_round_instead_of_guessing():
    runs = [item for item in stage_runs("screen", {1: 0.2}, range(1)) if item.role == "challenger"]
    with pytest.raises(CorruptStateError, match="OPS-HOLD"):
        one_round(THRONE, [case(1)], runs)


def test_a_failed_king_run_holds_the_round():
    runs = [*stage_runs("screen", {1: 0.2}, range(1)), run("king", "screen", KING, 77, None)]
    with pytest.raises(CorruptStateError, match="OPS-HOLD"):
        one_round(THRONE, [case(1)], runs)


def test_a_short_pool_holds_the_round():
    with pytest.raises(CorruptStateError, match="OPS-HOLD"):
        one_round(replace(THRONE, pool=POOL[:7]), [case(1)], stage_runs("screen", {1: 0.2}, range(1)))


def test_rounds_cannot_be_skipped_or_repeated():
    for wrong in (0, 2):
        with pytest.raises(CorruptStateError):
            decide(THRONE, round_index=wrong, beacon_two=B2, cases=[], measurements=[], sealed=SEALED, rules=RULES)


@given(st.permutations(range(6)))
def test_the_order_of_cases_changes_nothing(order):
    cases = [case(name) for name in range(1, 7)]
    runs = stage_runs("screen", {name: 0.05 * name - 0.1 for name in range(1, 7)}, range(1))
    assert one_round(THRONE, [cases[index] for index in order], runs) == one_round(THRONE, cases, runs)


def test_the_queue_follows_the_beacon_and_not_the_announcement():
    cases = [case(name) for name in range(1, 30)]
    assert queue_order(cases, B2) != queue_order(cases, bytes(32))
    assert queue_order(cases, B2) == queue_order(list(reversed(cases)), B2)


def trial(gain: float) -> tuple[TrialRun, ...]:
    return tuple(TrialRun(seed=seed, king=2.5 - gain, former=2.5, evidence=(bytes(32), bytes(32))) for seed in range(2))


def reigning(rounds: int, standing: Standing = "vested") -> Throne:
    lineage = (
        *THRONE.lineage,
        Reign(tree=tree(1), hotkey="a", crowned_round=2, parent=0, standing="dethroned", trial=trial(0.3)),
        Reign(tree=tree(2), hotkey="b", crowned_round=5, parent=1, standing=standing, trial=trial(0.1)),
    )
    return replace(THRONE, lineage=lineage, round_index=5 + rounds)


def test_the_genesis_recipe_earns_for_the_owner():
    assert weights(THRONE, RULES, owner="o", registered=frozenset("o")) == {"o": WEIGHT_SCALE}


def test_a_new_king_earns_a_quarter_until_his_probation_runs_are_in():
    early = weights(reigning(0, "probation"), RULES, owner="o", registered=frozenset("oab"))
    late = weights(reigning(0), RULES, owner="o", registered=frozenset("oab"))
    assert early["a"] > early["b"]
    assert late["b"] > 0.9 * WEIGHT_SCALE * 0.9


def test_a_reign_decays_towards_the_lineage():
    shares = [weights(reigning(rounds), RULES, owner="o", registered=frozenset("oab"))["b"] for rounds in (0, 10, 50)]
    assert shares[0] > shares[1] > shares[2]


def test_hotkeys_that_left_are_dropped_and_the_rest_is_rescaled():
    assert weights(reigning(0), RULES, owner="o", registered=frozenset("b")) == {"b": WEIGHT_SCALE}


@given(st.integers(0, 200), st.sampled_from(["probation", "vested", "restored"]))
def test_weights_use_the_whole_scale(rounds, standing):
    assert sum(weights(reigning(rounds, standing), RULES, owner="o", registered=frozenset("oab")).values()) == WEIGHT_SCALE
