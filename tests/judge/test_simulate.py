from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ralph.judge import sequential, simulate
from ralph.judge.sequential import Action
from ralph.judge.simulate import Figure, Group, Outcome, Scenario, Seen
from ralph.judge.statistics import estimate
from ralph.protocol.network import DEVNET_CROWN
from ralph.protocol.rules import CrownRules
from tests.judge.profiles import devnet_crown_rules, mainnet_crown_rules

DEVNET, MAINNET = devnet_crown_rules(), mainnet_crown_rules()
PROFILES = pytest.mark.parametrize("rules", [DEVNET, MAINNET, DEVNET_CROWN], ids=["devnet", "mainnet", "shipped devnet"])
QUEUE = Scenario(
    groups=(Group(share=0.05, effect_sigmas=2.0), Group(share=0.25, effect_sigmas=0.0), Group(share=0.7, effect_sigmas=-2.0)),
    rho=0.3,
    submissions=100,
)


def nulls(sd_multiplier: float) -> Scenario:
    """Every submission is worthless and gets to the proof."""
    group = Group(share=1.0, effect_sigmas=0.0, sd_multiplier=sd_multiplier)
    return Scenario(groups=(group,), rho=0.3, submissions=40, straight_to_proof=True)


def above(figure: Figure, bound: float) -> bool:
    return figure.mean - 3 * figure.error > bound


def exceeds_budget(outcome: Outcome, rules: CrownRules) -> bool:
    return above(outcome.false_crowns_per_reign, rules.alpha_reign / 2)


def finds_what_is_there(outcome: Outcome, scenario: Scenario) -> bool:
    return outcome.true_crowns.mean > 0.6 * 1000 * scenario.groups[0].share


@PROFILES
@pytest.mark.parametrize("sd_multiplier", [1.0, 3.0, 10.0])
def test_worthless_submissions_stay_within_the_error_budget_however_noisy_they_are(rules: CrownRules, sd_multiplier: float) -> None:
    outcome = simulate.simulate(nulls(sd_multiplier), rules, replications=1500, seed=1)
    assert not exceeds_budget(outcome, rules)


def test_the_error_budget_test_is_sharp_enough_to_see_four_times_the_alpha() -> None:
    careless = DEVNET.model_copy(update={"alpha_reign": 4 * DEVNET.alpha_reign})
    assert exceeds_budget(simulate.simulate(nulls(3.0), careless, replications=1500, seed=1), DEVNET)


@PROFILES
def test_nulls_that_pass_screen_and_filter_are_almost_never_crowned(rules: CrownRules) -> None:
    scenario = replace(nulls(1.0), straight_to_proof=False, submissions=200)
    outcome = simulate.simulate(scenario, rules, replications=300, seed=2)
    assert outcome.false_crowns.mean < 0.2
    assert outcome.true_crowns.mean == 0


@PROFILES
def test_noise_is_no_lottery_ticket(rules: CrownRules) -> None:
    gamblers = replace(nulls(3.0), straight_to_proof=False, submissions=200)
    assert simulate.simulate(gamblers, rules, replications=300, seed=3).false_crowns.mean < 0.2


@PROFILES
def test_a_gain_of_two_sigma_is_mostly_crowned(rules: CrownRules) -> None:
    outcome = simulate.simulate(QUEUE, rules, replications=200, seed=4)
    assert finds_what_is_there(outcome, QUEUE)
    assert outcome.false_crowns.mean < 0.2
    assert outcome.validator_runs.mean < 3
    assert 1 < outcome.miner_runs.mean < 2


def test_seed_correlation_makes_small_gains_visible() -> None:
    scenario = replace(QUEUE, groups=(Group(share=0.05, effect_sigmas=1.0), *QUEUE.groups[1:]))
    paired = simulate.simulate(replace(scenario, rho=0.8), MAINNET, replications=200, seed=5)
    apart = simulate.simulate(replace(scenario, rho=0.0), MAINNET, replications=200, seed=5)
    assert paired.true_crowns.mean > 1.2 * apart.true_crowns.mean


def always(seen: Seen, _entries: np.ndarray, _index: int, _rules: CrownRules) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(len(seen.t), dtype=bool), np.zeros(len(seen.t), dtype=bool)


def never(seen: Seen, _entries: np.ndarray, _index: int, _rules: CrownRules) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(len(seen.t), dtype=bool), np.ones(len(seen.t), dtype=bool)


def by_sigma(seen: Seen, _entries: np.ndarray, _index: int, _rules: CrownRules) -> tuple[np.ndarray, np.ndarray]:
    """Test with the reference variance, as a rule without a variance guard does."""
    return seen.z > 3.5, seen.z <= 3.5


def without_ledger(seen: Seen, _entries: np.ndarray, index: int, rules: CrownRules) -> tuple[np.ndarray, np.ndarray]:
    """Give every entry the alpha of the first."""
    return simulate.proof_rule(seen, np.ones(len(seen.t), dtype=np.int64), index, rules)


@pytest.mark.parametrize("proof", [always, by_sigma, without_ledger])
def test_a_proof_that_crowns_too_easily_breaks_the_budget(proof: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    assert exceeds_budget(simulate.simulate(nulls(3.0), DEVNET, replications=1500, seed=1, proof=proof), DEVNET)


def test_a_proof_that_never_crowns_finds_nothing() -> None:
    assert not finds_what_is_there(simulate.simulate(QUEUE, DEVNET, replications=50, seed=4, proof=never), QUEUE)


def test_the_same_arguments_give_the_same_outcome() -> None:
    assert simulate.simulate(QUEUE, DEVNET, replications=20, seed=6) == simulate.simulate(QUEUE, DEVNET, replications=20, seed=6)


def test_runs_are_charged_to_who_makes_them() -> None:
    hopeless = Scenario(groups=(Group(share=1.0, effect_sigmas=-50.0),), rho=0.0, submissions=10)
    outcome = simulate.simulate(hopeless, DEVNET, replications=5, seed=1)
    assert (outcome.miner_runs.mean, outcome.validator_runs.mean) == (1.0, 0.0)
    certain = Scenario(groups=(Group(share=1.0, effect_sigmas=500.0),), rho=0.0, submissions=10)
    outcome = simulate.simulate(certain, DEVNET, replications=5, seed=1)
    assert (outcome.miner_runs.mean, outcome.validator_runs.mean) == (1 + 2, 2 * 4 + 8)
    assert outcome.true_crowns == Figure(mean=1000.0, error=0.0)


def test_the_pool_takes_in_runs_as_if_it_had_them_from_the_start() -> None:
    throne = simulate._Throne(QUEUE, DEVNET, 3, np.random.default_rng(0), simulate.proof_rule)
    generator = np.random.default_rng(1)
    first, more = generator.normal(2.5, 0.1, (3, 8)), generator.normal(2.6, 0.1, (3, 4))
    throne.pool = np.stack([first.mean(axis=1), first.var(axis=1) * 8, np.full(3, 8.0)])
    throne.join_pool(np.arange(3), more)
    together = np.concatenate([first, more], axis=1)
    np.testing.assert_allclose(throne.pool, [together.mean(axis=1), together.var(axis=1) * 12, np.full(3, 12.0)], rtol=1e-12)


@PROFILES
def test_the_simulator_decides_as_the_production_rule_does(rules: CrownRules) -> None:
    generator = np.random.default_rng(8)
    pools = rules.sigma * generator.standard_normal((60, rules.pool_runs))
    pool = np.stack([pools.mean(axis=1), pools.var(axis=1) * rules.pool_runs, np.full(60, float(rules.pool_runs))])
    entries = generator.integers(1, 4, 60)
    effects = rules.sigma * generator.uniform(-1, 5, (60, 1))
    for stage, looks in (("filter", rules.filter_looks), ("proof", rules.proof_looks)):
        for index, n in enumerate(looks):
            king = rules.sigma * generator.standard_normal((60, n))
            challenger = rules.sigma * generator.standard_normal((60, n)) - effects
            seen = simulate.statistics(challenger, king, pool if stage == "proof" else None, rules)
            yes, no = simulate.filter_rule(seen, index, rules) if stage == "filter" else simulate.proof_rule(seen, entries, index, rules)
            for i in range(60):
                case = list(challenger[i]), list(king[i])
                exact = estimate(*case, list(pools[i]) if stage == "proof" else None, rules)
                assert (seen.est[i], seen.z[i], seen.t[i]) == pytest.approx((exact.est, exact.z, exact.t), rel=1e-9)
                if stage == "filter":
                    look = sequential.filter_look(*case, rules)
                else:
                    look = sequential.proof_look(*case, list(pools[i]), rules, entry=int(entries[i]))
                assert (yes[i], no[i]) == (look.action in {Action.ADVANCE, Action.CROWN}, look.action is Action.DROP)
