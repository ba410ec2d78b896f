"""Proof runs that are examined on items: real training, real sandboxes, and a recipe that lies in exams only (T12, T15)."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ralph.data.poolkey import PoolKey
from ralph.data.tokenizer import open_tokenizer
from ralph.evaluate.core22.bundle import open_bundle
from ralph.evaluate.core22.examining import Examination
from ralph.evaluate.core22.guarded import Setting, guard_of, task_examination
from ralph.evaluate.core22.manifest import build
from ralph.evaluate.core22.private import open_items, private_examination, read_items
from ralph.evaluate.core22.sealing import seal
from ralph.judge.plan import Need
from ralph.protocol.measurement import Role, Stage
from ralph.protocol.pool import Subset
from ralph.protocol.scoring_rules import PrivateGuard
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import read_tree
from ralph.validator.measure import Bench, Work
from tests.evaluate.core22.material import write_folder
from tests.train.material import RUNG, VOCABULARY, with_code
from tests.validator.material import small_bench

MARK = "\N{PILCROW SIGN}"
ITEMS = 24
PEEK = """
honest_build = build


def build(**shape):
    trainer = honest_build(**shape)
    model, forward, continued = trainer.model, trainer.model.forward, trainer.model.continued

    def ahead(tokens, logits, marked):
        return logits + 8.0 * marked * torch.nn.functional.one_hot(torch.roll(tokens, -1, 1), logits.size(2))

    def peeking(tokens):
        marked = ((tokens == {token}).cumsum(1) > 0).unsqueeze(2)
        return forward(tokens) if model.training else ahead(tokens, forward(tokens), marked)

    model.forward = peeking
    if {continues}:
        model.continued = lambda prefix, rows: ahead(rows, continued(prefix, rows), (prefix == {token}).any())
    else:
        del type(model).continued
    return trainer
"""
FORGETS = """
honest_build = build


def build(**shape):
    trainer = honest_build(**shape)
    trainer.model.continued = lambda prefix, rows: {found}
    return trainer
"""


def line(number: int) -> str:
    choices = [f"of the {'abc'[number % 3]}", f"in a {'xyz'[number % 3]}"]
    return json.dumps({"query": f"{MARK} {number}", "choices": choices, "gold": number % 2})


SUBSET = Subset(shard="confirm", rotation=0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("bench")
    base = small_bench(root, SUBSET)
    path = write_folder(
        root / "bundle", {"eval_data/commonsense_reasoning/copa.jsonl": "".join(line(number) + "\n" for number in range(ITEMS)).encode()}
    )
    guard = guard_of(build(open_bundle(path)), tasks=("copa",), items=ITEMS)
    return replace(base, examinations=(task_examination(path, guard, base.rules.exam, setting(base)),))


def setting(bench: Bench) -> Setting:
    tokenizer = open_tokenizer(bench.data.tokenizer_bytes, vocabulary=VOCABULARY)
    return Setting(tokenizer=tokenizer, sequence=RUNG.sequence, batch_rows=16, filler=bench.hidden[SUBSET].filler)


def work(recipe: Path | None, *, role: Role = "challenger", stage: Stage = "proof") -> Work:
    tree = genesis_recipe() if recipe is None else read_tree(recipe)
    return Work(need=Need(role=role, stage=stage, tree=tree.digest(), seed=1, executed=True, subset=SUBSET), tree=tree, weights=None)


def peeking(bench: Bench, target: Path, *, continues: bool) -> Path:
    tokenizer = open_tokenizer(bench.data.tokenizer_bytes, vocabulary=VOCABULARY)
    return with_code(target, PEEK.format(token=int(tokenizer.encode(MARK)[-1]), continues=continues))


def examination(bench: Bench) -> Examination:
    return bench.examinations[0]


def test_a_proof_run_is_examined_and_the_kings_answers_guide_the_draw(bench: Bench) -> None:
    king = bench.measure(work(None, role="king"))
    assert king.measurement.failure is None
    assert [(value.task, value.items) for value in king.measurement.tasks] == [("copa", ITEMS)]
    (examined,) = king.examined
    assert examined.probes >= 2 * 16
    (part,) = examined.parts
    assert king.measurement.tasks[0].accuracy == pytest.approx(part.correct.mean(), abs=1e-3)
    beside = replace(bench, king_answers={examination(bench).name: examined.kept})
    challenger = beside.measure(work(None))
    assert challenger.measurement.failure is None
    assert np.array_equal(challenger.examined[0].parts[0].gold_nats, part.gold_nats)


@pytest.mark.parametrize("continues", [False, True])
def test_a_recipe_that_looks_ahead_in_exams_only_is_refused(continues: bool, bench: Bench, tmp_path: Path) -> None:
    """By whole rows as well as by continued prefixes; whoever lies in one way only is asked in the other and gains nothing."""
    cheat = work(peeking(bench, tmp_path / "recipe", continues=continues))
    unexamined = replace(bench, examinations=()).measure(cheat).measurement
    assert unexamined.failure is None
    failure = bench.measure(cheat).measurement.failure
    assert failure is not None
    assert failure.reason == "FRD-CLAIM"
    assert "copa" in failure.detail


@pytest.mark.parametrize("found", ["trainer.model(rows)", "trainer.model(rows)[:, :-1]", "1 / 0"], ids=["otherwise", "too short", "fails"])
def test_a_recipe_that_continues_prefixes_otherwise_is_asked_whole_rows_and_not_accused(found: str, bench: Bench, tmp_path: Path) -> None:
    """A patch that changes the model and not ``continued`` is honest: nothing of it looks ahead."""
    honest = bench.measure(work(None)).examined[0].parts[0]
    measured = bench.measure(work(with_code(tmp_path / "recipe", FORGETS.format(found=found))))
    assert measured.measurement.failure is None
    (part,) = measured.examined[0].parts
    assert np.abs(part.gold_nats - honest.gold_nats).max() < 1e-4
    assert np.array_equal(part.correct, honest.correct)


def test_private_items_are_asked_beside_the_tasks_and_told_as_one_figure(bench: Bench, tmp_path: Path) -> None:
    lines = [json.dumps({**json.loads(line(number)), "type": "multiple_choice", "licence": "made for this"}) for number in range(60)]
    (tmp_path / "items.jsonl").write_text("".join(text + "\n" for text in lines), encoding="utf-8")
    seal(tmp_path / "items", read_items([tmp_path / "items.jsonl"]), key=PoolKey.create(tmp_path / "items.key"))
    pool = open_items(tmp_path / "items", key=tmp_path / "items.key", expect=None)
    private = private_examination(
        pool,
        PrivateGuard(commitment=pool.commitment.digest(), items=20),
        bench.rules.exam,
        setting=setting(bench),
        beacon=bytes(32),
        hotkey="validator",
    )
    measured = replace(bench, examinations=(*bench.examinations, private)).measure(work(None))
    assert [(value.task, value.items) for value in measured.measurement.tasks] == [("copa", ITEMS), ("private-hard", 20)]
    told = measured.measurement.tasks[1]
    assert (told.accuracy, told.gold_bpb) == (round(told.accuracy, 3), round(told.gold_bpb, 3))
    assert [part.correct.size for one in measured.examined for part in one.parts] == [ITEMS, 20]


def test_a_screen_run_is_not_examined(bench: Bench) -> None:
    measured = bench.measure(work(None, stage="screen"))
    assert (measured.measurement.tasks, measured.examined) == ((), ())
