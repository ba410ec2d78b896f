"""Recipes that break a rule, in real sandboxes: each ends with its reason code and harms nobody."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ralph.data.dataset import DataSet
from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.interfaces import SandboxedWorker, SandboxSpec
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import host
from tests.train import material

STEP = """
def hostile(self, tokens):
    {body}
    return honest(self, tokens)

honest, Trainer.step = Trainer.step, hostile
"""
TAKE_OVER = "import os; from ralph.train import wire; write = lambda *frame: [os.write(3, part) for part in wire.pack(*frame)]; "
MODEL = "honest_build = build\n\n\ndef build(**shape):\n    trainer = honest_build(**shape)\n    {body}\n    return trainer"

CODE = {
    "raises": ("RUN-CRASH", "a reason of its own", STEP.format(body="raise ValueError('a reason of its own')")),
    "exits": ("RUN-CRASH", "", STEP.format(body="__import__('os')._exit(3)")),
    "imports what is not there": ("RUN-IMPORT", "no_such_module", "import no_such_module"),
    "builds nothing": ("RUN-IMPORT", "", "del build"),
    "loss that is not finite": (
        "RUN-NAN",
        "step 1",
        STEP.format(body="loss, norm = honest(self, tokens); return loss * float('nan'), norm"),
    ),
    "loss that explodes": (
        "RUN-NAN",
        "step 1: loss",
        STEP.format(body="loss, norm = honest(self, tokens); return loss * 1e3, norm"),
    ),
    "weights that are not finite": (
        "RUN-NAN",
        "head.weight",
        MODEL.format(body="trainer.model.head.weight.data[0, 0] = float('inf'); trainer.step = lambda tokens: (1.0, 1.0)"),
    ),
    "state that is no tensor": ("RUN-SHAPE", "", "Trainer.state = lambda self: {'step': 1}"),
    "lies about the step": (
        "RUN-SHAPE",
        "step 1",
        STEP.format(body=TAKE_OVER + "write(102, {'step': 2, 'loss': bytes(8), 'gradient_norm': bytes(8)})"),
    ),
    "answers twice": (
        "RUN-SHAPE",
        "step 2 was answered with step 1",
        STEP.format(body=TAKE_OVER + "write(102, {'step': 1, 'loss': bytes(8), 'gradient_norm': bytes(8)})"),
    ),
    "asks for more tokens than were planned": (
        "RUN-SHAPE",
        "the worker sent STEPPED, expected TENSORS",
        STEP.format(body="")
        + TAKE_OVER
        + "more = {'step': 7, 'loss': bytes(8), 'gradient_norm': bytes(8)}; honest_state = Trainer.state; done = []"
        + "\nTrainer.state = lambda self: (done.append(0), len(done) == 4 and write(102, more), honest_state(self))[2]",
    ),
    "floods": ("RUN-SHAPE", "", STEP.format(body="import os\n    while True: os.write(3, b'\\xff' * 65536)")),
    "floods its output": ("RUN-STALL", "", STEP.format(body="import os\n    while True: os.write(1, b'flood ' * 10000)")),
    "drips its answer byte by byte": (
        "RUN-STALL",
        "no complete answer",
        STEP.format(
            body=TAKE_OVER
            + "import threading; frame = b''.join(wire.pack(102, {'step': 1, 'loss': bytes(8), 'gradient_norm': bytes(8)}))"
            + "\n    for byte in frame: threading.Event().wait(0.2); os.write(3, bytes([byte]))"
        ),
    ),
    "keeps a state of too many tensors": (
        "RUN-SHAPE",
        "at most 4096",
        "Trainer.state = lambda self: {f'{number:05}': torch.zeros(1) for number in range(5000)}",
    ),
    "stalls": ("RUN-STALL", "", STEP.format(body="import threading; threading.Event().wait()")),
    "takes too much memory": ("RUN-OOM", "", STEP.format(body="torch.ones(1 << 32)")),
    "hides its size until the end": (
        "RUN-PARAMS",
        "limit 60000",
        MODEL.format(body="trainer.step = lambda tokens: (trainer.model.register_buffer('more', torch.zeros(50_000)), (1.0, 1.0))[1]")
        + "\n\n\nTrainer.state = lambda self: {'step': torch.zeros(1)}",
    ),
}


SILENT = ("stalls", "floods its output", "drips its answer byte by byte")
"""They end at the deadline of one answer, which is short for them."""
SILENCE_S = 4.0
END_S = 40.0
"""Longest run of any of them, start included: far below what one answer may take."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    code: str
    detail: str
    wall_s: float


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, data: DataSet, sandbox: BubblewrapSandbox) -> dict[str, Outcome]:
    """Run all of them, three at a time."""
    folder = tmp_path_factory.mktemp("hostile")
    recipes = {name: material.with_code(folder / name.replace(" ", "-"), code) for name, (_, _, code) in CODE.items()}

    def refused(name: str) -> Outcome:
        timeout_s, began = SILENCE_S if name in SILENT else 60.0, time.monotonic()
        with pytest.raises(UntrustedInputError) as refusal:
            host.train(material.job(recipes[name], reply_timeout_s=timeout_s), sandbox=sandbox, data=data)
        return Outcome(code=refusal.value.code, detail=refusal.value.detail, wall_s=time.monotonic() - began)

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(CODE, pool.map(refused, CODE), strict=True))


@pytest.mark.parametrize("name", CODE)
def test_a_recipe_that(name: str, outcomes: dict[str, Outcome]) -> None:
    code, words, _ = CODE[name]
    assert outcomes[name].code == code
    assert words in outcomes[name].detail
    assert outcomes[name].wall_s < END_S


def test_a_failure_carries_the_end_of_the_traceback(outcomes: dict[str, Outcome]) -> None:
    assert "train.py" in outcomes["raises"].detail
    assert outcomes["raises"].detail.isprintable() or "\n" in outcomes["raises"].detail


class NoSandbox:
    """Nothing can be started in it."""

    name = "none"

    def launch(self, spec: SandboxSpec) -> AbstractContextManager[SandboxedWorker]:
        raise AssertionError(f"{spec.recipe} was started")


def test_a_plan_over_the_budget_is_refused_before_anything_starts(tmp_path: Path, data: DataSet) -> None:
    recipe = material.with_knobs(tmp_path / "recipe", batch_rows=101)
    with pytest.raises(UntrustedInputError, match="101 rows x 16 tokens is 1616 tokens, rung tiny allows 1600") as refusal:
        host.train(material.job(recipe), sandbox=NoSandbox(), data=data)
    assert refusal.value.code == "RUN-BUDGET"


def test_a_model_over_the_cap_is_refused_when_it_is_built(tmp_path: Path, data: DataSet, sandbox: BubblewrapSandbox) -> None:
    recipe = material.with_knobs(tmp_path / "recipe", mlp_ratio=8)
    with pytest.raises(UntrustedInputError, match="allows 60000") as refusal:
        host.train(material.job(recipe), sandbox=sandbox, data=data)
    assert refusal.value.code == "RUN-PARAMS"


def test_logits_over_another_vocabulary_are_refused_after_the_training(tmp_path: Path, data: DataSet, sandbox: BubblewrapSandbox) -> None:
    body = "trainer.model.register_forward_hook(lambda model, _, logits: logits if model.training else logits[:, :, :-1])"
    recipe = material.with_code(tmp_path / "recipe", MODEL.format(body=body))
    rows = data.validation.rows(2, material.RUNG.sequence).take(np.arange(2))
    with host.start(material.job(recipe), sandbox=sandbox, data=data) as run:
        run.train()
        with pytest.raises(UntrustedInputError, match="299") as refusal:
            run.claim(rows)
    assert refusal.value.code == "RUN-SHAPE"


def test_a_run_over_the_deadline_of_the_judges_is_deferred(tmp_path: Path, data: DataSet, sandbox: BubblewrapSandbox) -> None:
    """A clock of ours decides nothing about a recipe."""
    recipe = material.with_code(tmp_path / "recipe", CODE["stalls"][2])
    rung = material.RUNG.model_copy(update={"timeout_s": 4})
    with pytest.raises(InfrastructureError):
        host.train(material.job(recipe, rung=rung), sandbox=sandbox, data=data)


def test_a_worker_that_has_more_than_one_batch_trains_the_same_and_fails_with_its_own_reason(
    tmp_path: Path, data: DataSet, sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which is given the next step before it has finished one."""
    one = host.train(material.job(), sandbox=sandbox, data=data)
    monkeypatch.setattr(host, "IN_FLIGHT", {"cpu": 3})
    several = host.train(material.job(), sandbox=sandbox, data=data)
    assert (several.weights, several.transcript, several.served_digest) == (one.weights, one.transcript, one.served_digest)
    recipe = material.with_code(tmp_path / "recipe", STEP.format(body="if self.count == 3: raise ValueError('a reason of its own')"))
    with pytest.raises(UntrustedInputError, match="a reason of its own") as refusal:
        host.train(material.job(recipe), sandbox=sandbox, data=data)
    assert refusal.value.code == "RUN-CRASH"
