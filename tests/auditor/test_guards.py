"""What an operator could write into guards and figures of tasks, and what of it an auditor sees (T15, T28)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ralph.auditor.guards import GuardAuditor
from ralph.auditor.report import Findings
from ralph.protocol.lineage import Contest, PairedRun, Throne
from ralph.protocol.measurement import Failure, GuardRow, Measurement, Role, SignedMeasurement, SourceValue, TaskValue
from ralph.protocol.network import devnet_rules
from ralph.protocol.pool import Subset
from ralph.protocol.record import Record
from ralph.protocol.scoring_rules import TaskGuard
from tests.made import measurement, score

BASE = devnet_rules(genesis_tree=bytes(32), manifest=bytes(32), vocabulary=1024, hidden=bytes(32), sources=("code",))
GUARDS = BASE.guards.model_copy(update={"tasks": TaskGuard(manifest=bytes(32), tasks=("copa",), items=100)})
RULES = BASE.model_copy(update={"guards": GUARDS})
KING, TREE = bytes(32), bytes([1] * 32)
FIGURES = {"king": (2.5, 0.62, 3.0), "challenger": (2.4, 0.57, 3.1)}
"""val_bpb of the source, accuracy and bits per byte of the task."""


def measured(role: Role, seed: int, *, bpb: float, accuracy: float, gold: float, guards: tuple[GuardRow, ...] = ()) -> Measurement:
    return measurement(
        executor="validator",
        role=role,
        tree=KING if role == "king" else TREE,
        seed=seed,
        score=score(bpb, documents=1024, sources=(SourceValue(source="code", val_bpb=bpb, documents=1024),)),
        tasks=(TaskValue(task="copa", items=100, accuracy=accuracy, gold_bpb=gold),),
        guards=guards,
    )


def rows(runs: int) -> tuple[GuardRow, ...]:
    shape = {"runs": runs, "items": 100}
    return (
        GuardRow(kind="source", name="code", difference=-0.1, upper=-0.09, **shape),
        GuardRow(kind="answers", name="copa", difference=0.05, upper=0.08, **shape),
        GuardRow(kind="gold", name="copa", difference=0.1, upper=0.2, **shape),
    )


def runs(seeds: range, *, guards: tuple[GuardRow, ...]) -> list[Measurement]:
    found = []
    for role, (bpb, accuracy, gold) in FIGURES.items():
        found += [measured(role, seed, bpb=bpb, accuracy=accuracy, gold=gold) for seed in seeds]
    found[-1] = found[-1].model_copy(update={"guards": guards})
    return found


def record(measurements: list[Measurement]) -> Record:
    return Record(
        round=3,
        track="t",
        chain=bytes(32),
        rules=RULES.digest(),
        validator="validator",
        previous=None,
        beacons=(),
        king=KING,
        environments=(),
        cases=(),
        measurements=tuple(SignedMeasurement(measurement=one, signature=bytes(64)) for one in measurements),
        outcomes=(),
        crown=None,
        demotion=None,
        hidden=bytes(32),
        watch=(),
        openings=(),
    )


def contest(seeds: range) -> Throne:
    pairs = tuple(PairedRun(seed=seed, challenger=2.4, king=2.5, challenger_weights=bytes(32), king_weights=bytes(32)) for seed in seeds)
    one = Contest(
        announcement=bytes(32),
        hotkey="miner",
        coldkey="cold",
        tree=TREE,
        normalised=bytes(32),
        stage="proof",
        opened_round=1,
        entry=1,
        runs=pairs,
    )
    return replace(Throne.genesis(KING), round_index=2, contests=(one,))


def findings(*rounds: tuple[list[Measurement], Throne]) -> list[str]:
    found = Findings()
    auditor = GuardAuditor(rules=RULES, found=found)
    for measurements, before in rounds:
        auditor.check(record(measurements), before)
    return [one.detail for one in found.findings()]


def test_guards_over_the_runs_of_two_rounds_follow_from_their_figures() -> None:
    first = runs(range(4), guards=rows(4)), contest(range(0))
    second = runs(range(4, 8), guards=rows(8)), contest(range(4))
    assert findings(first, second) == []


def test_after_a_rotation_guards_of_text_follow_from_the_runs_that_were_scored_again() -> None:
    """The challenger lost on the new documents what he had gained on the old ones; the old figures would hide it."""
    turned = Subset(shard="confirm", rotation=1)
    again = []
    for one in runs(range(4), guards=()):
        value = 3.2 if one.role == "challenger" else 3.0
        score = one.score and one.score.model_copy(
            update={"val_bpb": value, "sources": (SourceValue(source="code", val_bpb=value, documents=1024),)}
        )
        again.append(one.model_copy(update={"stage": "rescore", "executed": False, "subset": turned, "score": score, "tasks": ()}))
    fresh = [one.model_copy(update={"subset": turned}) for one in runs(range(4, 8), guards=rows(8))]
    first = runs(range(4), guards=rows(4)), contest(range(0))
    (detail,) = findings(first, ([*again, *fresh], contest(range(4))))
    assert "the guard of source code states -0.10000, its runs give +0.05000" in detail
    honest = tuple(row.model_copy(update={"difference": 0.05, "upper": 0.06}) if row.kind == "source" else row for row in rows(8))
    fresh[-1] = fresh[-1].model_copy(update={"guards": honest})
    assert findings(first, ([*again, *fresh], contest(range(4)))) == []


def test_a_repeat_stands_in_for_a_proof_run_of_the_king_that_failed_and_for_no_other() -> None:
    measurements = runs(range(4), guards=rows(4))
    failed = measurements[0].model_copy(update={"score": None, "failure": Failure(reason="RUN-CRASH", detail=""), "tasks": ()})
    repeat = measurements[0].model_copy(update={"stage": "repeat"})
    assert findings(([failed, *measurements[1:], repeat], contest(range(0)))) == []
    better = measurements[0].model_copy(
        update={"stage": "repeat", "tasks": (measurements[0].tasks[0].model_copy(update={"accuracy": 0.1}),)}
    )
    assert findings(([*measurements, better], contest(range(0)))) == []
    assert findings(([failed, *measurements[1:]], contest(range(0)))) != []


def test_guards_over_runs_that_nobody_published_are_caught() -> None:
    assert findings((runs(range(4, 8), guards=rows(8)), contest(range(4)))) == ["has guards over runs that it lacks"]


@pytest.mark.parametrize(("kind", "lie"), [("source", -0.2), ("answers", 0.02), ("gold", 0.02)])
def test_a_loss_that_is_stated_smaller_than_the_runs_show_is_caught(kind: str, lie: float) -> None:
    better = tuple(row.model_copy(update={"difference": lie, "upper": lie + 0.01}) if row.kind == kind else row for row in rows(4))
    (detail,) = findings((runs(range(4), guards=better), contest(range(0))))
    assert f"the guard of {kind}" in detail
    assert "its runs give" in detail


def test_an_upper_end_below_the_difference_is_caught() -> None:
    better = tuple(row.model_copy(update={"upper": row.difference - 0.04}) if row.kind == "answers" else row for row in rows(4))
    (detail,) = findings((runs(range(4), guards=better), contest(range(0))))
    assert "an upper end below it" in detail


def test_guards_of_the_king_before_are_no_guards_of_this_one() -> None:
    other = replace(contest(range(0)), lineage=(replace(contest(range(0)).king, tree=bytes([7] * 32)),))
    assert "has guards over runs that it lacks" in findings((runs(range(4), guards=rows(4)), other))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: (), "has answers to []"),
        (lambda value: (value, value), "has answers to ['copa', 'copa']"),
        (lambda value: (value.model_copy(update={"items": 500}),), "the Rules ask at most 100"),
        (lambda value: (value.model_copy(update={"items": 0}),), "answers 0 items"),
        (lambda value: (value.model_copy(update={"accuracy": 1.01}),), "has an accuracy of 1.01"),
        (lambda value: (value.model_copy(update={"accuracy": 0.615}),), "has an accuracy of 0.615 on 100 items"),
    ],
)
def test_answers_to_other_items_than_the_rules_ask_are_caught(change: Callable[[TaskValue], tuple[TaskValue, ...]], words: str) -> None:
    measurements = runs(range(4), guards=())
    measurements[0] = measurements[0].model_copy(update={"tasks": change(measurements[0].tasks[0])})
    assert any(words in detail for detail in findings((measurements, contest(range(0)))))


def test_only_proof_runs_are_examined() -> None:
    screened = [one.model_copy(update={"stage": "screen"}) for one in runs(range(1), guards=())]
    assert len(findings((screened, contest(range(0))))) == 2
