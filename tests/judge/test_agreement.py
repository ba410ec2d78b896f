"""Two sub-pools agree about a challenger or his crown is held: calibrated over documents, and never guessed."""

from dataclasses import replace

import numpy as np
import pytest

from ralph.errors import CorruptStateError
from ralph.judge.agreement import PoolEstimate, agreement, document_error, pool_estimates
from ralph.judge.decide import decide
from ralph.protocol.measurement import Measurement
from tests.judge.test_decide import B2, RULES, SEALED, case, contest_to, stage_runs, tree

LEVEL = RULES.hidden.agreement_level
SEEDS = range(4)


def pool(generator: np.random.Generator, *, documents: int, effect: float = 0.0, runs: np.ndarray) -> PoolEstimate:
    """Draw a sub-pool: documents differ in size and in what the challenger gains on them, runs move all of them together."""
    weight = generator.gamma(2.0, 50.0, documents)
    own = generator.normal(-0.05, 0.2, documents)
    difference = weight * (effect + own + runs[:, None] + generator.normal(0, 0.02, (len(runs), documents)))
    values = difference.sum(axis=1) / weight.sum()
    pairs = tuple(zip(SEEDS, values.tolist(), strict=True))
    return PoolEstimate(executor="5V", differences=pairs, document_error=document_error(difference, weight))


def share(*, effect: float, times: int = 4000) -> float:
    """Return how often two sub-pools of different size disagree where one sees ``effect`` more."""
    generator, held = np.random.default_rng(5), 0
    for _ in range(times):
        runs = generator.normal(0, 0.02, len(SEEDS))
        first, second = pool(generator, documents=150, runs=runs), pool(generator, documents=300, effect=effect, runs=runs)
        held += not agreement(first, second, level=LEVEL).holds
    return held / times


def test_honest_sub_pools_disagree_as_rarely_as_the_rules_say():
    """4 of 4000 are expected; twelve or more happen once in a thousand."""
    assert share(effect=0.0) < 12 / 4000


def test_a_lie_of_a_few_document_errors_is_seen():
    """The documents alone give the gap an error of 0.025 bpb here: six of them are nearly always seen, two mostly not."""
    assert share(effect=0.15, times=500) > 0.9
    assert share(effect=0.05, times=500) < 0.5


def test_a_test_over_runs_alone_would_accuse_honest_pools():
    """The reason for errors over documents: between the same runs on two pools there is almost no scatter."""
    generator, accused = np.random.default_rng(6), 0
    for _ in range(200):
        runs = generator.normal(0, 0.02, len(SEEDS))
        pairs = [pool(generator, documents=150, runs=runs) for _ in range(2)]
        without = [replace(one, document_error=0.0) for one in pairs]
        assert agreement(*pairs, level=LEVEL).standard_error_bpb > agreement(*without, level=LEVEL).standard_error_bpb
        accused += not agreement(*without, level=LEVEL).holds
    assert accused > 150


def test_the_error_over_documents_is_that_of_new_documents():
    """What ``document_error`` says of one pool is what means of many pools scatter by."""
    generator = np.random.default_rng(7)
    runs = np.zeros(len(SEEDS))
    made = [pool(generator, documents=200, runs=runs) for _ in range(1500)]
    means = [np.mean([value for _, value in one.differences]) for one in made]
    assert np.std(means) == pytest.approx(np.mean([one.document_error for one in made]), rel=0.08)


def test_runs_that_are_no_pairs_count_on_both_sides():
    one = PoolEstimate(executor="a", differences=((1, 0.0), (2, 0.2)), document_error=0.0)
    other = replace(one, differences=((3, 0.0), (4, 0.2)))
    assert agreement(one, one, level=LEVEL).standard_error_bpb == 0.0
    assert agreement(one, other, level=LEVEL).standard_error_bpb == pytest.approx(0.02**0.5)


@pytest.mark.parametrize("gap", [float("inf"), float("nan"), 1.0])
def test_what_is_not_finite_or_has_no_error_never_agrees(gap):
    one = PoolEstimate(executor="a", differences=((1, 0.0),), document_error=0.0)
    assert not agreement(one, replace(one, differences=((1, gap),)), level=LEVEL).holds


@pytest.mark.parametrize("shape", [(2, 1), (0, 5), (2, 0)])
def test_no_error_is_made_up_where_there_is_none(shape):
    with pytest.raises(ValueError, match="no error over"):
        document_error(np.zeros(shape), np.ones(shape[1]))


def proven(gain: float, executor: str, *, error: float | None = 0.01) -> list[Measurement]:
    """Return the proof runs of tree 1 as an executor measured them on documents of its own."""
    runs = stage_runs("proof", {1: gain}, range(20, 24))
    runs[-1] = runs[-1].model_copy(update={"document_error": error})
    harder = 0.0 if executor == "5V" else 0.3
    scores = [one.score and one.score.model_copy(update={"val_bpb": one.score.val_bpb + harder}) for one in runs]
    return [one.model_copy(update={"executor": executor, "score": score}) for one, score in zip(runs, scores, strict=True)]


def crowned(measurements: list[Measurement]):
    throne = contest_to("proof", {1: 0.2})
    return decide(throne, round_index=3, beacon_two=B2, cases=[case(1, "proof")], measurements=measurements, sealed=SEALED, rules=RULES)


def test_the_record_says_on_how_many_sub_pools_a_king_was_measured():
    assert crowned(proven(0.2, "5V")).crown.sub_pools == 1
    assert crowned([*proven(0.2, "5V"), *proven(0.21, "5W")]).crown.sub_pools == 2


def test_sub_pools_that_disagree_hold_the_crown_and_crown_nobody():
    """The operator of the first pool wants his own miner to win; the second sees hardly any gain."""
    with pytest.raises(CorruptStateError, match="the sub-pools of 5V and 5W disagree about tree 0101") as caught:
        crowned([*proven(0.2, "5V"), *proven(0.05, "5W")])
    assert caught.value.code == "OPS-HOLD"


def test_a_second_sub_pool_that_does_not_say_how_sure_it_is_holds_the_crown():
    with pytest.raises(CorruptStateError, match="1 of 2 sub-pools say nothing") as caught:
        crowned([*proven(0.2, "5V"), *proven(0.2, "5W", error=None)])
    assert caught.value.code == "OPS-HOLD"


def test_only_the_first_executor_decides():
    first = crowned([*proven(0.2, "5V"), *proven(0.21, "5W")])
    alone = crowned(proven(0.2, "5V"))
    assert first.outcomes == alone.outcomes
    assert first.throne == alone.throne
    assert len(pool_estimates([*proven(0.2, "5V"), *proven(0.21, "5W")], tree(1))) == 2
