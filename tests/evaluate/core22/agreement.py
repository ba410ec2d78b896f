"""Item-by-item agreement with the reference on the public data, with a random two-layer transformer.

``agree`` is what the test calls for a few items and a benchmark may call for a hundred.
"""

import bz2
import gzip
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ralph.data.bpe import BpeTokenizer, train_bpe
from ralph.evaluate.core22.bundle import Bundle, open_bundle
from ralph.evaluate.core22.exam import Exam
from ralph.evaluate.core22.examinee import Examinee
from ralph.evaluate.core22.manifest import build
from ralph.evaluate.core22.results import Result, grade
from ralph.evaluate.core22.sitting import sit
from tests.evaluate.core22.reference import Reference, definitions

VOCABULARY, WIDTH, HEADS, LAYERS = 1024, 32, 2, 2
KEY = bytes(range(7, 39))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.mix(nn.functional.layer_norm(x, (WIDTH,))).chunk(3, dim=-1)
        split = lambda part: part.unflatten(-1, (HEADS, -1)).transpose(1, 2)  # noqa: E731
        heads = nn.functional.scaled_dot_product_attention(split(query), split(key), split(value), is_causal=True)
        x = x + self.out(heads.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.relu(self.up(nn.functional.layer_norm(x, (WIDTH,)))).square())


class Transformer(nn.Module):
    """Random weights in float64, so that batches and padding move the last digits only."""

    def __init__(self, sequence: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(sequence, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.double().requires_grad_(False)

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return nn.functional.layer_norm(x, (WIDTH,))

    def row(self, tokens: list[int]) -> torch.Tensor:
        return self.head(self.hidden(torch.tensor([tokens]))[0])

    def claim(self, rows: np.ndarray) -> np.ndarray:
        tokens = torch.from_numpy(rows.astype(np.int64))
        logits = self.head(self.hidden(tokens[:, :-1]))
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(len(rows), -1).numpy()

    def probe(self, prefixes: np.ndarray, positions: np.ndarray) -> np.ndarray:
        hidden = self.hidden(torch.from_numpy(prefixes.astype(np.int64)))
        return self.head(hidden[torch.arange(len(positions)), torch.from_numpy(positions.astype(np.int64))]).numpy()


@dataclass(kw_only=True)
class TaskAgreement:
    """One task: how many items, how many right, and the largest differences from the reference."""

    label: str
    items: int = 0
    right: int = 0
    other_verdicts: list[int] = field(default_factory=list)
    worst_nats: float = 0.0
    worst_margin: float = 0.0
    other_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Agreement:
    result: Result
    tasks: list[TaskAgreement]
    package_s: float
    reference_s: float


def public_bundle(raw: Path, root: Path) -> Bundle:
    """Lay out the public files as a bundle; HellaSwag and SQuAD are converted from their authors' formats."""
    shutil.copytree(raw / "data", root / "eval_data")
    shutil.copyfile(raw / "mmlu_and_lowvar.yaml", root / "core.yaml")
    shutil.copyfile(raw / "eval_meta_data_v1.csv", root / "eval_meta_data.csv")
    for name, items in (("language_understanding/hellaswag", _hellaswag(raw)), ("reading_comprehension/squad", _squad(raw))):
        text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        (root / f"eval_data/{name}.jsonl").write_text(text, encoding="utf-8")
    return open_bundle(root)


def public_tokenizer() -> BpeTokenizer:
    """Train a small tokenizer on the documents of this repository."""
    documents = sorted((Path(__file__).resolve().parents[3] / "docs").rglob("*.md"))
    return train_bpe([path.read_text(encoding="utf-8") for path in documents], vocabulary=VOCABULARY)


def agree(raw: Path, root: Path, *, first: int, sequence: int = 1024, batch_rows: int = 16) -> Agreement:
    """Compare the package with the reference on the first items of every task that is there.

    Args:
        raw: The public files.
        root: An empty folder for the bundle.
        first: Items of each task.
        sequence: T.
        batch_rows: Rows of a batch.
    """
    torch.set_num_threads(1)
    bundle, tokenizer, model = public_bundle(raw, root), public_tokenizer(), Transformer(sequence)
    filler = np.resize(tokenizer.encode("Text that has to do with nothing. " * 50), sequence + 1).astype(np.int32)
    manifest = build(bundle).first(first)
    exam = Exam(bundle=bundle, manifest=manifest, tokenizer=tokenizer, sequence=sequence, batch_rows=batch_rows, filler=filler)
    begin = time.process_time()
    answers = sit(exam, Examinee(claim=model.claim, probe=model.probe, vocabulary=VOCABULARY), key=KEY)
    result = grade(answers, absent=manifest.absent)
    middle = time.process_time()
    listed = definitions((raw / "mmlu_and_lowvar.yaml").read_text(encoding="utf-8"))
    tasks = []
    for task in result.tasks:
        definition = listed[task.entry.task.label]
        reference = Reference(definition, root / "eval_data" / definition.file, tokenizer.to_bytes(), sequence + 1)
        found = TaskAgreement(label=task.entry.task.label)
        for number in range(len(task.entry.items)):
            expected = reference.outcome(number, model.row)
            found.items += 1
            found.right += expected.correct
            found.other_bytes += expected.gold_bytes != int(task.gold_bytes[number])
            found.worst_nats = max(found.worst_nats, abs(expected.gold_nats - float(task.gold_nats[number])))
            if expected.correct != bool(task.correct[number]):
                found.other_verdicts.append(number)
            if expected.margin is not None and task.margins is not None:
                found.worst_margin = max(found.worst_margin, abs(expected.margin - float(task.margins[number])))
        tasks.append(found)
    return Agreement(result=result, tasks=tasks, package_s=middle - begin, reference_s=time.process_time() - middle)


def _hellaswag(raw: Path) -> Iterator[dict[str, object]]:
    lines = bz2.decompress((raw / "raw/hellaswag_val_full.txt.bz2").read_bytes()).decode("utf-8").split("\n")
    for place in range(0, len(lines) - 5, 6):
        yield {"query": lines[place], "choices": lines[place + 2 : place + 6], "gold": int(lines[place + 1])}


def _squad(raw: Path) -> Iterator[dict[str, object]]:
    data = json.loads(gzip.decompress((raw / "raw/squad_dev_v1.1_subset24articles.json.gz").read_bytes()))
    for article in data["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                context = f"Context: {paragraph['context']}\nQuestion: {question['question']}\nAnswer:"
                yield {"context": context, "continuation": question["answers"][0]["text"]}
