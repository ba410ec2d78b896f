"""What shared prefixes cost and change: the public 10-shot tasks by whole rows and by continued prefixes, in real workers.

    RALPH_TEST_DATA=... python -m tests.evaluate.core22.sharing [ITEMS]

prints CPU seconds of worker and host for each way and the largest difference of any claim. The test calls it for a few items.
"""

import importlib
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ralph.evaluate.core22.bundle import Bundle
from ralph.evaluate.core22.exam import Exam
from ralph.evaluate.core22.examining import starting
from ralph.evaluate.core22.manifest import build
from ralph.evaluate.core22.results import right
from ralph.evaluate.core22.sitting import sit
from ralph.evaluate.loading import Model
from ralph.interfaces import Sandbox
from ralph.protocol.network import LADDER
from ralph.protocol.rules import Rung
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import safetensors, wire
from tests.evaluate.core22.agreement import KEY, VOCABULARY, public_bundle, public_tokenizer
from tests.evaluate.material import RECIPE

TASKS = ("arc_easy", "piqa", "commonsense_qa", "hellaswag", "jeopardy", "bigbench_qa_wikidata", "bigbench_operators", "squad")
"""Ten shots each; the first half compares options, the second asks for the answer itself."""
C2 = LADDER[1].model_copy(update={"timeout_s": 3600})
LONG = C2.model_copy(update={"name": "long", "sequence": 1024})


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One task, both ways."""

    task: str
    rows_worker_s: float
    shared_worker_s: float
    rows_host_s: float
    shared_host_s: float
    worst_nats: float
    """Largest difference of a claim."""
    other_verdicts: int


def random_weights(rung: Rung, vocabulary: int = VOCABULARY) -> bytes:
    """Return weights of the recipe at this rung of which none is zero, so that every block matters."""
    sys.path.insert(0, str(RECIPE))
    try:
        torch.manual_seed(5)
        trainer = importlib.import_module("train").build(
            width=rung.width, sequence=rung.sequence, vocabulary=vocabulary, steps=1, batch_rows=1
        )
    finally:
        sys.path.remove(str(RECIPE))
    tensors = []
    for name, value in sorted(trainer.model.state_dict().items()):
        drawn = torch.randn_like(value) * (value.size(-1) ** -0.5 if value.ndim > 1 else 1.0)
        tensors.append(wire.Tensor(name, "f32", tuple(value.shape), drawn.numpy().tobytes()))
    return safetensors.dump(tensors)


def compare(bundle: Bundle, rung: Rung, weights: bytes, tasks: tuple[str, ...], *, items: int, sandbox: Sandbox) -> list[Cost]:
    """Sit the first items of some tasks both ways."""
    tokenizer = public_tokenizer()
    filler = np.resize(tokenizer.encode("Text that has to do with nothing. " * 50), rung.sequence + 1).astype(np.int32)
    found = []
    for task in tasks:
        manifest = build(bundle).only([task]).first(items)
        exam = Exam(bundle=bundle, manifest=manifest, tokenizer=tokenizer, sequence=rung.sequence, batch_rows=16, filler=filler)
        sides = []
        for shared in (False, True):
            model = Model(sandbox=sandbox, recipe=RECIPE, weights=weights, rung=rung, vocabulary=VOCABULARY)
            with starting(model)():
                pass
            start_s, begin = model.worker_cpu_s, time.process_time()
            with starting(model)() as examinee:
                assert examinee.shared is not None
                (answers,) = sit(exam, examinee if shared else replace(examinee, shared=None), key=KEY)
            sides.append((answers, model.worker_cpu_s - 2 * start_s, time.process_time() - begin))
        (rows, rows_s, rows_host_s), (once, shared_s, shared_host_s) = sides
        cost = Cost(
            task=task,
            rows_worker_s=rows_s,
            shared_worker_s=shared_s,
            rows_host_s=rows_host_s,
            shared_host_s=shared_host_s,
            worst_nats=float(np.abs(rows.losses - once.losses).max()),
            other_verdicts=int((right(rows) != right(once)).sum()),
        )
        found.append(cost)
    return found


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(items: int) -> None:
    """Print a table for each shape."""
    raw = Path(os.environ["RALPH_TEST_DATA"]) / "core22"
    with tempfile.TemporaryDirectory() as folder:
        bundle = public_bundle(raw, Path(folder))
        for rung in (LONG, C2):
            say(f"width {rung.width}, T = {rung.sequence}, {items} items a task; CPU seconds of worker (and host)")
            costs = compare(bundle, rung, random_weights(rung), TASKS, items=items, sandbox=BubblewrapSandbox())
            for one in costs:
                times = f"{one.rows_worker_s:7.2f} ({one.rows_host_s:.2f}) -> {one.shared_worker_s:6.2f} ({one.shared_host_s:.2f})"
                say(f"  {one.task:22} {times}  worst {one.worst_nats:.1e} nats, {one.other_verdicts} other verdicts")
            rows, shared = sum(one.rows_worker_s for one in costs), sum(one.shared_worker_s for one in costs)
            say(f"  all: {rows:.1f} -> {shared:.1f}, {rows / shared:.1f} times less")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
