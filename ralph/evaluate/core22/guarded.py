"""The examination that the Rules guard with: the named items of the public bundle, refused where they are others or too few."""

from dataclasses import dataclass, field
from pathlib import Path

from ralph.data.tokenizer import Tokenizer
from ralph.errors import ConfigurationError
from ralph.evaluate.cells import Tokens
from ralph.evaluate.core22.bundle import open_bundle
from ralph.evaluate.core22.drawing import AuditRules
from ralph.evaluate.core22.exam import Exam
from ralph.evaluate.core22.examining import Examination
from ralph.evaluate.core22.items import CODE
from ralph.evaluate.core22.manifest import ItemSource, Manifest, TaskEntry, build
from ralph.protocol.scoring_rules import ExamRules, TaskGuard

NAME = "tasks"


def audit_rules(rules: ExamRules) -> AuditRules:
    """Return how exams are audited."""
    return AuditRules(uniform=rules.uniform_options, weighted=rules.weighted_options, tau_nats=rules.tau_nats)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the rows of an exam are made.

    Args:
        tokenizer: The track's.
        sequence: T of the decision rung.
        batch_rows: Rows of every batch.
        filler: int32[T+1] of unrelated public text.
    """

    tokenizer: Tokenizer
    sequence: int
    batch_rows: int
    filler: Tokens = field(repr=False)


def audited_examination(
    name: str, bundle: ItemSource, manifest: Manifest, setting: Setting, rules: ExamRules, *, together: str | None = None
) -> Examination:
    """Return an examination on named items, by whose answers only what an audit can see counts."""
    audited = audit_rules(rules)
    exam = Exam(
        bundle=bundle,
        manifest=manifest,
        tokenizer=setting.tokenizer,
        sequence=setting.sequence,
        batch_rows=setting.batch_rows,
        filler=setting.filler,
        margin_nats=audited.margin_nats,
    )
    return Examination(name=name, exam=exam, rules=audited, together=together)


def task_examination(path: Path, guard: TaskGuard, rules: ExamRules, setting: Setting) -> Examination:
    """Open the bundle and return the examination that its guard names.

    Args:
        path: Folder or zip file of the bundle.
        guard: Which items.
        rules: How they are audited.
        setting: How rows are made.

    Raises:
        ConfigurationError: ``OPS-DATA``, the bundle has other items, or a task too few to be audited.
    """
    bundle = open_bundle(path)
    manifest = build(bundle).only(guard.tasks).first(guard.items)
    if manifest.digest() != guard.manifest:
        detail = f"{path} holds items with manifest {manifest.digest().hex()}, the Rules name {guard.manifest.hex()}"
        raise ConfigurationError(f"{detail}; `ralph core show` prints what a bundle holds", code=CODE)
    narrow = [entry.task.label for entry in manifest.entries if not has_room(entry, rules)]
    if narrow:
        raise ConfigurationError(f"too few items to audit {', '.join(narrow)}: leave them out of the guarded tasks", code=CODE)
    return audited_examination(NAME, bundle, manifest, setting, rules)


def guard_of(manifest: Manifest, *, tasks: tuple[str, ...], items: int) -> TaskGuard:
    """Return the guard over the first items of some tasks."""
    chosen = manifest.only(tasks).first(items)
    return TaskGuard(manifest=chosen.digest(), tasks=tuple(entry.task.label for entry in chosen.entries), items=items)


def auditable(manifest: Manifest, rules: ExamRules) -> tuple[str, ...]:
    """Return the labels of the tasks that have enough items for their probes."""
    return tuple(entry.task.label for entry in manifest.entries if has_room(entry, rules))


def has_room(entry: TaskEntry, rules: ExamRules) -> bool:
    """Return whether as many items as are probed can be asked beside each other, with the examples of all in nobody's way."""
    return len(entry.items) >= rules.uniform_options and entry.pool >= rules.uniform_options * (1 + entry.task.shots)
