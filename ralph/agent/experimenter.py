"""Make one experiment and write it down: runs on the bench, the decision by ``decide.py``, the row in the ledger.

A run that was made before is taken from the ledger, so an experiment that was interrupted costs only what was missing.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ralph.agent import decide
from ralph.agent.bench import Bench, Run, research_seed
from ralph.agent.branch import diff_of
from ralph.agent.decide import Action, Judgement, KeepRule
from ralph.agent.experiment import Decision, Draft, Experiment, Kind, Pair
from ralph.agent.ledger import Ledger
from ralph.agent.progress import Progress
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.protocol.patch import RecipeTree
from ralph.repository.scope import check_scope

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experimenter:
    """Makes the experiments of one reign."""

    ledger: Ledger
    bench: Bench
    progress: Progress
    """As it was before the experiment."""
    rule: KeepRule
    started_cpu_s: float
    """CPU seconds of all runs before the experiment."""

    def baseline(self) -> Experiment:
        """Run the king on every seed. A seed on which it fails is of no use.

        Raises:
            ConfigurationError: It fails on so many that nothing can be compared with it.
        """
        reign, budget = self.progress.reign, self.progress.budget
        king = self.ledger.tree(reign.king)
        count = budget.climb_runs + budget.confirm_runs
        seeds = [research_seed(reign.seed, reign=reign.number, king=reign.king, index=index) for index in range(count)]
        runs = [self._run(king, seed) for seed in seeds]
        failed = [run for run in runs if run.val_bpb is None]
        if count - len(failed) <= budget.confirm_runs:
            raise ConfigurationError(f"the king fails on {len(failed)} of {count} private seeds: {failed[0].failure}")
        pairs = [Pair(seed=run.seed, challenger_bpb=run.val_bpb, head_bpb=None) for run in runs]
        draft = Draft(kind=Kind.BASELINE, parent=king, tree=king, change="baseline")
        return self._record(draft, pairs, Decision.KEEP, f"the noise band of the king from {count - len(failed)} runs")

    def compare(self, draft: Draft, seeds: Sequence[int]) -> Experiment:
        """Run a tree against its parent on one seed after the other until the rule decides."""
        try:
            check_scope(self.ledger.tree(self.progress.reign.king), draft.tree, self.bench.rules.patch)
        except UntrustedInputError as error:
            return self._record(draft, [], Decision.CRASH, f"a patch that the Rules refuse: {error.code}: {error.detail}")
        scatter, pairs = self.progress.scatter, list[Pair]()
        judgement: Judgement | None = None
        for seed in seeds:
            challenger, reference = self._run(draft.tree, seed), self._run(draft.parent, seed)
            pairs.append(Pair(seed=seed, challenger_bpb=challenger.val_bpb, head_bpb=reference.val_bpb))
            if challenger.val_bpb is None:
                return self._record(draft, pairs, Decision.CRASH, challenger.failure, log_tail=challenger.log_tail)
            differences = [pair.difference for pair in pairs if pair.difference is not None]
            if differences:
                judgement = decide.judge(differences, scatter, last=seed == seeds[-1], rule=self.rule)
                if judgement.action is not Action.CONTINUE:
                    break
        if judgement is None:
            return self._record(draft, pairs, Decision.DISCARD, "the head it is compared with fails on every seed")
        return self._record(draft, pairs, _decision(judgement), judgement.reason, judgement=judgement)

    def confirm(self, draft: Draft) -> Experiment:
        """Run the branch head on the seeds for confirming, where the king has run. The head stays what it is."""
        pairs: list[Pair] = []
        for seed in self.progress.confirm_seeds:
            challenger, reference = self._run(draft.tree, seed), self._run(draft.parent, seed)
            pairs.append(Pair(seed=seed, challenger_bpb=challenger.val_bpb, head_bpb=reference.val_bpb))
            if challenger.val_bpb is None:
                return self._record(draft, pairs, Decision.CRASH, challenger.failure, log_tail=challenger.log_tail)
        found = decide.estimate([pair.difference for pair in pairs if pair.difference is not None], self.progress.scatter, rule=self.rule)
        margin = self.progress.budget.margin
        decision = Decision.KEEP if found.z >= margin else Decision.DISCARD
        reason = (
            f"{found.gain_bpb:+.4f} bpb over the king on {found.runs} unseen seeds, {found.z:.1f} standard errors, {margin:g} are needed"
        )
        judgement = Judgement(action=Action.KEEP, estimate=found, reason=reason)
        return self._record(draft, pairs, decision, reason, judgement=judgement)

    def exhausted(self, draft: Draft) -> Experiment:
        """Write down that the proposer has nothing left."""
        return self._record(draft, [], Decision.DISCARD, "nothing is left that was not tried")

    def _run(self, tree: RecipeTree, seed: int) -> Run:
        """Return the run of a tree with a seed, made now or found in the ledger."""
        digest, bench = tree.digest(), self.bench.identity
        known = self.ledger.run(bench, digest, seed)
        if known is None:
            known = self.bench.run(tree, seed)
            self.ledger.add_run(bench, tree, known)
        return known

    def _record(
        self,
        draft: Draft,
        pairs: Sequence[Pair],
        decision: Decision,
        reason: str,
        *,
        judgement: Judgement | None = None,
        log_tail: str = "",
    ) -> Experiment:
        experiment = Experiment(
            number=len(self.ledger.experiments()),
            reign=self.progress.reign.number,
            kind=draft.kind,
            proposer=draft.proposer,
            king=self.progress.reign.king,
            parent=draft.parent.digest(),
            tree=draft.tree.digest(),
            patch=diff_of(self.bench.scratch, draft.parent, draft.tree),
            change=draft.change,
            mechanism=draft.mechanism,
            pairs=tuple(pairs),
            decision=decision,
            reason=reason,
            gain_bpb=None if judgement is None else judgement.estimate.gain_bpb,
            standard_error_bpb=None if judgement is None else judgement.estimate.standard_error_bpb,
            worker_cpu_s=self.ledger.cpu_seconds() - self.started_cpu_s,
            memory_bytes=max((self._memory(draft.tree, pair.seed) for pair in pairs), default=0),
            log_tail=log_tail,
        )
        self.ledger.add_experiment(experiment, (draft.parent, draft.tree))
        logger.info("experiment %d: %s: %s: %s", experiment.number, experiment.change, decision.value, reason)
        return experiment

    def _memory(self, tree: RecipeTree, seed: int) -> int:
        run = self.ledger.run(self.bench.identity, tree.digest(), seed)
        return 0 if run is None else run.memory_bytes


def _decision(judgement: Judgement) -> Decision:
    return Decision.KEEP if judgement.action is Action.KEEP else Decision.DISCARD
