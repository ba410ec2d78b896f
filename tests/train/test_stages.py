"""A run in two stages of packed rows, in real sandboxes: counts follow the plan, and a run that was stopped goes on to the same bytes."""

from pathlib import Path

import pytest

from ralph.data.dataset import DataSet
from ralph.data.stages import Stage, place_of, tokens_after
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import host, transcript
from ralph.train.journal import Journal
from ralph.train.plan import plan
from ralph.train.run import StepReport
from tests.train.material import RUNG, copy, job

LONGER = RUNG.model_copy(update={"max_steps": 12})
STAGES = (Stage(steps=6, batch_rows=32, sequence=4), Stage(steps=3, batch_rows=16, sequence=16))
TOKENS = [128, 256, 384, 512, 640, 768, 1024, 1280, 1536]
KNOBS = """
[early_tokens]
value = 0.5

[early_batch]
value = 0.5

[early_sequence]
value = 0.25

[packing]
value = "best_fit"
"""


def staged_recipe(target: Path) -> Path:
    config = copy(target) / "config" / "base.toml"
    config.write_text(config.read_text(encoding="utf-8") + KNOBS, encoding="utf-8")
    return target


def test_a_run_in_stages_counts_by_its_plan_and_goes_on_from_within_its_first_stage(
    tmp_path: Path, data: DataSet, sandbox: BubblewrapSandbox
) -> None:
    staged = job(staged_recipe(tmp_path / "recipe"), rung=LONGER)
    fixed, reports, continued = plan(staged.recipe, LONGER), list[StepReport](), list[StepReport]()
    assert (fixed.stages, fixed.packing, fixed.boundaries) == (STAGES, "best_fit", (0, 3, 6, 9))
    whole = host.train(staged, sandbox=sandbox, data=data, on_step=reports.append)
    assert [report.tokens for report in reports] == TOKENS
    assert transcript.verify(whole.transcript, fixed).losses == whole.losses

    def stop(report: StepReport) -> None:
        if report.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.train(staged, sandbox=sandbox, data=data, on_step=stop, journal=Journal(tmp_path / "run", {}))
    again = host.train(staged, sandbox=sandbox, data=data, on_step=continued.append, journal=Journal(tmp_path / "run", {}))
    assert [report.step for report in continued] == [4, 5, 6, 7, 8, 9]
    assert [report.tokens for report in continued] == TOKENS[3:]
    assert [report.tokens_now for report in continued] == [tokens - TOKENS[2] for tokens in TOKENS[3:]]
    assert (again.transcript, again.weights, again.segments) == (whole.transcript, whole.weights, whole.segments)


def test_tokens_and_places_follow_the_stages_and_the_last_one_has_no_end() -> None:
    assert [tokens_after(STAGES, step) for step in range(1, 10)] == TOKENS
    assert tokens_after(STAGES, 0) == 0
    assert [place_of(STAGES, step) for step in (0, 5, 6, 9, 100)] == [(0, 0), (0, 5), (1, 0), (1, 3), (1, 94)]
