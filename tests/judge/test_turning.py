"""A rotation under two kings: who is demoted by new documents, what probation goes on with, and what is left of a king restored."""

from dataclasses import replace

import pytest

from ralph.errors import CorruptStateError
from ralph.judge import succession
from ralph.judge.decide import Decision
from ralph.judge.plan import Need, needs
from ralph.judge.rotation import canary_runs, ended, kept_runs
from ralph.protocol.lineage import Contest, KingRun, PairedRun, Reign, Throne, TrialRun
from ralph.protocol.measurement import Failure, Measurement
from ralph.protocol.pool import Subset
from ralph.protocol.record import CrownRow, DemotionRow, Record
from tests.judge.test_decide import ENVIRONMENT, KING, RULES, run, tree
from tests.judge.test_rotation import BEACONS, CONFIRM, HARDER, HIDDEN, SHORT, one_round
from tests.judge.test_succession import OWN, doubted, on_probation

SIGMA = RULES.crown.sigma
CROWNING = range(20, 24)
"""Seeds of the proof that crowned the king."""


def runs(seeds: range, value: float, *, environment: bytes | None = ENVIRONMENT) -> tuple[KingRun, ...]:
    return tuple(
        KingRun(seed=seed, val_bpb=value + 0.005 * (seed % 3 - 1), weights=bytes([seed]) * 32, environment=environment) for seed in seeds
    )


def vested() -> Throne:
    """Return the last state of rotation 0: king 1 has vested over the genesis recipe; at his crown he looked better than ever after."""
    before = replace(Throne.genesis(KING), pool=(*runs(range(100, 120), 2.5), *runs(CROWNING, 2.6)), round_index=0)
    reign = Reign(tree=tree(1), hotkey="a", crowned_round=0, standing="probation", tag="recipe-v1.1.0")
    throne = succession.crown(before, reign, runs(CROWNING, 2.2, environment=None))
    beside = range(130, 138)
    trial = [TrialRun(seed=seed, king=2.5, former=2.5, evidence=(bytes(32), bytes(32))) for seed in beside]
    throne = succession.tried(throne, trial, runs(beside, 2.5), RULES.crown)
    return replace(throne, round_index=3, pool=(*throne.pool, *runs(beside, 2.5), *runs(range(140, 148), 2.5)))


def rescored(need: Need, throne: Throne, loss: float) -> Measurement:
    """Return a kept run on the documents of rotation 1, on which the king's lose so much more."""
    known = {(throne.king.tree, one.seed): one.val_bpb + loss for one in throne.pool}
    if throne.former is not None:
        known |= {(throne.former.tree, one.seed): one.val_bpb for one in throne.former_runs}
    made = run(need.role, "rescore", need.tree, need.seed, known[need.tree, need.seed] + HARDER, round_index=4)
    return made.model_copy(update={"subset": need.subset, "weights": need.weights})


def again(throne: Throne, loss: float = 0.0) -> list[Measurement]:
    wanted = needs(throne, [], BEACONS, SHORT, round_index=throne.round_index + 1)
    return [rescored(need, throne, loss) for need in wanted if need.stage == "rescore"]


def turned(loss: float) -> Decision:
    throne = vested()
    return one_round(throne, [], again(throne, loss))


def test_a_king_who_loses_on_new_documents_is_demoted_and_the_one_before_reigns_with_his_runs_on_them():
    decision = turned(2 * SIGMA)
    assert decision.demotion is not None
    assert (decision.demotion.tree, decision.demotion.restored, decision.demotion.reason) == (tree(1), KING, "STA-CANARY")
    seen = {one.digest(): one for one in again(vested(), 2 * SIGMA)}
    evidence = [seen[name] for name in decision.demotion.evidence]
    assert {(one.role, one.stage, one.subset) for one in evidence} == {("king", "rescore", CONFIRM), ("former", "rescore", CONFIRM)}
    assert (decision.throne.rotation, decision.throne.king.standing) == (1, "restored")
    assert len(decision.throne.pool) >= SHORT.canary.rotation_runs
    assert all(one.val_bpb > 2.5 + HARDER - 0.1 for one in decision.throne.pool)


@pytest.mark.parametrize("loss", [-SIGMA, 0.0, 0.5 * SIGMA])
def test_a_king_who_is_as_good_on_new_documents_or_loses_little_stays(loss: float):
    decision = turned(loss)
    assert decision.demotion is None
    assert decision.throne.king.tree == tree(1)
    assert decision.throne.rotation == 1


def test_between_rotations_no_kept_run_demotes():
    throne = replace(vested(), round_index=2)
    assert kept_runs(throne, SHORT, 3) == ()
    with pytest.raises(CorruptStateError, match="without being due"):
        one_round(throne, [], again(vested(), 2 * SIGMA))


@pytest.mark.parametrize("shift", [-5.0, 5.0])
def test_the_runs_that_crowned_him_neither_save_nor_condemn_a_king(shift: float):
    """Who was lucky with seeds at his crown is lucky with them on any documents."""
    throne, loss = vested(), 2 * SIGMA if shift < 0 else 0.0
    moved = [
        one.model_copy(update={"score": one.score and one.score.model_copy(update={"val_bpb": one.score.val_bpb + shift})})
        if one.seed in CROWNING and one.role == "king"
        else one
        for one in again(throne, loss)
    ]
    assert (one_round(throne, [], moved).demotion is None) == (shift > 0)


def test_of_the_king_before_the_newest_runs_are_kept_and_the_rest_is_forgotten():
    throne = vested()
    kept = canary_runs(throne, SHORT)
    honest = [one.seed for one in kept if one.seed not in CROWNING]
    assert honest == [*range(112, 120), *range(130, 138)]
    assert len([one for one in kept if one.seed in CROWNING]) == HIDDEN.watched_runs
    assert [one.seed for one in turned(0.0).throne.former_runs] == [one.seed for one in kept]


CHEATS = {
    "left out": (None, "kept runs were not scored again"),
    "other weights": ({"weights": bytes([9]) * 32}, "other weights than were kept"),
    "trained anew": ({"executed": True}, "without being due"),
    "in the king's name": ({"role": "king"}, "without being due"),
    "on the old documents": ({"subset": Subset(shard="confirm", rotation=0)}, "without being due"),
}


@pytest.mark.parametrize(("change", "words"), CHEATS.values(), ids=CHEATS)
def test_an_operator_who_makes_the_king_before_look_better_or_worse_is_held(change: dict[str, object] | None, words: str):
    throne = vested()
    whole = again(throne)
    place = next(index for index, one in enumerate(whole) if one.role == "former")
    whole[place : place + 1] = [] if change is None else [whole[place].model_copy(update=change)]
    with pytest.raises(CorruptStateError, match=words) as caught:
        one_round(throne, [], whole)
    assert caught.value.code == "OPS-HOLD"


def test_a_king_before_who_fails_on_new_documents_holds_nobody_up():
    throne = vested()
    broken = Failure(reason="FRD-CLAIM", detail="peeks")
    whole = [one.model_copy(update={"score": None, "failure": broken}) if one.role == "former" else one for one in again(throne, 2.0)]
    decision = one_round(throne, [], whole)
    assert decision.demotion is None
    assert decision.throne.former_runs == ()
    assert decision.watch == ()


def failing(whole: list[Measurement], role: str, count: int, shard: str = "confirm") -> list[Measurement]:
    """Let the first ``count`` kept runs of a role fail on a shard."""
    chosen = [one for one in whole if (one.role, one.subset.shard) == (role, shard)][:count]
    broken = Failure(reason="RUN-CRASH", detail="a word that it waits for")
    return [one.model_copy(update={"score": None, "weights": None, "failure": broken}) if one in chosen else one for one in whole]


def test_a_king_that_waits_for_a_word_in_new_documents_is_demoted_and_holds_nobody_up():
    """T40: his kept weights cannot be scored, so that no round could be decided any more, and he would be paid for ever."""
    whole = failing(again(vested()), "king", 99)
    decision = one_round(vested(), [], whole)
    assert decision.demotion is not None
    assert (decision.demotion.reason, decision.demotion.restored) == ("RUN-KING", KING)
    former = [one for one in whole if (one.role, one.subset) == ("former", CONFIRM)]
    assert {one.digest() for one in former} < set(decision.demotion.evidence) <= {one.digest() for one in whole}


@pytest.mark.parametrize(("kings", "formers"), [(1, 0), (99, 1), (99, 99)])
def test_one_failure_or_one_that_meets_the_king_before_as_well_holds_the_round(kings: int, formers: int):
    whole = failing(failing(again(vested()), "king", kings), "former", formers)
    with pytest.raises(CorruptStateError, match="of the king has no score on confirm-1") as caught:
        one_round(vested(), [], whole)
    assert caught.value.code == "OPS-HOLD"


def test_a_king_that_fails_beside_a_contest_in_the_filter_holds_the_round_instead_of_shortening_the_contest():
    beside = [PairedRun(seed=seed, challenger=2.4, king=2.5, challenger_weights=bytes(32), king_weights=bytes(32)) for seed in (60, 61)]
    running = Contest(
        announcement=bytes(32),
        hotkey="m",
        coldkey="c",
        tree=tree(5),
        normalised=tree(5),
        stage="filter",
        opened_round=1,
        runs=tuple(beside),
    )
    throne = replace(vested(), contests=(running,))
    screen = Subset(shard="screen", rotation=1)
    whole = again(vested())
    for role, of in (("king", tree(1)), ("challenger", tree(5))):
        made = [run(role, "rescore", of, seed, 2.5, round_index=4) for seed in (60, 61)]
        whole += [one.model_copy(update={"subset": screen}) for one in made]
    assert one_round(throne, [], whole).demotion is None
    with pytest.raises(CorruptStateError, match="of the king has no score on screen-1"):
        one_round(throne, [], failing(whole, "king", 1, "screen"))


def test_a_king_that_fails_on_what_decides_nothing_is_not_watched_and_holds_nobody_up():
    decision = one_round(vested(), [], failing(again(vested()), "king", 99, "audit"))
    assert (decision.demotion, decision.watch) == (None, ())


def trying(gain: float) -> Throne:
    """Return the last state of rotation 0 in the middle of a probation."""
    throne, seeds = on_probation(), range(30, 36)
    trial = [TrialRun(seed=seed, king=2.5 - gain, former=2.5, evidence=(bytes(32), bytes(32))) for seed in seeds]
    throne = succession.tried(throne, trial, runs(seeds, 2.5), RULES.crown)
    return replace(throne, round_index=3, pool=(*OWN, *runs(seeds, 2.5 - gain)))


def beside(loss: float) -> list[Measurement]:
    made = [run("king", "probation", tree(8), seed, 2.5 + loss + HARDER, round_index=4) for seed in (40, 41)]
    made += [run("former", "probation", KING, seed, 2.5 + HARDER, round_index=4) for seed in (40, 41)]
    return [one.model_copy(update={"subset": CONFIRM}) for one in made]


def test_a_probation_goes_on_over_a_rotation_with_all_its_runs_on_the_new_documents():
    throne = trying(0.1)
    decision = one_round(throne, [], [*again(throne), *beside(-0.1)])
    assert decision.demotion is None
    assert decision.throne.king.standing == "vested"
    assert [run.former > 2.5 + HARDER - 0.1 for run in decision.throne.king.trial] == [True] * 8
    assert decision.throne.king.published_gain_bpb == pytest.approx(0.1, abs=0.01)


def test_a_probation_is_lost_on_new_documents_and_its_evidence_is_what_was_scored_on_them():
    throne = trying(0.1)
    whole = [*again(throne, 0.3), *beside(0.2)]
    demotion = one_round(throne, [], whole).demotion
    assert demotion is not None
    assert demotion.reason == "STA-ROLLBACK"
    seen = {one.digest(): one for one in whole}
    assert {seen[name].subset for name in demotion.evidence} == {CONFIRM}
    assert len(demotion.evidence) == 16


def three_kings() -> Throne:
    """Return the last state of rotation 0: king 9 reigns over king 8, who was dethroned on probation over the genesis recipe."""
    reign = Reign(tree=tree(9), hotkey="b", crowned_round=1, standing="probation", tag="recipe-v1.2.0")
    return replace(succession.crown(replace(trying(0.1), round_index=1), reign, runs(range(50, 58), 2.3)), round_index=3)


def test_a_king_further_back_begins_a_new_pool_after_a_rotation():
    throne = three_kings()
    after = one_round(throne, [], again(throne)).throne
    assert [len(one.kept.pool) for one in after.lineage if one.kept is not None] == [0, len(canary_runs(throne, SHORT))]
    bottom = succession.demote(succession.demote(after, 5, RULES.crown), 6, RULES.crown)
    assert (bottom.king.tree, bottom.pool) == (KING, ())
    wanted = needs(replace(bottom, round_index=6), [], BEACONS, SHORT, round_index=7)
    assert [one.stage for one in wanted] == ["pool"] * RULES.crown.pool_runs
    assert {one.subset for one in wanted} == {CONFIRM}


def test_a_probation_that_was_open_goes_on_in_its_rotation_and_begins_anew_in_another():
    throne = three_kings()
    assert len(succession.demote(throne, 3, RULES.crown).king.trial) == 6
    later = succession.demote(one_round(throne, [], again(throne)).throne, 5, RULES.crown)
    assert (later.king.tree, later.king.standing, later.king.trial) == (tree(8), "probation", ())


def test_a_doubt_is_settled_on_the_documents_of_the_doubtful_run():
    throne = on_probation()
    failed = run("king", "screen", tree(8), 77, None)
    answers = [one.model_copy(update={"subset": failed.subset}) for one in doubted(77, None, 2.9)]
    trial = [run("king", "probation", tree(8), 30, 2.4), run("former", "probation", KING, 30, 2.5)]
    assert one_round(throne, [], [failed, *answers, *trial], rules=RULES).demotion is not None
    with pytest.raises(CorruptStateError, match="was scored on documents confirm-0, not screen-0"):
        one_round(throne, [], [failed, *doubted(77, None, 2.9), *trial], rules=RULES)
    with pytest.raises(CorruptStateError, match="not those of a run of the king"):
        one_round(throne, [], [*answers, *trial], rules=RULES)


def account(round_index: int, *, crown: bool = False, demotion: bool = False) -> Record:
    """Return the fields of a Record that ``ended`` reads."""
    row = CrownRow.model_construct(sealed_documents=32) if crown else None
    return Record.model_construct(round=round_index, crown=row, demotion=DemotionRow.model_construct() if demotion else None)


def test_what_a_demoted_king_sealed_is_opened_with_the_rotation_of_his_fall_and_only_once():
    records = [account(index) for index in range(16)]
    records[1], records[5], records[9], records[13] = (
        account(1, crown=True),
        account(5, crown=True),
        account(9, demotion=True),
        account(13, crown=True),
    )
    sealed = {index: [one.key for one in ended(records, HIDDEN, index) if one.crown is not None] for index in (4, 8, 12, 16)}
    assert sealed == {4: [], 8: ["confirm-0-crown-1"], 12: ["confirm-1-crown-5"], 16: []}
