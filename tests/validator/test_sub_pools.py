"""The same two models on the real documents of two validators' pools: numbers differ, differences agree."""

import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ralph.data.corpora import stdlib_documents
from ralph.data.dataset import Rows
from ralph.data.partition import SubPool
from ralph.data.pool import open_pool
from ralph.data.poolkey import key_beside
from ralph.data.shards import open_data, prepare
from ralph.evaluate.estimator import LN2
from ralph.evaluate.loading import Model
from ralph.evaluate.measure import Exam, score
from ralph.judge.agreement import PoolEstimate, agreement, document_error
from ralph.protocol.canonical import digest
from ralph.protocol.network import LADDER
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.limits import limits_for
from ralph.train import host
from ralph.train.run import RunJob
from tests.evaluate import material
from tests.train.material import RECIPE, with_knobs

LEVEL = 0.999
SEEDS = (1, 2)
RUNG = LADDER[0].model_copy(
    update={"name": "small", "sequence": 32, "tokens": 32 * 16 * 24, "max_steps": 24, "max_parameters": 60_000, "segments": 2}
)
VOCABULARY = 300


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Two sub-pools, and what king and challenger lose on each of their documents."""

    rows: tuple[Rows, Rows]
    king: tuple[np.ndarray, np.ndarray]
    """float64[R, I] each, nats."""
    challenger: tuple[np.ndarray, np.ndarray]

    def estimate(self, number: int) -> PoolEstimate:
        difference = self.challenger[number] - self.king[number]
        weight = (LN2 * self.rows[number].byte_counts).astype(np.float64)
        pairs = tuple(zip(SEEDS, (difference.sum(axis=1) / weight.sum()).tolist(), strict=True))
        return PoolEstimate(executor=f"5V{number}", differences=pairs, document_error=document_error(difference, weight))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    root, library, sandbox = tmp_path_factory.mktemp("sub-pools"), Path(sysconfig.get_path("stdlib")), BubblewrapSandbox()
    documents = [*stdlib_documents(library / "email"), *stdlib_documents(library / "asyncio"), *stdlib_documents(library / "unittest")]
    rows = []
    for number in (0, 1):
        place = root / str(number)
        own = SubPool(number=number, count=2)
        manifest = prepare(place / "data", hidden=place / "hidden", vocabulary=VOCABULARY, documents=documents, sub_pool=own)
        pool = open_pool(place / "hidden", key=key_beside(place / "hidden"), expect=None)
        rows.append(pool.documents("confirm", open_data(place / "data", expect=manifest.digest())).rows(None, RUNG.sequence))
    data = open_data(root / "0" / "data", expect=manifest.digest())
    losses: dict[bool, list[list[np.ndarray]]] = {False: [], True: []}
    for better, runs in losses.items():
        recipe = with_knobs(root / "better", learning_rate=0.01) if better else RECIPE
        for seed in SEEDS:
            job = RunJob(recipe=recipe, rung=RUNG, seed=seed, vocabulary=VOCABULARY, limits=limits_for(RUNG))
            weights = host.train(job, sandbox=sandbox, data=data).weights
            found = []
            for one in rows:
                exam = Exam(
                    model=Model(
                        sandbox=sandbox,
                        recipe=recipe,
                        weights=weights,
                        rung=RUNG,
                        vocabulary=VOCABULARY,
                    ),
                    rules=material.rules(uniform=64, weighted=0, batch_rows=16),
                    rows=one,
                    key=digest("test/key", seed),
                    king=None,
                )
                found.append(score(exam, data.token_bytes).document_nats)
            runs.append(found)
    king, challenger = (tuple(np.stack([run[number] for run in losses[better]]) for number in (0, 1)) for better in (False, True))
    return Seen(rows=(rows[0], rows[1]), king=king, challenger=challenger)


def level_of(losses: np.ndarray, rows: Rows) -> float:
    return float(losses.sum(axis=1).mean() / (LN2 * rows.byte_counts.sum()))


def test_two_validators_see_other_numbers_and_the_same_difference(seen: Seen) -> None:
    """What either measures of one model differs by more than what the two models differ by in agreement's eyes."""
    levels = [level_of(losses, rows) for losses, rows in zip(seen.king, seen.rows, strict=True)]
    found = agreement(seen.estimate(0), seen.estimate(1), level=LEVEL)
    assert found.holds, found
    assert abs(levels[0] - levels[1]) > abs(found.gap_bpb)
    assert all(value < -0.05 for number in (0, 1) for _, value in seen.estimate(number).differences), "the change must be a gain here"


def test_a_validator_who_raises_his_own_miner_is_not_agreed_with(seen: Seen) -> None:
    honest, other = seen.estimate(0), seen.estimate(1)
    error = agreement(honest, other, level=LEVEL).standard_error_bpb
    rigged = PoolEstimate(
        executor=honest.executor,
        differences=tuple((seed, value - 6 * error) for seed, value in honest.differences),
        document_error=honest.document_error,
    )
    assert not agreement(rigged, other, level=LEVEL).holds


def test_random_halves_of_real_documents_agree_as_often_as_the_level_says(seen: Seen) -> None:
    """Two thousand splits of all documents into halves: at a level of 0.95 about one in twenty disagrees."""
    difference = np.concatenate([seen.challenger[number] - seen.king[number] for number in (0, 1)], axis=1)
    weight = np.concatenate([(LN2 * rows.byte_counts).astype(np.float64) for rows in seen.rows])
    generator, held = np.random.default_rng(3), 0
    for _ in range(2000):
        order = generator.permutation(weight.size)
        halves = []
        for part in (order[: weight.size // 2], order[weight.size // 2 :]):
            values = difference[:, part].sum(axis=1) / weight[part].sum()
            error = document_error(difference[:, part], weight[part])
            halves.append(PoolEstimate(executor="5V", differences=tuple(zip(SEEDS, values.tolist(), strict=True)), document_error=error))
        held += not agreement(*halves, level=0.95).holds
    assert held / 2000 < 0.1
