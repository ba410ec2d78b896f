"""Where research on one king stands: derived from the ledger every time, stored nowhere."""

from dataclasses import dataclass
from functools import cached_property

from ralph.agent import decide
from ralph.agent.decide import Estimate, KeepRule, NoiseBand, Scatter
from ralph.agent.experiment import Decision, Experiment, Kind, Reign
from ralph.agent.ledger import Ledger

BRANCHING = (Kind.REBASE, Kind.PROPOSAL)
"""Experiments that move the branch head when they are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What research on one king may cost."""

    experiments: int = 12
    """Proposals for each king. Baseline, rebase and confirm come on top."""
    climb_runs: int = 3
    """Seeds on which proposals are compared with the head."""
    confirm_runs: int = 2
    """Further seeds, for the comparison of the head with the king."""
    margin: float = 3.0
    """Gain over the king, in its standard errors, from which a confirmed head is a candidate."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A snapshot of one reign."""

    ledger: Ledger
    reign: Reign
    budget: Budget
    sigma: float
    """The Rules' sigma, which the noise band is shrunk towards."""
    rule: KeepRule

    @cached_property
    def experiments(self) -> tuple[Experiment, ...]:
        """Return the experiments of this reign."""
        return tuple(experiment for experiment in self.ledger.experiments() if experiment.reign == self.reign.number)

    def made(self, kind: Kind) -> bool:
        """Return whether there was an experiment of this kind."""
        return any(experiment.kind is kind for experiment in self.experiments)

    @property
    def branch(self) -> tuple[bytes, ...]:
        """Return the digests of the king and of every tree that became head, the newest last."""
        kept = (e.tree for e in self.experiments if e.kind in BRANCHING and e.decision is Decision.KEEP)
        return (self.reign.king, *kept)

    @property
    def pending(self) -> bytes | None:
        """Return the digest of the branch that was carried over from the king before, while it has not been tested."""
        return None if self.made(Kind.REBASE) else self.reign.rebased

    @property
    def spent(self) -> bool:
        """Return whether no further proposal may or can be made."""
        proposals = sum(experiment.kind is Kind.PROPOSAL for experiment in self.experiments)
        return self.made(Kind.EXHAUSTED) or proposals >= self.ledger.allowance(self.reign.number)

    @property
    def unconfirmed(self) -> bool:
        """Return whether the head has runs outstanding on the seeds for confirming."""
        head = self.branch[-1]
        return head != self.reign.king and any(self.ledger.run(self.reign.bench, head, seed) is None for seed in self.confirm_seeds)

    @property
    def finished(self) -> bool:
        """Return whether nothing is left to do on this king."""
        return self.made(Kind.BASELINE) and self.pending is None and self.spent and not self.unconfirmed

    @property
    def usable_seeds(self) -> tuple[int, ...]:
        """Return the seeds on which the king has a value."""
        baseline = next(experiment for experiment in self.experiments if experiment.kind is Kind.BASELINE)
        return tuple(pair.seed for pair in baseline.pairs if pair.challenger_bpb is not None)

    @property
    def climb_seeds(self) -> tuple[int, ...]:
        """Return the seeds on which proposals are compared with the head."""
        return self.usable_seeds[: -self.budget.confirm_runs]

    @property
    def confirm_seeds(self) -> tuple[int, ...]:
        """Return the seeds on which a head is compared with the king; no proposal is decided on them."""
        return self.usable_seeds[-self.budget.confirm_runs :]

    @property
    def band(self) -> NoiseBand:
        """Return the noise band: how far the king's own runs scatter."""
        baseline = next(experiment for experiment in self.experiments if experiment.kind is Kind.BASELINE)
        values = [pair.challenger_bpb for pair in baseline.pairs if pair.challenger_bpb is not None]
        return NoiseBand.of(values, reference=self.sigma, rule=self.rule)

    @property
    def scatter(self) -> Scatter:
        """Return how far the differences of pairs scatter."""
        return Scatter.of(self.band, (e.differences for e in self.experiments if e.kind in BRANCHING), rule=self.rule)

    def over_king(self, tree: bytes) -> Estimate | None:
        """Return the gain over the king on the seeds for confirming; None while a run is missing or where one failed."""
        differences: list[float] = []
        for seed in self.confirm_seeds:
            ours, theirs = (self.ledger.run(self.reign.bench, digest, seed) for digest in (tree, self.reign.king))
            if ours is None or theirs is None or ours.val_bpb is None or theirs.val_bpb is None:
                return None
            differences.append(theirs.val_bpb - ours.val_bpb)
        return decide.estimate(differences, self.scatter, rule=self.rule)
