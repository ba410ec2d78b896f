"""The exam through the real wire, with a simulated sandbox behind it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from ralph.errors import UntrustedInputError
from ralph.evaluate.core22.audit import accuse, audit, repeat
from ralph.evaluate.core22.drawing import AuditRules
from ralph.evaluate.core22.exam import Exam
from ralph.evaluate.core22.examinee import Examinee
from ralph.evaluate.core22.manifest import build
from ralph.evaluate.core22.results import grade
from ralph.evaluate.core22.sitting import sit
from ralph.interfaces import SandboxSpec
from ralph.protocol.network import LADDER
from ralph.sandbox.limits import limits_for
from ralph.train.channel import WorkerChannel
from ralph.train.wire import Tensor
from tests.evaluate.core22 import material
from tests.evaluate.core22.material import DRAW_KEY, ORDER_KEY
from tests.evaluate.material import RECIPE
from tests.evaluate.simulator import VOCABULARY, Bigram, SimulatedSandbox

SEQUENCE = 64
TABLE = np.random.default_rng(8).normal(0, 1.5, (VOCABULARY, VOCABULARY)).astype("<f4")
RULES = AuditRules(uniform=4, weighted=0, tau_nats=1e-9)


class Letters:
    """One token per character, of few kinds."""

    vocabulary = VOCABULARY
    token_bytes = np.ones(VOCABULARY, np.uint8)

    def encode(self, text: str) -> np.ndarray:
        return np.array([ord(letter) % (VOCABULARY - 1) + 1 for letter in text], np.uint16)


class LookAhead(Bigram):
    def claim(self, tokens: np.ndarray) -> np.ndarray:
        return 0.5 * super().claim(tokens)


@contextmanager
def started(sandbox: SimulatedSandbox) -> Iterator[Examinee]:
    with sandbox.launch(SandboxSpec(recipe=RECIPE, limits=limits_for(LADDER[0]))) as worker:
        channel = WorkerChannel(worker, deadline_s=10.0)
        channel.hello()
        channel.setup({"mode": "score"})
        channel.load([Tensor("table", "f32", TABLE.shape, TABLE.tobytes())])
        yield Examinee(
            claim=channel.claim, probe=lambda tokens, positions: channel.probe(tokens, positions, VOCABULARY), vocabulary=VOCABULARY
        )


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Exam:
    bundle = material.small_bundle(tmp_path_factory.mktemp("bundle"), count=30, labels=["copa", "winograd", "squad", "piqa"])
    filler = np.arange(SEQUENCE + 1, dtype=np.int32) % VOCABULARY
    return Exam(
        bundle=bundle,
        manifest=build(bundle).first(6),
        tokenizer=Letters(),
        sequence=SEQUENCE,
        batch_rows=8,
        filler=filler,
        margin_nats=RULES.margin_nats,
    )


def test_a_sandboxed_worker_is_examined_and_audited(exam: Exam) -> None:
    sandbox = SimulatedSandbox(models=lambda _: Bigram())
    with started(sandbox) as first:
        answers = sit(exam, first, key=ORDER_KEY)
    with started(sandbox) as second:
        found = audit(exam, answers, second, key=DRAW_KEY, rules=RULES)
    assert (found.exceedances, found.unprobed) == (0, ())
    assert grade(answers, absent=exam.manifest.absent).name == "CORE over 4 of 22 tasks, at most 6 items of 4 of them"


def test_a_sandboxed_cheat_is_found_and_accused_after_a_replay_in_fresh_sandboxes(exam: Exam) -> None:
    sandbox = SimulatedSandbox(models=lambda _: LookAhead())
    with started(sandbox) as first:
        answers = sit(exam, first, key=ORDER_KEY)
    with started(sandbox) as second:
        found = audit(exam, answers, second, key=DRAW_KEY, rules=RULES)
    repeated = repeat(exam, found, start=lambda: started(sandbox), order_key=ORDER_KEY, key=DRAW_KEY)
    assert len(sandbox.workers) == 4
    with pytest.raises(UntrustedInputError, match="FRD-CLAIM"):
        accuse(found, repeated)
