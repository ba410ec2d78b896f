"""When a king is demoted: by runs after his crown, by new documents, beside the reference; and how rarely without cause."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ralph.errors import CorruptStateError
from ralph.judge import canary
from ralph.judge.canary import Blame, blame, regressed, rollback, welch
from ralph.protocol.lineage import KingRun, TrialRun
from ralph.protocol.measurement import Failure, Measurement
from ralph.protocol.network import devnet_rules
from ralph.protocol.rules import CanaryRules
from tests.judge.test_decide import run

RULES = devnet_rules(genesis_tree=bytes(32), manifest=bytes(32), vocabulary=1024, hidden=bytes(32), sources=())
CANARY = RULES.canary
FULL = CANARY.model_copy(update={"probation_minimum": 16, "rotation_minimum": 16})
"""The design's numbers, at which figures are given."""
SIGMA = RULES.crown.sigma
EVIDENCE = (bytes([1]) * 32, bytes([2]) * 32)
KING, REFERENCE = bytes([5]) * 32, bytes(32)


def trial(kings: list[float | None], formers: list[float | None]) -> list[TrialRun]:
    pairs = zip(kings, formers, strict=True)
    return [TrialRun(seed=seed, king=king, former=former, evidence=EVIDENCE) for seed, (king, former) in enumerate(pairs)]


def spread(mean: float, count: int = 6) -> list[float]:
    return [mean + 0.01 * (index % 3 - 1) for index in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_is_welchs(seed: int):
    random = np.random.default_rng(seed)
    king, former = random.normal(2.5, 0.05, 9), random.normal(2.6, 0.01, 6)
    interval = stats.ttest_ind(former, king, equal_var=False, alternative="less").confidence_interval(0.99)
    seen = welch(king.tolist(), former.tolist(), 0.99)
    assert seen.mean == pytest.approx(former.mean() - king.mean())
    assert seen.upper == pytest.approx(interval.high, abs=1e-6)


def test_a_king_worse_than_the_one_before_is_rolled_back_and_a_better_one_is_not():
    worse = rollback(trial(spread(2.60), spread(2.50)), CANARY)
    assert worse is not None
    assert (worse.reason, worse.evidence) == ("STA-ROLLBACK", EVIDENCE * 6)
    assert rollback(trial(spread(2.40), spread(2.50)), CANARY) is None
    assert rollback(trial(spread(2.50), spread(2.50)), CANARY) is None


def test_before_there_are_enough_runs_a_side_nobody_is_rolled_back():
    assert rollback(trial(spread(2.9, 5), spread(2.5, 5)), CANARY) is None
    assert rollback(trial([*spread(2.9, 5), None], spread(2.5)), CANARY) is None


@pytest.mark.parametrize(
    ("failed", "before", "demoted"), [(1, 0, False), (2, 0, True), (2, 1, True), (2, 2, False), (3, 2, True), (0, 3, False)]
)
def test_failures_roll_back_from_the_second_on_where_the_king_before_failed_more_rarely(failed: int, before: int, demoted: bool):
    kings, formers = [None] * failed + [2.4] * (5 - failed), [None] * before + [2.5] * (5 - before)
    found = rollback(trial(kings, formers), CANARY)
    assert (found is not None and found.reason == "STA-UNSTABLE") == demoted


def stored(role: str, values: list[float]) -> list[Measurement]:
    return [run(role, "rescore", KING, seed, value) for seed, value in enumerate(values)]


def test_new_documents_demote_for_a_material_loss_only():
    for loss, demoted in ((2.0, True), (0.6, False), (0.0, False), (-2.0, False)):
        found = regressed(stored("king", spread(2.5 + loss * SIGMA, 12)), stored("former", spread(2.5, 12)), RULES)
        assert (found is not None and found.reason == "STA-CANARY") == demoted, loss


def test_new_documents_with_too_few_stored_runs_decide_nothing():
    assert regressed(stored("king", spread(3.5, 7)), stored("former", spread(2.5, 12)), RULES) is None
    assert regressed([], [], RULES) is None


def test_a_stored_run_without_a_score_holds_the_round():
    broken = [*stored("king", spread(2.5, 12)), run("king", "rescore", KING, 99, None)]
    with pytest.raises(CorruptStateError, match="OPS-HOLD"):
        regressed(broken, stored("former", spread(2.5, 12)), RULES)


def answers(king: list[float | None], reference: list[float | None], *, weights: bytes = bytes(32)) -> list[Measurement]:
    stages = ("canary", "repeat")
    kings = [run("king", stage, KING, 7, value) for stage, value in zip(stages, king, strict=False)]
    references = [run("reference", stage, REFERENCE, 7, value) for stage, value in zip(stages, reference, strict=False)]
    return [*(one.model_copy(update={"weights": weights}) for one in kings), *references]


POOL = (KingRun(seed=7, val_bpb=2.5, weights=bytes([9]) * 32, environment=bytes([7]) * 32),)


@pytest.mark.parametrize(
    ("king", "reference", "whose"),
    [
        ([None, None], [2.9, 2.9], Blame.KING),
        ([None, 2.5], [2.9, 2.9], Blame.NOBODY),
        ([None, None], [2.9, None], Blame.OURS),
        ([None, None], [None, None], Blame.OURS),
        ([None, None], [2.9], None),
        ([None], [2.9, 2.9], None),
        ([None, None], [], None),
    ],
)
def test_a_failure_is_the_kings_where_it_repeats_and_the_reference_holds(king, reference, whose):
    assert blame(7, answers(king, reference), (), CANARY) == whose


def test_a_reference_that_trains_to_two_results_means_that_the_fault_is_ours():
    runs = answers([None, None], [2.9, 2.9])
    runs[-1] = runs[-1].model_copy(update={"weights": bytes([3]) * 32})
    assert blame(7, runs, (), CANARY) is Blame.OURS


def test_one_run_of_the_reference_listed_twice_is_one_run():
    runs = answers([None, None], [2.9])
    assert blame(7, [*runs, runs[-1]], (), CANARY) is None


def test_a_king_that_no_longer_trains_to_the_same_weights_is_at_fault_and_on_another_stack_nobody_is():
    runs = answers([2.5, 2.5], [2.9, 2.9])
    assert blame(7, runs, POOL, CANARY) is Blame.KING
    assert blame(7, answers([2.5, 2.5], [2.9, 2.9], weights=bytes([9]) * 32), POOL, CANARY) is Blame.NOBODY
    assert blame(7, runs, (replace(POOL[0], environment=bytes(32)),), CANARY) is Blame.NOBODY
    assert not canary.doubtful(runs[0], (replace(POOL[0], environment=None),))


def test_where_two_executors_must_see_it_one_is_not_enough():
    runs = answers([None, None], [2.9, 2.9])
    strict = CANARY.model_copy(update={"executors": 2})
    assert blame(7, runs, (), strict) is Blame.OURS
    second = [one.model_copy(update={"executor": "5W"}) for one in runs]
    assert blame(7, [*runs, *second], (), strict) is Blame.KING
    second[-1] = second[-1].model_copy(update={"score": None, "failure": Failure(reason="RUN-OOM", detail="")})
    assert blame(7, [*runs, *second], (), strict) is Blame.OURS


@pytest.mark.parametrize(
    "wrong",
    [
        {"probation_per_round": 0},
        {"probation_minimum": 1},
        {"probation_minimum": 9},
        {"rotation_minimum": 99},
        {"rotation_runs": 7},
        {"probation_level": 1.0},
        {"rotation_level": 0.5},
        {"rotation_margin_sigmas": 0.0},
    ],
)
def test_rules_under_which_nobody_could_be_demoted_are_refused(wrong: dict[str, float]):
    canary.check(RULES)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        canary.check(RULES.model_copy(update={"canary": CANARY.model_copy(update=wrong)}))


def bounds(king: np.ndarray, former: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return gain and upper bound of many samples, float64[R, n] and [R, m], as ``welch`` does for one."""
    parts = king.var(axis=1, ddof=1) / king.shape[1], former.var(axis=1, ddof=1) / former.shape[1]
    error, gain = np.sqrt(parts[0] + parts[1]), former.mean(axis=1) - king.mean(axis=1)
    freedom = (parts[0] + parts[1]) ** 2 / (parts[0] ** 2 / (king.shape[1] - 1) + parts[1] ** 2 / (former.shape[1] - 1))
    return gain, gain + stats.t.ppf(level, freedom) * error


def demoted_by_rotation(gain: float, runs: int, rules: CanaryRules, *, replications: int, sd: float = 1.0, documents: float = 0.1) -> float:
    """Return how often new documents demote, in units of sigma: runs scatter, and the documents favour one of the two recipes by chance."""
    random = np.random.default_rng(int(1000 * (gain + 5)) + runs)
    king = sd * random.standard_normal((replications, runs)) - gain - documents * random.standard_normal((replications, 1))
    seen, upper = bounds(king, random.standard_normal((replications, runs)), rules.rotation_level)
    return float(np.mean((seen <= -rules.rotation_margin_sigmas) & (upper < 0)))


def rolled_back(gain: float, rules: CanaryRules, *, runs: int, per_round: int, replications: int, sd: float = 1.0) -> float:
    """Return how often a probation rolls back at any of its looks, with true gain in sigma."""
    random = np.random.default_rng(int(1000 * (gain + 5)) + runs)
    king, former = sd * random.standard_normal((replications, runs)) - gain, random.standard_normal((replications, runs))
    out = np.zeros(replications, dtype=bool)
    for count in range(per_round, runs + 1, per_round):
        if count >= rules.probation_minimum:
            out |= bounds(king[:, :count], former[:, :count], rules.probation_level)[1] < 0
    return float(out.mean())


def test_the_simulated_bound_is_the_one_that_decides():
    random = np.random.default_rng(3)
    king, former = random.normal(2.5, 0.05, (4, 9)), random.normal(2.6, 0.01, (4, 6))
    _, upper = bounds(king, former, 0.99)
    assert upper == pytest.approx([welch(a.tolist(), b.tolist(), 0.99).upper for a, b in zip(king, former, strict=True)], abs=1e-5)


@pytest.mark.parametrize(("runs", "sd"), [(8, 1.0), (16, 1.0), (32, 1.0), (96, 1.0), (96, 3.0)])
def test_honest_kings_are_demoted_by_new_documents_in_less_than_one_of_a_thousand_rotations(runs: int, sd: float):
    """Whose gain over the king before is nothing at all; documents move the difference by a tenth of sigma."""
    assert demoted_by_rotation(0.0, runs, FULL, replications=50_000, sd=sd) < 0.001


@pytest.mark.parametrize(("loss", "runs", "least"), [(1.0, 16, 0.13), (1.0, 32, 0.55), (1.0, 48, 0.8), (2.0, 16, 0.9), (2.0, 8, 0.28)])
def test_a_real_loss_on_new_documents_demotes(loss: float, runs: int, least: float):
    assert demoted_by_rotation(-loss, runs, FULL, replications=10_000) > least


def test_a_probation_rolls_back_a_harmful_king_and_hardly_ever_a_better_one():
    full = {"runs": 48, "per_round": 2, "replications": 10_000}
    assert rolled_back(0.0, FULL, **full) < 0.06
    assert rolled_back(0.5, FULL, **full) < 0.001
    assert rolled_back(-1.0, FULL, **full) > 0.95
    devnet = {"runs": 8, "per_round": 2, "replications": 10_000}
    assert rolled_back(0.5, CANARY, **devnet) < 0.005
    assert rolled_back(-2.0, CANARY, **devnet) > 0.7
