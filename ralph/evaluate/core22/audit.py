"""The second phase: a worker that has seen nothing of the first gives the losses of some options again, by prefix alone.

Per task, some options are drawn so that every item has the same chance, and some where it pays most to lie: in proportion to what each
moves its item towards "right" against a reference, the king. Losses below zero, which no distribution has, are not left to
chance. The key is made after the answers are frozen, and the draw is bound to them. Every scored token of a drawn option is probed,
a later one only after the answer to the earlier.

What is probed never stands, solved or begun, in another prefix that this worker gets (``drawing``), so a memory helps it nothing.
Tasks with few items therefore get fewer probes than asked for: repeat-copy, with 32 items and 10 examples each, about four. The tasks
with the least room come first, and one that gets no probe at all is named: ``Audit.unprobed``.

For a language-modelling token that was counted as the largest logit, the audit also asks that it is ahead of all others here: the same loss
can belong to other logits, and of several equal ones a worker that looks ahead could name the right one.

An exceedance is no fraud yet. On GPUs honest numbers differ, and machines fail: the caller decides how many are too many, has both
phases repeated (``repeat``), and ``accuse`` says whose fault it is, by the rule of ``ralph.evaluate.measure``.

Not promised: a lie about a share f of a task's items, each in one of its o options, escapes n uniform probes with probability
(1 - f/o)^n; only the weighted draws look where it pays, and they do not see a lie that claims no more than the reference has.
An item that is an example in many prompts is drawn a little less often than others. Lies within the tolerance are not seen; they turn no
item, because what is right must be ahead by twice the tolerance. CoQA's contexts hold answers to other questions on the same story; of two
such questions the one that is drawn may be given away by the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ralph.errors import ConfigurationError, InfrastructureError, UntrustedInputError
from ralph.evaluate import probes
from ralph.evaluate.cells import Cells
from ralph.evaluate.core22.drawing import AuditRules, Barred, Place, draw
from ralph.evaluate.core22.exam import Answers, Exam
from ralph.evaluate.core22.examinee import Examinee, Start
from ralph.evaluate.core22.items import Item
from ralph.evaluate.core22.manifest import ItemId, load
from ralph.evaluate.core22.sitting import leads, sit, span_cells
from ralph.evaluate.draw import KEY_BYTES
from ralph.protocol.canonical import digest

ORDER_TAG = "recipe-net/core22/probes/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One probed token: what was answered, and what its prefix alone gives.

    Args:
        item: The item it belongs to.
        place: The option that was drawn.
        cell: Its number among all cells of the task.
        claim: The frozen loss in nats.
        hit: Whether it was counted as the largest logit.
        truth: The loss on the prefix alone.
        lead_nats: How far its logit is ahead of all others on the prefix alone.
    """

    item: ItemId
    place: Place
    cell: int
    claim: float
    hit: bool
    truth: float
    lead_nats: float

    @property
    def mismatch_nats(self) -> float:
        """Return the difference of the losses."""
        return abs(self.claim - self.truth)

    @property
    def is_false_hit(self) -> bool:
        """Return whether it was counted as the largest logit and is not. Honest logits that were ahead by the margin still are."""
        return self.hit and self.lead_nats <= 0

    def exceeds(self, tau_nats: float) -> bool:
        """Return whether answer and prefix differ by more than an honest model's."""
        return self.mismatch_nats > tau_nats or self.is_false_hit


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the probes found.

    Args:
        cells: All that was probed.
        unprobed: Labels of tasks of which nothing could be probed; their answers are unchecked claims.
        tau_nats: The tolerance.
    """

    cells: tuple[Checked, ...] = field(repr=False)
    unprobed: tuple[str, ...]
    tau_nats: float

    @property
    def over(self) -> tuple[Checked, ...]:
        """Return the cells that differ by more than the tolerance."""
        return tuple(cell for cell in self.cells if cell.exceeds(self.tau_nats))

    @property
    def exceedances(self) -> int:
        """Return how many cells are over."""
        return len(self.over)


def audit(
    exam: Exam,
    answers: Sequence[Answers],
    examinee: Examinee,
    *,
    key: bytes,
    rules: AuditRules,
    reference: Sequence[Answers] | None = None,
) -> Audit:
    """Draw options of frozen answers and probe them in a fresh worker.

    Args:
        exam: The questions.
        answers: From ``sit``, by another worker.
        examinee: A worker that has seen nothing yet.
        key: 32 secret bytes that were made after the answers were frozen.
        rules: How many, and the tolerance.
        reference: The king's answers to the same exam, for the weighted draws.

    Raises:
        ConfigurationError: A key of another length, an exam whose margin the audit cannot see, or a reference that answers another one.
        UntrustedInputError: ``RUN-SHAPE`` or ``RUN-NAN``, logits that are none.
    """
    kings: Sequence[Answers | None] = reference if reference is not None else [None] * len(answers)
    if len(key) != KEY_BYTES or not _same_exam(answers, kings):
        raise ConfigurationError(f"a key of {len(key)} bytes, or a reference that answers another exam")
    if exam.margin_nats < rules.margin_nats:
        raise ConfigurationError(f"an exam with a margin of {exam.margin_nats:g} nats, its audit needs {rules.margin_nats:g}")
    exam.admit(examinee)
    barred = Barred()
    checked: list[Checked] = []
    for answer, king in sorted(zip(answers, kings, strict=True), key=lambda pair: _room(pair[0])):
        items = load(exam.bundle, answer.entry)
        places = draw(answer, items, key=key, rules=rules, reference=king, barred=barred)
        checked += _probe(exam, answer, items, places, examinee, key)
    probed = {cell.item.task for cell in checked}
    unprobed = tuple(answer.entry.task.label for answer in answers if answer.entry.task.label not in probed)
    return Audit(cells=tuple(checked), unprobed=unprobed, tau_nats=rules.tau_nats)


def repeat(exam: Exam, audited: Audit, *, start: Start, order_key: bytes, key: bytes) -> tuple[Checked, ...]:
    """Repeat both phases request by request in two fresh workers.

    Args:
        exam: The questions.
        audited: The first time.
        start: Starts a worker.
        order_key: The key of the first ``sit``.
        key: The key of the first ``audit``.

    Returns:
        The cells over the tolerance whose answer came back and differs from its prefix again: claims of the model, and false.
    """
    with start() as first:
        answers = sit(exam, first, key=order_key)
    again: dict[tuple[str, int], Checked] = {}
    with start() as second:
        for answer in sorted(answers, key=_room):
            label = answer.entry.task.label
            places = tuple(dict.fromkeys(cell.place for cell in audited.cells if cell.item.task == label))
            for cell in _probe(exam, answer, load(exam.bundle, answer.entry), places, second, key):
                again[label, cell.cell] = cell
    tau, repeated = audited.tau_nats, []
    for cell in audited.over:
        now = again[cell.item.task, cell.cell]
        if abs(now.claim - cell.claim) <= tau and now.hit == cell.hit and now.exceeds(tau):
            repeated.append(now)
    return tuple(repeated)


def accuse(audited: Audit, repeated: Sequence[Checked]) -> None:
    """Say whose fault the exceedances of an audit are, after ``repeat``.

    Raises:
        UntrustedInputError: ``FRD-CLAIM``, some came back: the model claims what it cannot reproduce.
        InfrastructureError: ``OPS-NUMERIC``, there are some and none came back.
    """
    if not audited.exceedances:
        return
    worst = max(audited.over, key=lambda cell: cell.mismatch_nats)
    detail = (
        f"{audited.exceedances} of {len(audited.cells)} probed tokens differ from their prefixes by more than {audited.tau_nats:g} nats,"
        f" the worst, of {worst.item.task} item {worst.item.index}, by {worst.mismatch_nats:.3g}; {len(repeated)} of them again in a replay"
    )
    if repeated:
        raise UntrustedInputError("FRD-CLAIM", detail)
    raise InfrastructureError(detail, code="OPS-NUMERIC")


def _probe(exam: Exam, answers: Answers, items: Sequence[Item], places: tuple[Place, ...], examinee: Examinee, key: bytes) -> list[Checked]:
    """Probe all tokens of some options of one task, each option in a row of its own."""
    if not places:
        return []
    options = [exam.ask(answers.entry, items, place.item).options[place.option] for place in places]
    rows = exam.rows(options)
    cells = Cells.of(rows.lengths)
    wanted = span_cells(cells, options)
    truths, ahead = np.empty(wanted.size), np.empty(wanted.size)
    fresh = digest(ORDER_TAG, {"key": key, "task": answers.entry.task.label})
    shape = {"batch_rows": exam.batch_rows, "multiple": exam.probe_multiple}
    for batch, targets, logits in probes.answers(examinee.logits, rows, wanted, key=fresh, **shape):
        found = np.searchsorted(wanted, batch)
        truths[found], ahead[found] = probes.losses(logits, targets), leads(logits, targets)
    row = cells.row(wanted)
    first = np.searchsorted(row, row)
    checked = []
    for number, (line, token) in enumerate(zip(row.tolist(), (np.arange(wanted.size) - first).tolist(), strict=True)):
        place = places[line]
        cell = int(answers.cells.offsets[place.row]) + token
        item = ItemId(task=answers.entry.task.label, index=place.item, sha256=answers.entry.items[place.item])
        checked.append(
            Checked(
                item=item,
                place=place,
                cell=cell,
                claim=float(answers.losses[cell]),
                hit=answers.hits is not None and bool(answers.hits[cell]),
                truth=float(truths[number]),
                lead_nats=float(ahead[number]),
            )
        )
    return checked


def _room(answers: Answers) -> float:
    """Return how many items a task has for each that a probe shows."""
    return answers.entry.pool / (1 + answers.entry.task.shots)


def _same_exam(answers: Sequence[Answers], kings: Sequence[Answers | None]) -> bool:
    return len(answers) == len(kings) and all(
        king is None or (king.entry == answer.entry and king.losses.size == answer.losses.size)
        for answer, king in zip(answers, kings, strict=True)
    )
