"""Simulate the crown rule: how often it crowns what it should, what it should not, and at what cost.

A replication is a queue of submissions against one throne. A crown starts a new reign: the pool is
drawn anew and the entries count from one. Losses are normal; the king's and the challenger's runs on
one seed share a part ``rho`` of their variance. The pool grows by the king's proof runs. All
replications advance together, one submission at a time, with the array form of the statistics.

Not promised: heavy tails, failing runs, ties between winners, miners who choose among variants by the
look's outcome. Screen and filter stand at the decision rung, and king runs of the miner's stages are not
charged because the contestants of a round share them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ralph.judge.sequential import check, critical_t, filter_advance
from ralph.judge.statistics import PRIOR_RUNS
from ralph.protocol.rules import CrownRules

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A kind of submission."""

    share: float
    """Its share of all submissions; the shares of a Scenario sum to 1."""
    effect_sigmas: float
    """True gain over the king, in sigma; zero or less makes a crown false."""
    sd_multiplier: float = 1.0
    """Scatter of its runs against the king's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What arrives at the throne."""

    groups: tuple[Group, ...]
    rho: float
    """Correlation of king and challenger on one seed."""
    submissions: int = 1000
    straight_to_proof: bool = False
    """Every submission enters the proof: the worst case for the error budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A mean over replications with its Monte Carlo standard error.

    The error of zero events is zero; their rate is then below 3 / (number of submissions) at 95 %.
    """

    mean: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a simulation counted."""

    true_crowns: Figure
    """Crowns of better submissions, per 1000 submissions."""
    false_crowns: Figure
    """Crowns of null and harmful submissions, per 1000 submissions."""
    false_crowns_per_reign: Figure
    miner_runs: Figure
    """Screen and filter runs of the challenger, per submission."""
    validator_runs: Figure
    """Proof runs of challenger and king, and pools of new kings, per submission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The statistics of many contests at one look; all arrays have one entry per contest."""

    est: Reals
    z: Reals
    t: Reals


ProofRule = Callable[[Seen, Integers, int, CrownRules], tuple[Flags, Flags]]
"""(statistics, entries, look index, rules) -> (crown, drop)."""


def statistics(challenger: Reals, king: Reals, pool: Reals | None, rules: CrownRules) -> Seen:
    """Return the statistics of ``judge.statistics`` for many contests; ``t`` means nothing for one run.

    ``challenger`` and ``king`` are float64[R, n] val_bpb, ``pool`` is float64[3, R]: mean, sum of squared
    deviations and number of the pool's runs; None where pairs speak alone.
    """
    n, b = challenger.shape[1], 1.0 if pool is None else rules.control_weight
    x = b * king - challenger
    est = x.mean(axis=1) + (0.0 if pool is None else (1 - b) * pool[0])
    variance = x.var(axis=1, ddof=1) if n > 1 else np.zeros(len(x))
    shrunk = np.maximum(rules.variance_reference, (PRIOR_RUNS * rules.variance_reference + (n - 1) * variance) / (n - 1 + PRIOR_RUNS))
    pool_term = np.zeros(len(x)) if pool is None else (1 - b) ** 2 * pool[1] / (pool[2] - 1) / pool[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return Seen(est=est, z=est / np.sqrt(shrunk / n + pool_term), t=est / np.sqrt(variance / n + pool_term))


def proof_rule(seen: Seen, entries: Integers, index: int, rules: CrownRules) -> tuple[Flags, Flags]:
    """Decide a proof look for many contests, as ``sequential.proof_look`` does for one."""
    distinct, where = np.unique(entries, return_inverse=True)
    bars = np.array([critical_t(int(entry), index, rules) for entry in distinct])[where]
    crown = (seen.t > bars) & (seen.est >= rules.minimum_gain_sigmas * rules.sigma)
    if index == len(rules.proof_looks) - 1:
        return crown, ~crown
    return crown, ~crown & (seen.t < rules.proof_drop[index])


def filter_rule(seen: Seen, index: int, rules: CrownRules) -> tuple[Flags, Flags]:
    """Return (advance, drop) of a filter look for many contests, as ``sequential.filter_look`` does for one."""
    threshold = filter_advance(index, rules)
    advance = seen.z > threshold if threshold is not None else np.zeros(len(seen.z), dtype=np.bool_)
    if index == len(rules.filter_looks) - 1:
        return advance, ~advance
    return advance, ~advance & (seen.z < rules.filter_drop[index])


def simulate(scenario: Scenario, rules: CrownRules, *, replications: int, seed: int, proof: ProofRule = proof_rule) -> Outcome:
    """Run ``replications`` queues of submissions through the rule. Same arguments, same Outcome.

    ``proof`` is the proof decision: another one shows what a test of the rule can tell apart.
    """
    check(rules)
    throne = _Throne(scenario, rules, replications, np.random.default_rng(seed), proof)
    for _ in range(scenario.submissions):
        throne.judge_next()
    submissions, false = scenario.submissions, throne.crowns[0]
    return Outcome(
        true_crowns=_figure(throne.crowns[1] * 1000 / submissions),
        false_crowns=_figure(false * 1000 / submissions),
        false_crowns_per_reign=_ratio(false, 1 + throne.crowns.sum(axis=0)),
        miner_runs=_figure(throne.miner_runs / submissions),
        validator_runs=_figure(throne.validator_runs / submissions),
    )


class _Throne:
    """The state of all replications: pools, entries of the reigns, counts."""

    def __init__(self, scenario: Scenario, rules: CrownRules, replications: int, generator: np.random.Generator, proof: ProofRule) -> None:
        self.scenario, self.rules, self.generator, self.proof = scenario, rules, generator, proof
        self.pool = np.zeros((3, replications))
        self.entries = np.zeros(replications, dtype=np.int64)
        self.crowns = np.zeros((2, replications))
        self.miner_runs, self.validator_runs = np.zeros(replications), np.zeros(replications)
        self.draw_pool(np.arange(replications))
        self.validator_runs[:] = 0

    def draw_pool(self, where: Integers) -> None:
        """Start a reign in the replications ``where``."""
        runs = self.rules.sigma * self.generator.standard_normal((len(where), self.rules.pool_runs))
        self.pool[0, where], self.pool[2, where] = runs.mean(axis=1), self.rules.pool_runs
        self.pool[1, where] = runs.var(axis=1) * self.rules.pool_runs
        self.entries[where] = 0
        self.validator_runs[where] += self.rules.pool_runs

    def join_pool(self, where: Integers, runs: Reals) -> None:
        """Add the king's paired runs (float64[len(where), n]) of a finished proof to the pool (Chan et al. 1979)."""
        n, count = runs.shape[1], self.pool[2, where]
        difference = runs.mean(axis=1) - self.pool[0, where]
        self.pool[0, where] += difference * n / (count + n)
        self.pool[1, where] += runs.var(axis=1) * n + difference**2 * count * n / (count + n)
        self.pool[2, where] += n

    def judge_next(self) -> None:
        """Send one submission per replication through screen, filter and proof."""
        groups = self.scenario.groups
        kind = self.generator.choice(len(groups), size=self.pool.shape[1], p=[group.share for group in groups])
        effect = np.array([group.effect_sigmas for group in groups])[kind]
        scatter = np.array([group.sd_multiplier for group in groups])[kind]
        where = np.arange(self.pool.shape[1])
        if not self.scenario.straight_to_proof:
            where = self._filter(self._screen(where, effect, scatter), effect, scatter)
        crowned = self._prove(where, effect, scatter)
        self.crowns[(effect[crowned] > 0).astype(np.int64), crowned] += 1
        self.draw_pool(crowned)

    def _runs(self, where: Integers, n: int, effect: Reals, scatter: Reals) -> Reals:
        """Draw n pairs: float64[2, len(where), n], challenger and king."""
        rho, noise = self.scenario.rho, self.generator.standard_normal((3, len(where), n))
        noise[:2] = np.sqrt(rho) * noise[2] + np.sqrt(1 - rho) * noise[:2]
        noise[0] = scatter[where, None] * noise[0] - effect[where, None]
        return self.rules.sigma * noise[:2]

    def _screen(self, where: Integers, effect: Reals, scatter: Reals) -> Integers:
        self.miner_runs[where] += self.rules.screen_runs
        challenger, king = self._runs(where, self.rules.screen_runs, effect, scatter)
        return where[statistics(challenger, king, None, self.rules).z > self.rules.screen_threshold]

    def _filter(self, where: Integers, effect: Reals, scatter: Reals) -> Integers:
        advanced, runs, done = [], np.empty((2, len(where), 0)), 0
        for index, look in enumerate(self.rules.filter_looks):
            runs = np.concatenate([runs, self._runs(where, look - done, effect, scatter)], axis=2)
            self.miner_runs[where] += look - done
            done = look
            advance, drop = filter_rule(statistics(runs[0], runs[1], None, self.rules), index, self.rules)
            advanced.append(where[advance])
            where, runs = where[~advance & ~drop], runs[:, ~advance & ~drop]
        return np.sort(np.concatenate(advanced))

    def _prove(self, where: Integers, effect: Reals, scatter: Reals) -> Integers:
        crowned, runs, done = [], np.empty((2, len(where), 0)), 0
        self.entries[where] += 1
        for index, look in enumerate(self.rules.proof_looks):
            runs = np.concatenate([runs, self._runs(where, look - done, effect, scatter)], axis=2)
            self.validator_runs[where] += 2 * (look - done)
            done = look
            seen = statistics(runs[0], runs[1], self.pool[:, where], self.rules)
            crown, drop = self.proof(seen, self.entries[where], index, self.rules)
            self.join_pool(where[crown | drop], runs[1, crown | drop])
            crowned.append(where[crown])
            where, runs = where[~crown & ~drop], runs[:, ~crown & ~drop]
        return np.sort(np.concatenate(crowned))


def _figure(values: Reals) -> Figure:
    return Figure(mean=float(values.mean()), error=float(values.std(ddof=1) / np.sqrt(len(values))))


def _ratio(numerator: Reals, denominator: Reals) -> Figure:
    ratio = numerator.mean() / denominator.mean()
    residual = numerator - ratio * denominator
    return Figure(mean=float(ratio), error=float(residual.std(ddof=1) / np.sqrt(len(residual)) / denominator.mean()))
