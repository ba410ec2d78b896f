"""Recipes that break a rule, in real sandboxes: each ends with its reason code and harms nobody."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ralph.data.dataset import DataSet
from ralph.errors import InfrastructureError, UntrustedInputError
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
    "floods": ("RUN-SHAPE", "", STEP.format(body="import os\n    while True: os.write(3, b'\\xff' * 65536)")),
    "stalls": ("RUN-STALL", "", STEP.format(body="import threading; threading.Event().wait()")),
    "takes too much memory": ("RUN-OOM", "", STEP.format(body="torch.ones(1 << 32)")),
    "hides its size until the end": (
        "RUN-PARAMS",
        "limit 60000",
        MODEL.format(body="trainer.step = lambda tokens: (trainer.model.register_buffer('more', torch.zeros(50_000)), (1.0, 1.0))[1]")
        + "\n\n\nTrainer.state = lambda self: {'step': torch.zeros(1)}",
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, data: DataSet, sandbox: BubblewrapSandbox) -> dict[str, UntrustedInputError]:
    """Run all of them, two at a time."""
    folder = tmp_path_factory.mktemp("hostile")
    recipes = {name: material.with_code(folder / name.replace(" ", "-"), code) for name, (_, _, code) in CODE.items()}

    def refused(name: str) -> UntrustedInputError:
        timeout_s = 4.0 if name == "stalls" else 60.0
        with pytest.raises(UntrustedInputError) as refusal:
            host.train(material.job(recipes[name], reply_timeout_s=timeout_s), sandbox=sandbox, data=data)
        return refusal.value

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CODE, pool.map(refused, CODE), strict=True))


@pytest.mark.parametrize("name", CODE)
def test_a_recipe_that(name: str, outcomes: dict[str, UntrustedInputError]) -> None:
    code, words, _ = CODE[name]
    assert outcomes[name].code == code
    assert words in outcomes[name].detail


def test_a_failure_carries_the_end_of_the_traceback(outcomes: dict[str, UntrustedInputError]) -> None:
    assert "train.py" in outcomes["raises"].detail
    assert outcomes["raises"].detail.isprintable() or "\n" in outcomes["raises"].detail


def test_a_model_over_the_cap_is_refused_when_it_is_built(tmp_path: Path, data: DataSet, sandbox: BubblewrapSandbox) -> None:
    recipe = material.with_knobs(tmp_path / "recipe", mlp_ratio=8)
    with pytest.raises(UntrustedInputError, match="allows 60000") as refusal:
        host.train(material.job(recipe), sandbox=sandbox, data=data)
    assert refusal.value.code == "RUN-PARAMS"


def test_logits_over_another_vocabulary_are_refused_after_the_training(tmp_path: Path, data: DataSet, sandbox: BubblewrapSandbox) -> None:
    body = "trainer.model.register_forward_hook(lambda model, _, logits: logits if model.training else logits[:, :, :-1])"
    recipe = material.with_code(tmp_path / "recipe", MODEL.format(body=body))
    rows = data.validation.rows(2, material.RUNG.sequence).tokens
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
