"""The researcher: one experiment at a time on a king's recipe, everything remembered in the ledger.

Research on a king goes through these experiments:
1. baseline: the king on every private seed of the reign; its scatter is the noise band;
2. rebase, when the king has changed: what worked on the previous one, merged onto the new one and tested against it;
3. proposals: an edit on top of the branch head, paired with the head on the same seeds, kept or discarded by ``decide.py``.
   Kept edits stack. Most are discarded after one run;
4. confirm: the branch head against the king, on seeds that no decision has seen. Only this makes a candidate.

Budgets are counts of experiments, so research repeats: the next experiment is a pure function of the ledger, the recipe and
the seed. What is killed at any point goes on with the same experiment and finds its finished runs again.
"""

from pathlib import Path

from ralph.agent import decide, knobs
from ralph.agent.bench import Bench
from ralph.agent.branch import Candidate, hypothesis, patch_of, rebase
from ralph.agent.decide import KeepRule
from ralph.agent.experiment import Decision, Draft, Experiment, Kind, Reign
from ralph.agent.experimenter import Experimenter
from ralph.agent.ledger import Ledger
from ralph.agent.progress import Budget, Progress
from ralph.agent.proposers import Program, proposer_for
from ralph.agent.proposers.interface import Context, Trial
from ralph.errors import ConfigurationError
from ralph.protocol.canonical import digest
from ralph.protocol.patch import RecipeTree

__all__ = ["Budget", "Candidate", "Researcher"]

PROPOSAL_TAG = "recipe-net/research-proposal/v1"


class Researcher:
    """Research on the king's recipe, driven one experiment at a time.

    Args:
        program: Where edits come from.
        ledger: SQLite file; research goes on from what it holds.
        bench: What an experiment needs.
        seed: All chance and all private training seeds come from it. They are never the beacon's.
        budget: Of each king.
        rule: When an edit is kept.

    Raises:
        CorruptStateError: The ledger is damaged.
    """

    def __init__(
        self, *, program: Program, ledger: Path, bench: Bench, seed: int, budget: Budget | None = None, rule: KeepRule = decide.DEFAULT_RULE
    ) -> None:
        self._ledger, self._bench, self._seed, self._rule = Ledger.open(ledger), bench, seed, rule
        self._budget = budget or Budget()
        self._proposer = proposer_for(program)
        self._changes: dict[tuple[bytes, bytes], tuple[knobs.Change, ...]] = {}
        last = next(reversed(self._ledger.reigns()), None)
        self._reign = last if last is not None and (last.bench, last.seed) == (bench.identity, seed) else None

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def start(self, king: RecipeTree) -> None:
        """Research ``king`` from now on: measure the noise band, and carry over what worked on the king before.

        Going on with the same king changes nothing. A branch that is carried over is tested by the next ``step``.

        Raises:
            ConfigurationError: The king does not run on this machine.
            InfrastructureError: Ours; call again.
        """
        if self._reign is None or self._reign.king != king.digest():
            earlier = self._ledger.reigns()
            carried = self._carried(earlier[-1], king) if earlier else None
            reign = Reign(
                number=len(earlier),
                king=king.digest(),
                rebased=None if carried is None else carried.digest(),
                bench=self._bench.identity,
                seed=self._seed,
            )
            self._ledger.begin(reign, king, carried, experiments=self._budget.experiments)
            self._reign = reign
        progress = self.progress
        if not progress.made(Kind.BASELINE):
            self._experimenter(progress).baseline()

    def step(self) -> Experiment:
        """Make exactly one experiment; return what was tried and decided.

        Raises:
            ConfigurationError: Nothing is left to do, or research was never started.
            InfrastructureError: Ours; calling again makes the same experiment.
        """
        progress = self.progress
        if not progress.made(Kind.BASELINE):
            return self._experimenter(progress).baseline()
        if progress.pending is not None:
            return self._rebase(progress, self._ledger.tree(progress.pending))
        if not progress.spent:
            return self._propose(progress)
        if progress.unconfirmed:
            return self._confirm(progress)
        raise ConfigurationError("the experiments on this king are spent; allow more or wait for the next king")

    def extend(self, experiments: int) -> None:
        """Allow more experiments on this king."""
        self._ledger.allow(self.progress.reign.number, experiments)

    def more(self) -> bool:
        """Allow as many experiments again as a king is begun with; return False when the proposer has nothing left."""
        if self.progress.made(Kind.EXHAUSTED):
            return False
        self.extend(self._budget.experiments)
        return True

    def candidate(self) -> Candidate | None:
        """Return the newest head that beats the king by the margin on unseen seeds, None when there is none."""
        progress = self.progress
        king = self._ledger.tree(progress.reign.king)
        for kept in reversed(progress.branch[1:]):
            found = progress.over_king(kept)
            if found is not None and found.z >= self._budget.margin:
                tree = self._ledger.tree(kept)
                return Candidate(
                    tree=tree,
                    patch=patch_of(self._bench.scratch, king, tree, self._bench.rules.patch),
                    hypothesis=hypothesis(king, tree, found, rung=self._bench.rung.name),
                    gain_bpb=found.gain_bpb,
                    standard_error_bpb=found.standard_error_bpb,
                    experiments=len(progress.experiments),
                )
        return None

    @property
    def finished(self) -> bool:
        """Return whether the budget for this king is spent and what came of it is confirmed."""
        return self.progress.finished

    @property
    def head(self) -> RecipeTree:
        """Return the branch head: the king with every edit that was kept."""
        return self._ledger.tree(self.progress.branch[-1])

    @property
    def progress(self) -> Progress:
        """Return where research on this king stands."""
        if self._reign is None:
            raise ConfigurationError("research has no king yet; start it with one")
        return self._progress(self._reign)

    def experiments(self) -> tuple[Experiment, ...]:
        """Return every experiment of the ledger, those of earlier kings too."""
        return self._ledger.experiments()

    def _carried(self, earlier: Reign, king: RecipeTree) -> RecipeTree | None:
        """Return the branch of an earlier reign on top of ``king``, also one that was carried over to it and never tested."""
        there = self._progress(earlier)
        base, head = self._ledger.tree(earlier.king), self._ledger.tree(there.pending or there.branch[-1])
        return rebase(self._bench.scratch, base=base, head=head, king=king)

    def _rebase(self, progress: Progress, tree: RecipeTree) -> Experiment:
        """Test the branch of the king before on this king, first on the seeds for confirming: they make it a candidate."""
        king = self._ledger.tree(progress.reign.king)
        change = "; ".join(str(change) for change in knobs.changes(king, tree)) or "code"
        mechanism = "what was better than the king before, brought over to this one"
        draft = Draft(kind=Kind.REBASE, parent=king, tree=tree, change=f"rebase: {change}", mechanism=mechanism)
        return self._experimenter(progress).compare(draft, (*progress.confirm_seeds, *progress.climb_seeds))

    def _propose(self, progress: Progress) -> Experiment:
        """Ask the proposer for an edit of the head and compare the two."""
        head, proposer = self._ledger.tree(progress.branch[-1]), self._proposer.name
        proposal = self._proposer.propose(self._context(progress, head))
        if proposal is None:
            nothing = Draft(kind=Kind.EXHAUSTED, proposer=proposer, parent=head, tree=head, change="nothing")
            return self._experimenter(progress).exhausted(nothing)
        draft = Draft(
            kind=Kind.PROPOSAL, proposer=proposer, parent=head, tree=proposal.tree, change=proposal.change, mechanism=proposal.mechanism
        )
        return self._experimenter(progress).compare(draft, progress.climb_seeds)

    def _confirm(self, progress: Progress) -> Experiment:
        """Compare the head with the king on unseen seeds."""
        king, head = self._ledger.tree(progress.reign.king), self._ledger.tree(progress.branch[-1])
        return self._experimenter(progress).confirm(
            Draft(kind=Kind.CONFIRM, parent=king, tree=head, change="the whole branch against the king")
        )

    def _experimenter(self, progress: Progress) -> Experimenter:
        return Experimenter(
            ledger=self._ledger, bench=self._bench, progress=progress, rule=self._rule, started_cpu_s=self._ledger.cpu_seconds()
        )

    def _progress(self, reign: Reign) -> Progress:
        return Progress(ledger=self._ledger, reign=reign, budget=self._budget, sigma=self._bench.rules.crown.sigma, rule=self._rule)

    def _context(self, progress: Progress, head: RecipeTree) -> Context:
        number, reign = len(progress.experiments), progress.reign
        return Context(
            head=head,
            king=self._ledger.tree(reign.king),
            knobs=knobs.read(head),
            trials=tuple(self._trial(experiment) for experiment in self._ledger.experiments() if experiment.kind is Kind.PROPOSAL),
            tried=frozenset({reign.king, *(experiment.tree for experiment in progress.experiments)}),
            reign=reign.number,
            noise_bpb=progress.scatter.sd,
            seed=int.from_bytes(digest(PROPOSAL_TAG, {"seed": self._seed, "reign": reign.number, "experiment": number})[:8], "little"),
        )

    def _trial(self, experiment: Experiment) -> Trial:
        key = (experiment.parent, experiment.tree)
        if key not in self._changes:
            self._changes[key] = knobs.changes(self._ledger.tree(experiment.parent), self._ledger.tree(experiment.tree))
        return Trial(
            reign=experiment.reign,
            changes=self._changes[key],
            gain_bpb=experiment.gain_bpb,
            standard_error_bpb=experiment.standard_error_bpb or 0.0,
            kept=experiment.decision is Decision.KEEP,
        )
