"""The first phase: all questions of an exam are put to one worker, and its answers are frozen.

Options of multiple-choice and schema items are whole rows, and one number per token comes back, as in ``ralph.evaluate.claims``.
Language modelling is asked by prefix: for every token of the answer the worker gets what precedes it, and the host takes the largest
of the logits that come back. Both leave the same thing behind, a loss per scored token, which ``audit`` then checks elsewhere.

A worker that can continue a prefix (``SharedClaim``) is asked once for each item: the options' common prefix is computed once, and
of a language-modelling answer the worker claims for every token how far ahead it is. That shows it the answer, as rows show it those of
other items; both are claims that its prefixes must give again.

What a hostile worker can learn here, and what it can do with it:

- A row shows an answer and everything before it, so a claim may look ahead. It is worth nothing until it is audited.
- No row says which option is right: options are rows of the same kind, in batches of one shape, in an order that follows from a key;
  the order of the options that ``SharedClaim`` gets is shuffled as well. The items themselves are public, and a model that was
  trained on the answers knows them. No audit finds that out; hidden items of the same kind do.
- The examples of one question are other questions with their answers. A worker that remembers rows meets many items again, solved,
  and CoQA's contexts hold the answers to the questions before. So the same worker's probes are not proof either: the losses of
  language modelling are claims as well until a worker that has seen none of this gives the same.
- A prefix never holds the token that it predicts, nor a later one; a longer prefix of an item follows the answers to the shorter ones.

Prompts and rows exist for ``WINDOW`` items at a time and one task's items are in memory; what stays is 8 bytes per scored token and a
few numbers per item.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ralph.evaluate import claims, probes
from ralph.evaluate.cells import Cells, Floats, Integers
from ralph.evaluate.core22.exam import Answers, Exam
from ralph.evaluate.core22.examinee import Examinee, SharedClaim
from ralph.evaluate.core22.manifest import TaskEntry, load
from ralph.evaluate.core22.questions import Option, Question, common_prefix
from ralph.evaluate.core22.tasks import TaskType
from ralph.evaluate.draw import permutation
from ralph.protocol.canonical import digest

WINDOW = 256
"""Items whose rows are shuffled together."""
WINDOW_TAG = "recipe-net/core22/window/v1"
ORDER = "order of items"
OPTIONS = "order of options"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Answered:
    """What stays of one item: scored tokens per option, and the losses and hits of all of them."""

    lengths: list[int]
    gold: int
    gold_bytes: int
    losses: Floats
    hits: NDArray[np.bool_] | None


Progress = Callable[[int, int, str], None]
"""Gets tasks done, tasks in all, and the label of the next one."""


def silent(done: int, total: int, label: str) -> None:
    """Report nothing."""


def sit(exam: Exam, examinee: Examinee, *, key: bytes, progress: Progress = silent) -> tuple[Answers, ...]:
    """Put every question of the exam to a worker and freeze its answers, in the order of the manifest's tasks.

    Args:
        exam: The questions.
        examinee: The worker.
        key: 32 secret bytes; they fix the order of everything that is asked, so the same key asks the same again.
        progress: Called before each task.

    Raises:
        UntrustedInputError: ``RUN-SHAPE`` or ``RUN-NAN``, answers that are none.
    """
    exam.admit(examinee)
    answers = []
    for number, entry in enumerate(exam.manifest.entries):
        progress(number, len(exam.manifest.entries), entry.task.label)
        answers.append(_sit_task(exam, entry, examinee, key))
    return tuple(answers)


def span_cells(cells: Cells, options: Sequence[Option]) -> Integers:
    """Return the cells of the scored tokens, where ``cells`` numbers all tokens of the options' rows."""
    spans = [
        np.arange(first + option.start - 1, first + option.tokens.size - 1)
        for first, option in zip(cells.offsets[:-1].tolist(), options, strict=True)
    ]
    return np.concatenate(spans).astype(np.int64)


def _sit_task(exam: Exam, entry: TaskEntry, examinee: Examinee, key: bytes) -> Answers:
    items, label = load(exam.bundle, entry), entry.task.label
    order = permutation(key, f"{ORDER} of {label}", len(entry.items)).tolist()
    answered: dict[int, _Answered] = {}
    for start in range(0, len(order), WINDOW):
        indices = order[start : start + WINDOW]
        questions = [exam.ask(entry, items, index) for index in indices]
        fresh = digest(WINDOW_TAG, {"key": key, "task": label, "window": start})
        answered.update(zip(indices, _answer(exam, entry.task.type, questions, examinee, fresh), strict=True))
    return _freeze(exam, entry, [answered[index] for index in range(len(entry.items))])


def _answer(exam: Exam, kind: TaskType, questions: list[Question], examinee: Examinee, key: bytes) -> Iterator[_Answered]:
    """Put some items to a worker: in one request each where it can continue a prefix and the options have one, else in batches of rows."""
    by_rows = _by_prefix if kind is TaskType.LANGUAGE_MODELING else _by_claim
    lengths = [_common(question) if examinee.shared is not None else 0 for question in questions]
    apart = [question for question, length in zip(questions, lengths, strict=True) if not length]
    found = by_rows(exam, apart, examinee, key) if apart else iter(())
    for number, (question, length) in enumerate(zip(questions, lengths, strict=True)):
        if examinee.shared is not None and length:
            order = permutation(key, f"{OPTIONS} {number}", len(question.options))
            losses, ahead = _continued(question, length, examinee, examinee.shared, order)
            hits = ahead > exam.margin_nats if exam.margin_nats > 0 else ahead >= 0
            yield _answered(exam, question, losses, hits if kind is TaskType.LANGUAGE_MODELING else None)
        else:
            yield next(found)


def _by_claim(exam: Exam, questions: list[Question], examinee: Examinee, key: bytes) -> Iterator[_Answered]:
    """Claims on the rows of all options."""
    options = [option for question in questions for option in question.options]
    spans = iter(_claimed(exam, options, examinee, key))
    for question in questions:
        yield _answered(exam, question, np.concatenate([next(spans) for _ in question.options]), None)


def leads(logits: Floats, targets: NDArray[np.integer]) -> Floats:
    """Return by how much the logit of each target is ahead of all others of its row, below 0 where it is behind: float64[K]."""
    others = logits.copy()
    lines = np.arange(targets.size)
    others[lines, targets] = -np.inf
    ahead: Floats = logits[lines, targets] - others.max(axis=1)
    return ahead


def _claimed(exam: Exam, options: list[Option], examinee: Examinee, key: bytes) -> list[Floats]:
    rows = exam.rows(options)
    claimed: list[Floats] = [np.zeros(0)] * len(options)
    for chosen, losses in claims.answers(examinee.claims, rows, batch_rows=exam.batch_rows, key=key):
        for number, line in zip(chosen.tolist(), losses, strict=True):
            claimed[number] = line[options[number].start - 1 : options[number].tokens.size - 1].copy()
    return claimed


def _common(question: Question) -> int:
    """Return how many tokens precede all that is scored and are the same in all options. Where rows were cropped it may be none."""
    options = question.options
    return min(common_prefix([option.tokens for option in options]), *(option.start for option in options))


def _continued(question: Question, length: int, examinee: Examinee, shared: SharedClaim, order: Integers) -> tuple[Floats, Floats]:
    """Claims on what follows the options' common prefix, asked in another order than the item's: losses and leads of the scored tokens."""
    options = question.options
    suffixes = [options[place].tokens[length:] for place in order]
    claimed = examinee.suffix_claims(shared, options[0].tokens[:length], suffixes)
    placed = dict(zip(order.tolist(), claimed, strict=True))
    losses, ahead = np.concatenate([placed[place][:, -option.scored :] for place, option in enumerate(options)], axis=1)
    return losses, ahead


def _by_prefix(exam: Exam, questions: list[Question], examinee: Examinee, key: bytes) -> Iterator[_Answered]:
    """Losses and largest logits of every token of the answers, each asked by what precedes it."""
    options = [question.options[0] for question in questions]
    rows = exam.rows(options)
    wanted = span_cells(Cells.of(rows.lengths), options)
    losses, hits = np.empty(wanted.size), np.empty(wanted.size, np.bool_)
    shape = {"batch_rows": exam.batch_rows, "multiple": exam.probe_multiple}
    for batch, targets, logits in probes.answers(examinee.logits, rows, wanted, key=key, **shape):
        places = np.searchsorted(wanted, batch)
        losses[places] = probes.losses(logits, targets)
        hits[places] = leads(logits, targets) > exam.margin_nats if exam.margin_nats > 0 else logits.argmax(axis=1) == targets
    ends = np.cumsum([option.scored for option in options])[:-1]
    for question, found, right in zip(questions, np.split(losses, ends), np.split(hits, ends), strict=True):
        yield _answered(exam, question, found.copy(), right.copy())


def _answered(exam: Exam, question: Question, losses: Floats, hits: NDArray[np.bool_] | None) -> _Answered:
    right = question.options[question.gold]
    return _Answered(
        lengths=[option.scored for option in question.options],
        gold=question.gold,
        gold_bytes=int(exam.tokenizer.token_bytes[right.tokens[right.start :]].sum(dtype=np.int64)),
        losses=losses,
        hits=hits,
    )


def _freeze(exam: Exam, entry: TaskEntry, answered: list[_Answered]) -> Answers:
    options = np.concatenate([[0], np.cumsum([len(one.lengths) for one in answered])]).astype(np.int64)
    losses = np.concatenate([one.losses for one in answered])
    losses.flags.writeable = False
    known = [one.hits for one in answered if one.hits is not None]
    hits = np.concatenate(known) if known else None
    if hits is not None:
        hits.flags.writeable = False
    return Answers(
        entry=entry,
        options=options,
        gold=options[:-1] + np.array([one.gold for one in answered], np.int64),
        gold_bytes=np.array([one.gold_bytes for one in answered], np.int64),
        cells=Cells.of(np.concatenate([one.lengths for one in answered])),
        losses=losses,
        hits=hits,
        margin_nats=exam.margin_nats,
    )
