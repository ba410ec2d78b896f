"""CORE from its definition, as plainly as it can be written: one item at a time, no batches, no padding, nothing of the package.

It reads the same public files, writes its own prompts, uses the tokenizer library by itself, and asks a torch model for the logits of
one row. Where the definition leaves a gap (an option that is the beginning of another) it follows the rule that the package states.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch

Logits = Callable[[list[int]], torch.Tensor]
"""Tokens -> float64[len, V]."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    correct: bool
    gold_nats: float
    gold_bytes: int
    margin: float | None


@dataclass(frozen=True, kw_only=True)
class Definition:
    kind: str
    shots: int
    delimiter: str
    file: str


def definitions(text: str) -> dict[str, Definition]:
    """Read the public list of tasks; blocks are separated by lines of a single dash."""
    found = {}
    for block in text.split("icl_tasks:")[1].split("\n-\n")[1:]:
        values = {}
        for line in block.splitlines():
            name, _, value = line.strip().partition(": ")
            values[name] = value.split(" # ")[0].strip()
        found[values["label"]] = Definition(
            kind=values["icl_task_type"],
            shots=json.loads(values["num_fewshot"])[0],
            delimiter=json.loads(values.get("continuation_delimiter", '" "')),
            file=values["dataset_uri"].removeprefix("local_data/"),
        )
    return found


class Reference:
    """One task.

    Args:
        definition: What the public list says.
        data: The task's JSON lines.
        tokenizer: JSON of the tokenizer.
        limit: Most tokens of a row.
    """

    def __init__(self, definition: Definition, data: Path, tokenizer: bytes, limit: int) -> None:
        self.definition, self.limit = definition, limit
        self.items = [json.loads(line) for line in data.read_text(encoding="utf-8").split("\n") if line]
        random.Random(1337).shuffle(self.items)
        self.library = tokenizers.Tokenizer.from_str(tokenizer.decode())
        self.library.encode_special_tokens = True

    def outcome(self, number: int, logits: Logits) -> Outcome:
        kind, item = self.definition.kind, self.items[number]
        rows, starts, gold = self.rows(number)
        nats, hits, sizes = [], [], []
        for whole, begin in zip(rows, starts, strict=True):
            drop = max(0, len(whole) - self.limit)
            row, start = whole[drop:], max(1, begin - drop)
            scores = torch.log_softmax(logits(row[:-1]), dim=-1)
            span = range(start, len(row))
            nats.append([-float(scores[place - 1, row[place]]) for place in span])
            hits.append(all(int(scores[place - 1].argmax()) == row[place] for place in span))
            sizes.append(sum(len(self.library.id_to_token(row[place])) for place in span))
        means = [sum(losses) / len(losses) for losses in nats]
        if kind == "language_modeling":
            return Outcome(correct=hits[0], gold_nats=sum(nats[0]), gold_bytes=sizes[0], margin=None)
        best = min(mean for place, mean in enumerate(means) if place != gold)
        return Outcome(
            correct=means.index(min(means)) == item["gold"], gold_nats=sum(nats[gold]), gold_bytes=sizes[gold], margin=best - means[gold]
        )

    def rows(self, number: int) -> tuple[list[list[int]], list[int], int]:
        kind, delimiter, item = self.definition.kind, self.definition.delimiter, self.items[number]
        others = [place for place in range(len(self.items)) if place != number]
        before = ""
        for place in random.Random(1234 + number).sample(others, self.definition.shots):
            before += self.solved(self.items[place]) + "\n\n"
        if kind == "multiple_choice":
            rows = [self.encode(before + item["query"] + delimiter + choice) for choice in item["choices"]]
            same = 0
            while all(same < len(row) - 1 and row[same] == rows[0][same] for row in rows):
                same += 1
            return rows, [same] * len(rows), item["gold"]
        if kind == "schema":
            rows = [self.encode(before + context + delimiter + item["continuation"]) for context in item["context_options"]]
            same = 0
            while all(same < len(row) - 1 and row[-1 - same] == rows[0][-1 - same] for row in rows):
                same += 1
            return rows, [len(row) - max(same, 1) for row in rows], item["gold"]
        question = before + item["context"].strip() + delimiter
        row, alone = self.encode(question + item["continuation"]), self.encode(question.rstrip())
        same = 0
        while same < min(len(alone), len(row) - 1) and alone[same] == row[same]:
            same += 1
        return [row], [same], 0

    def solved(self, item: dict) -> str:
        kind, delimiter = self.definition.kind, self.definition.delimiter
        if kind == "multiple_choice":
            return item["query"] + delimiter + item["choices"][item["gold"]]
        if kind == "schema":
            return item["context_options"][item["gold"]] + delimiter + item["continuation"]
        return item["context"].strip() + delimiter + item["continuation"]

    def encode(self, text: str) -> list[int]:
        return [0, *self.library.encode(text, add_special_tokens=False).ids]
