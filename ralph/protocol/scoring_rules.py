"""Rules of scoring: what models are measured on, how claims are audited, and what a challenger may not lose. A part of ``Rules``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ralph.protocol.canonical import U64, Canonical, Digest, Real
from ralph.protocol.pool import Subset

PRIVATE_ITEMS = "private-hard"
"""What the private items are called beside the public tasks."""
GuardKind = Literal["source", "answers", "gold"]


class ToleranceRules(Canonical):
    """How far claims and probes of an honest model may be apart on one kind of device."""

    TAG: ClassVar[str] = "recipe-net/rules/tolerance/v1"

    device: Literal["cpu", "cuda"]
    tau_nats: Real
    """A claim that its probe misses by more is an exceedance."""
    share: Real
    """Exceedances of honest models, as a share of all probes; the king's own share counts where it is higher."""
    level: Real
    """Probability that so many exceedances come from an honest model, below which they are doubted."""
    worst_nats: Real
    """No honest claim is missed by more."""
    rms_nats: Real
    """Limit on the root mean square of the mismatches over uniform draws: twice the honest one."""
    probe_multiple: Annotated[U64, Field(ge=1)]
    """Prefixes are filled up to a multiple of so many tokens, or to the claims' length where that is less."""


class EvaluationRules(Canonical):
    """Claim-then-audit."""

    TAG: ClassVar[str] = "recipe-net/rules/evaluation/v1"

    uniform_cells: U64
    weighted_cells: U64
    batch_rows: U64
    """Rows of every batch, of claims and probes alike."""
    tolerances: tuple[ToleranceRules, ...]
    """One for each kind of device."""
    published_decimals: U64
    """Of bits per byte in a Measurement. A worker could write hidden text into digits that nobody needs."""
    max_cost_ratio: Real
    """Most processor time that scoring a challenger may take, as a multiple of the king's on the same documents and machine. Far above what
    honest models differ by: it bounds computing at test time and decides nothing else. 0 for no limit."""
    reviewed: tuple[Digest, ...] = ()
    """Code of recipes that maintainers have read: models of it are scored exactly, without probes."""

    def tolerance(self, device: str) -> ToleranceRules:
        """Return the tolerance on a kind of device. Raises KeyError when the Rules have none."""
        for tolerance in self.tolerances:
            if tolerance.device == device:
                return tolerance
        raise KeyError(device)


class HiddenRules(Canonical):
    """Which hidden documents runs are scored on, and for how long: every rotation and every crown has its own."""

    TAG: ClassVar[str] = "recipe-net/rules/hidden/v1"

    rotation_rounds: Annotated[U64, Field(ge=1)]
    """Rounds that one rotation lasts: rotation k begins with round k x this."""
    screen: Annotated[U64, Field(ge=1)]
    """Documents of shard ``screen`` in a rotation: screen and filter runs are scored on them."""
    confirm: Annotated[U64, Field(ge=1)]
    """Documents of shard ``confirm`` in a rotation: proof runs and the king's pool are scored on them."""
    audit: Annotated[U64, Field(ge=1)]
    """Documents of shard ``audit`` in a rotation. They decide nothing."""
    crown: U64
    """Further documents of ``confirm`` that each crown seals to the king's record; fewer where the shard has no more."""
    agreement_level: Real
    """Two-sided probability with which two honest sub-pools agree about a challenger. Where they do not, his crown is held."""
    watched_runs: Annotated[U64, Field(ge=2)]
    """Runs of a king, and of the king before him on the same seeds, that are scored on ``audit`` and on what the crown sealed."""

    def count(self, subset: Subset) -> int:
        """Return how many documents a subset has; of a crown's the most."""
        if subset.crown is not None:
            return self.crown
        return {"screen": self.screen, "confirm": self.confirm, "audit": self.audit}[subset.shard]


class TaskGuard(Canonical):
    """Public downstream tasks that are guarded."""

    TAG: ClassVar[str] = "recipe-net/rules/task-guard/v1"

    manifest: Digest
    """Digest of the manifest of the items that are asked; ``ralph core show`` prints it."""
    tasks: tuple[str, ...]
    """Labels, in the order of the public list."""
    items: Annotated[U64, Field(ge=1)]
    """Items of each task: the first ones, or all where there are fewer."""


class PrivateGuard(Canonical):
    """Items that were never published and are guarded together."""

    TAG: ClassVar[str] = "recipe-net/rules/private-guard/v1"

    commitment: Digest
    """Digest of the PoolCommitment to the items; they are with the measuring validator only."""
    items: Annotated[U64, Field(ge=1)]
    """Items that are asked in one rotation, drawn from the committed ones."""


class GuardRules(Canonical):
    """On what a challenger may not be worse, whatever it gains elsewhere."""

    TAG: ClassVar[str] = "recipe-net/rules/guards/v1"

    sources: tuple[str, ...]
    """Sources of text that are guarded, sorted."""
    source_margin_sigmas: Real
    """What it may lose on one source of text, in sigma."""
    min_documents: U64
    """A validator whose pool has fewer documents of a guarded source does not start: nothing could be said of it."""
    level: Real
    """Of the one-sided interval."""
    resamples: U64
    tasks: TaskGuard | None = None
    """Public downstream tasks; none by default."""
    private_items: PrivateGuard | None = None
    """Private items; none by default."""

    @property
    def exams(self) -> tuple[str, ...]:
        """Return what is examined beside the hidden text: the tasks, then the private items together."""
        tasks = () if self.tasks is None else self.tasks.tasks
        return tasks if self.private_items is None else (*tasks, PRIVATE_ITEMS)

    @property
    def parts(self) -> tuple[tuple[GuardKind, str], ...]:
        """Return every part of the test that is guarded, in the order of its guards."""
        sources: tuple[tuple[GuardKind, str], ...] = tuple(("source", name) for name in self.sources)
        kinds: tuple[GuardKind, ...] = ("answers", "gold")
        return (*sources, *((kind, name) for name in self.exams for kind in kinds))


class ExamRules(Canonical):
    """How the items of guarded tasks are asked, audited and compared. Without such a guard nothing here is used."""

    TAG: ClassVar[str] = "recipe-net/rules/exam/v1"

    uniform_options: Annotated[U64, Field(ge=1)]
    """Options of each task that are probed token by token, with the same chance for every item."""
    weighted_options: U64
    """Further ones, where the answers gain most on the king's; for the king himself as the first."""
    tau_nats: Real
    """Largest honest |claim - probe|. An item counts as right only where its answer is ahead by more than twice as much."""
    answers_margin: Real
    """What a challenger may lose of the right answers to one task, as a part of its items."""
    gold_margin_bpb: Real
    """What it may lose in bits per byte on the right answers of one task, whether it finds them or not."""
    published_decimals: U64
    """Of accuracies and bits per byte in a Measurement."""
