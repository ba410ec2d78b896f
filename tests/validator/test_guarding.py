"""What is kept of proof runs and the guards that follow: over two rounds, after a restart, where a task was forgotten (T15)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ralph.evaluate.core22.drawing import AuditRules
from ralph.evaluate.core22.examining import Examination, Examined
from ralph.evaluate.core22.sitting import sit
from ralph.judge.plan import Need
from ralph.protocol.lineage import Contest, PairedRun, Throne
from ralph.protocol.measurement import Role
from ralph.protocol.network import devnet_rules
from ralph.protocol.pool import Subset
from ralph.protocol.scoring_rules import TaskGuard
from ralph.records.events import EventTable
from ralph.store.directory import DirectoryStore
from ralph.validator.answers import Answers
from ralph.validator.guarding import DocumentLosses, Guarding
from tests.evaluate import material as documents
from tests.evaluate.core22 import material
from tests.evaluate.core22.material import ORDER_KEY, Honest, examinee

BASE = devnet_rules(genesis_tree=bytes(32), manifest=bytes(32), vocabulary=320, hidden=bytes(32), sources=("code", "docs"))
GUARDS = BASE.guards.model_copy(
    update={"min_documents": 1, "resamples": 300, "tasks": TaskGuard(manifest=bytes(32), tasks=("copa", "piqa"), items=40)}
)
RULES = BASE.model_copy(update={"guards": GUARDS})
AUDIT = AuditRules(uniform=1, weighted=0, tau_nats=1e-6)
TREE, KING = bytes([1] * 32), bytes([2] * 32)
SUBSET = Subset(shard="confirm", rotation=0)
HIDDEN = documents.rows(count=30, sequence=16, vocabulary=40)


class Forgets(Honest):
    """Loses most where it lost least."""

    def losses(self, tokens: np.ndarray, begin: int = 0) -> np.ndarray:
        return 20.0 - super().losses(tokens, begin)


@pytest.fixture(scope="module")
def examination(tmp_path_factory: pytest.TempPathFactory) -> Examination:
    bundle = material.small_bundle(tmp_path_factory.mktemp("bundle"), count=40, labels=["copa", "piqa"])
    exam = material.exam(bundle, margin_nats=AUDIT.margin_nats)
    return Examination(name="tasks", exam=exam, rules=AUDIT)


@pytest.fixture(scope="module")
def honest(examination: Examination) -> Examined:
    return Examined(examination=examination, answers=sit(examination.exam, examinee(Honest()), key=ORDER_KEY), probes=1)


@pytest.fixture(scope="module")
def forgetful(examination: Examination, honest: Examined) -> Examined:
    """Answers to one task upside down, to the other as they were."""
    upside = sit(examination.exam, examinee(Forgets()), key=ORDER_KEY)
    answers = tuple(bad if good.entry.task.label == "copa" else good for good, bad in zip(honest.answers, upside, strict=True))
    return replace(honest, answers=answers)


def guarding(folder: Path, *, runs: tuple[PairedRun, ...] = ()) -> Guarding:
    contest = Contest(
        announcement=bytes(32), hotkey="m", coldkey="c", tree=TREE, normalised=bytes(32), stage="proof", opened_round=1, entry=1, runs=runs
    )
    private = DirectoryStore(folder / "private")
    return Guarding(
        rules=RULES,
        losses=DocumentLosses(private=private),
        answers=Answers(events=EventTable.open(folder / "events.sqlite"), private=private),
        hidden=HIDDEN,
        subset=SUBSET,
        throne=replace(Throne.genesis(KING), contests=(contest,)),
    )


def need(role: Role, seed: int) -> Need:
    return Need(role=role, stage="proof", tree=KING if role == "king" else TREE, seed=seed, executed=True, subset=SUBSET)


def played(one: Guarding, seeds: range, king: Examined, challenger: Examined) -> tuple[Need, ...]:
    """Keep pairs of runs; return the challenger's needs."""
    nats = np.linspace(5, 9, len(HIDDEN))
    for seed in seeds:
        for of, lost, examined in ((need("king", seed), nats, king), (need("challenger", seed), nats - 0.1, challenger)):
            one.losses.keep(of, bytes([seed]) * 32, lost)
            one.answers.keep(of, (examined,))
    return tuple(need("challenger", seed) for seed in seeds)


def test_every_guarded_part_has_a_row_in_the_order_of_the_rules(tmp_path: Path, honest: Examined) -> None:
    one = guarding(tmp_path)
    wanted = played(one, range(4), honest, honest)
    rows = one.rows(wanted[-1], wanted, beacon_two=bytes(32))
    assert tuple((row.kind, row.name) for row in rows) == RULES.guards.parts
    assert {row.runs for row in rows} == {4}
    assert all(row.difference < 0 for row in rows if row.kind == "source")
    assert all(row.difference == row.upper == 0 for row in rows if row.kind != "source")
    assert one.rows(wanted[0], wanted, beacon_two=bytes(32)) == ()


def test_a_task_that_was_forgotten_is_above_its_margins_and_the_other_is_not(tmp_path: Path, honest: Examined, forgetful: Examined) -> None:
    one = guarding(tmp_path)
    wanted = played(one, range(4), honest, forgetful)
    rows = {(row.kind, row.name): row for row in one.rows(wanted[-1], wanted, beacon_two=bytes(32))}
    assert rows["gold", "copa"].upper > RULES.exam.gold_margin_bpb
    assert rows["answers", "copa"].upper > RULES.exam.answers_margin
    assert rows["answers", "piqa"].upper == rows["gold", "piqa"].upper == 0
    assert all(row.difference == round(row.difference, 5) and row.upper == round(row.upper, 5) for row in rows.values())


def test_runs_of_an_earlier_round_count_and_missing_ones_end_the_contest_by_themselves(tmp_path: Path, honest: Examined) -> None:
    earlier = tuple(
        PairedRun(seed=seed, challenger=1.0, king=1.1, challenger_weights=bytes(32), king_weights=bytes(32)) for seed in range(4)
    )
    one = guarding(tmp_path, runs=earlier)
    wanted = played(one, range(4, 8), honest, honest)
    assert one.rows(wanted[-1], wanted, beacon_two=bytes(32)) == ()
    played(one, range(4), honest, honest)
    assert {row.runs for row in one.rows(wanted[-1], wanted, beacon_two=bytes(32))} == {8}


def test_a_validator_that_comes_back_keeps_what_it_kept_and_goes_on(tmp_path: Path, honest: Examined, forgetful: Examined) -> None:
    played(guarding(tmp_path), range(2), honest, honest)
    again = guarding(tmp_path)
    wanted = played(again, range(4), honest, forgetful)  # of seeds 0 and 1 the first answers stay
    rows = {(row.kind, row.name): row for row in again.rows(wanted[-1], wanted, beacon_two=bytes(32))}
    assert rows["gold", "copa"].runs == 4
    whole = guarding(tmp_path / "other")
    other = played(whole, range(4), honest, forgetful)
    full = {(row.kind, row.name): row for row in whole.rows(other[-1], other, beacon_two=bytes(32))}
    assert rows["gold", "copa"].difference == pytest.approx(full["gold", "copa"].difference / 2, abs=2e-3)


def test_the_kings_first_answers_are_kept_for_the_weighted_draws(tmp_path: Path, honest: Examined, forgetful: Examined) -> None:
    one = guarding(tmp_path)
    assert one.answers.king(KING, ["tasks"]) == {}
    played(one, range(1), honest, forgetful)
    played(one, range(1, 2), forgetful, forgetful)
    kept = one.answers.king(KING, ["tasks"])["tasks"]
    for answers in honest.answers:
        assert np.array_equal(kept[answers.entry.task.label].beside(answers).losses, answers.losses)


def test_a_repeat_that_stands_in_for_a_failed_proof_run_of_the_king_is_what_is_compared(tmp_path: Path, honest: Examined) -> None:
    one = guarding(tmp_path)
    wanted = played(one, range(3), honest, honest)
    nats = np.linspace(5, 9, len(HIDDEN))
    one.losses.keep(need("challenger", 3), bytes([3]) * 32, nats - 0.1)
    one.answers.keep(need("challenger", 3), (honest,))
    wanted = (*wanted, need("challenger", 3))
    assert one.rows(wanted[-1], wanted, beacon_two=bytes(32)) == ()
    repeat = replace(need("king", 3), stage="repeat")
    one.losses.keep(repeat, bytes([4]) * 32, nats)
    one.answers.keep(repeat, (honest,))
    assert {row.runs for row in one.rows(wanted[-1], wanted, beacon_two=bytes(32))} == {4}


def test_a_replay_with_other_weights_leaves_the_losses_of_the_first_run_and_both_can_be_opened(tmp_path: Path) -> None:
    losses, run = DocumentLosses(private=DirectoryStore(tmp_path)), need("king", 3)
    first, second = np.full(4, 5.0), np.full(4, 6.0)
    losses.keep(run, bytes([1]) * 32, first)
    losses.keep(replace(run, stage="canary"), bytes([2]) * 32, second)
    found = [losses.find(run.exam, weights) for weights in (None, bytes([1]) * 32, bytes([2]) * 32)]
    assert [None if one is None else one.tolist() for one in found] == [first.tolist(), first.tolist(), second.tolist()]
    assert losses.find(run.exam, bytes([3]) * 32) is None
