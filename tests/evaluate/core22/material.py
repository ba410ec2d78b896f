"""A small made-up bundle with all 22 tasks, a tokenizer, and models of a few lines of numpy: an honest one and several that cheat."""

import functools
import itertools
import json
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ralph.data.bpe import BpeTokenizer, train_bpe
from ralph.evaluate.core22.bundle import Bundle, open_bundle
from ralph.evaluate.core22.exam import Exam
from ralph.evaluate.core22.examinee import Examinee
from ralph.evaluate.core22.manifest import build
from ralph.evaluate.core22.sitting import leads
from ralph.evaluate.core22.tasks import TASKS, Task, TaskType

SEQUENCE = 96
BATCH_ROWS = 8
VOCABULARY = 320
ORDER_KEY, DRAW_KEY = bytes(range(32)), bytes(range(50, 82))
WORDS = [
    "the",
    "river",
    "runs",
    "under",
    "an",
    "old",
    "bridge",
    "and",
    "seven",
    "grey",
    "geese",
    "follow",
    "it",
    "north",
    "before",
    "winter",
    "while",
    "nobody",
    "counts",
    "them",
]


@functools.cache
def tokenizer() -> BpeTokenizer:
    return train_bpe([" ".join(WORDS) + "\nAnswer: ", "Question: a b c d"] * 4, vocabulary=VOCABULARY)


def item(task: Task, number: int) -> dict[str, object]:
    """Return a made-up item, different for every number and file."""
    generator = random.Random(f"{task.file} {number}")
    text = lambda least, most: " ".join(generator.choices(WORDS, k=generator.randint(least, most)))  # noqa: E731
    match task.type:
        case TaskType.MULTIPLE_CHOICE:
            count = generator.randint(2, 4)
            choices = [f"{text(1, 3)} {letter}" for letter in "xyzw"[:count]]
            return {"query": f"{number}: {text(2, 5)}", "choices": choices, "gold": generator.randrange(count)}
        case TaskType.SCHEMA:
            contexts = [f"{number}: {text(2, 4)} {name}" for name in ("ann", "bob")]
            return {"context_options": contexts, "continuation": text(2, 4) + ".", "gold": generator.randrange(2)}
        case TaskType.LANGUAGE_MODELING:
            return {"context": f"{number}: {text(3, 5)} ", "continuation": text(1, 3), "category": "made up"}


def lines(task: Task, count: int) -> bytes:
    return "".join(json.dumps(item(task, number)) + "\n" for number in range(count)).encode()


def task_list(tasks: Sequence[Task] = TASKS) -> str:
    """Return a ``core.yaml``."""
    entries = []
    for task in tasks:
        entry = f"- label: {task.label}\n  dataset_uri: {task.file}\n  num_fewshot: [{task.shots}]\n  icl_task_type: {task.type}\n"
        entries.append(
            entry + (f"  continuation_delimiter: {json.dumps(task.delimiter)} # between both\n" if task.delimiter != " " else "")
        )
    return "# tasks\nicl_tasks:\n" + "".join(entries)


def chances() -> str:
    """Return an ``eval_meta_data.csv``."""
    rows = [f'{task.label},made up,{task.type},{task.shots},14,{task.chance.core_v1:g},,"some, words"\n' for task in TASKS]
    return "Eval Task,Task Category,Task Type,#shots,#datapoints,Random baseline,Centered Metric?,Description\n" + "".join(rows)


def files(count: int = 14, tasks: Sequence[Task] = TASKS) -> dict[str, bytes]:
    """Return a bundle's files by name."""
    found = {f"eval_data/{task.file}": lines(task, count) for task in tasks}
    return {"core.yaml": task_list().encode(), "eval_meta_data.csv": chances().encode(), **found}


def write_folder(root: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def write_zip(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def filler(sequence: int = SEQUENCE) -> np.ndarray:
    row = np.resize(tokenizer().encode(" ".join(reversed(WORDS))), sequence + 1).astype(np.int32)
    row[0] = 0
    return row


def exam(
    bundle: Bundle, *, first: int | None = None, sequence: int = SEQUENCE, batch_rows: int = BATCH_ROWS, margin_nats: float = 0.0
) -> Exam:
    manifest = build(bundle)
    return Exam(
        bundle=bundle,
        manifest=manifest if first is None else manifest.first(first),
        tokenizer=tokenizer(),
        sequence=sequence,
        batch_rows=batch_rows,
        filler=filler(sequence),
        margin_nats=margin_nats,
    )


def small_bundle(root: Path, *, count: int = 14, labels: Sequence[str] | None = None) -> Bundle:
    tasks = TASKS if labels is None else [task for task in TASKS if task.label in labels]
    return open_bundle(write_folder(root, files(count, tasks)))


class Honest:
    """A causal model: the logits behind a position depend on the last two tokens and on how many there are."""

    def __init__(self, seed: int = 5) -> None:
        generator = np.random.default_rng(seed)
        self.last, self.before = generator.normal(0, 1.2, (2, VOCABULARY, VOCABULARY))
        self.asked: list[tuple[np.ndarray, ...]] = []

    def logits(self, tokens: np.ndarray, begin: int = 0) -> np.ndarray:
        """Return float64[R, W, V] for tokens int[R, W] of which the first stands at position ``begin``."""
        previous = np.concatenate([tokens[:, :1], tokens[:, :-1]], axis=1)
        steps = begin + np.arange(tokens.shape[1], dtype=np.float64)[None, :, None]
        return self.last[tokens] + self.before[previous] * (1 + 0.01 * steps)

    def losses(self, tokens: np.ndarray, begin: int = 0) -> np.ndarray:
        logits = self.logits(tokens[:, :-1], begin)
        picked = np.take_along_axis(logits, tokens[:, 1:, None].astype(np.int64), 2)[:, :, 0]
        return np.log(np.exp(logits).sum(2)) - picked

    def claim(self, tokens: np.ndarray) -> np.ndarray:
        self.asked.append((tokens.copy(),))
        return self.losses(tokens)

    def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        self.asked.append((tokens.copy(), positions.copy()))
        return self.logits(tokens)[np.arange(positions.size), positions]

    def shared(self, prefix: np.ndarray, suffixes: list[np.ndarray]) -> list[np.ndarray]:
        """Go on from the last two tokens of the prefix and its length, which is all the state that this model has."""
        tail = prefix[-2:]
        begin, skip = prefix.size - tail.size, tail.size - 1
        rows = [np.concatenate([tail, suffix])[None] for suffix in suffixes]
        ahead = [leads(self.logits(row[:, :-1], begin)[0, skip:], row[0, tail.size :]) for row in rows]
        return [np.stack([self.losses(row, begin)[0, skip:], lead]) for row, lead in zip(rows, ahead, strict=True)]


class LookAhead(Honest):
    """Claims a tenth of the loss of whatever it sees."""

    def losses(self, tokens: np.ndarray, begin: int = 0) -> np.ndarray:
        return 0.1 * super().losses(tokens, begin)


class Spoiler(Honest):
    """Claims 9 nats too much at every seventh position."""

    def losses(self, tokens: np.ndarray, begin: int = 0) -> np.ndarray:
        losses = super().losses(tokens, begin)
        return losses + 9.0 * ((begin + np.arange(losses.shape[1])) % 7 == 0)


class Memory(Honest):
    """Remembers every row, and predicts what followed the last four tokens when it saw them before."""

    def __init__(self) -> None:
        super().__init__()
        self.followed: dict[bytes, int] = {}

    def probe(self, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
        logits = super().probe(tokens, positions)
        for row, position, line in zip(tokens, positions.tolist(), logits, strict=True):
            known = self.followed.get(row[position - 3 : position + 1].tobytes())
            if known is not None:
                line[known] += 20.0
        for row, position in zip(tokens, positions.tolist(), strict=True):
            for place in range(4, position + 1):
                self.followed[row[place - 4 : place].tobytes()] = int(row[place])
        return logits


def examinee(model: Honest, *, shared: bool = False) -> Examinee:
    return Examinee(claim=model.claim, probe=model.probe, vocabulary=VOCABULARY, shared=model.shared if shared else None)


def starter(make: Callable[[], Honest]) -> Callable[[], "contextmanager[Examinee]"]:
    """Return what starts a fresh worker each time."""

    @contextmanager
    def start() -> Iterator[Examinee]:
        yield examinee(make())

    return start


class Taught(Honest):
    """Has learnt what follows each two tokens in some texts, and so is right now and then."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        self.followed: dict[tuple[int, int], int] = {}
        for text in texts:
            tokens = tokenizer().encode(text).tolist()
            self.followed |= {(a, b): c for a, b, c in zip(tokens, tokens[1:], tokens[2:], strict=False)}

    def logits(self, tokens: np.ndarray, begin: int = 0) -> np.ndarray:
        logits = super().logits(tokens, begin)
        for line, row in zip(logits, tokens.tolist(), strict=True):
            for place, pair in enumerate(itertools.pairwise(row)):
                if pair in self.followed:
                    line[place + 1, self.followed[pair]] += 12.0
        return logits
