import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.data.dataset import DataSet
from ralph.data.stages import Stage
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.protocol.network import LADDER
from ralph.protocol.rules import Rung
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import host
from ralph.train.plan import MAX_CONFIG_BYTES, Plan, plan
from tests.train.material import RECIPE, RUNG, job

CODE = "[mixture_code]\nvalue = 1.0\n"


def planned(folder: Path, text: str | bytes, rung: Rung = RUNG) -> Plan:
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / "base.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    return plan(folder, rung)


def refused(folder: Path, text: str | bytes) -> str:
    with pytest.raises(UntrustedInputError) as refusal:
        planned(folder, text)
    return refusal.value.code


def test_the_plan_of_the_recipe_fills_the_budget_in_whole_steps() -> None:
    made = plan(RECIPE, RUNG)
    assert (made.steps, made.batch_rows, made.sequence, made.tokens) == (6, 16, 16, 1536)
    assert [source for source, _ in made.mixture] == ["code", "docs"]


@given(batch_rows=st.integers(-4, 10_000))
def test_no_batch_size_gets_more_than_the_budget(tmp_path_factory: pytest.TempPathFactory, batch_rows: int) -> None:
    folder = tmp_path_factory.mktemp("plan")
    text = f"[batch_rows]\nvalue = {batch_rows}\n{CODE}"
    if 1 <= batch_rows <= RUNG.tokens // RUNG.sequence:
        made = planned(folder, text)
        assert made.tokens == made.steps * made.batch_rows * made.sequence <= RUNG.tokens
        assert 1 <= made.steps <= RUNG.max_steps
        assert made.boundaries[0] == 0
        assert made.boundaries[-1] == made.steps
        assert len(made.boundaries) == min(RUNG.segments, made.steps) + 1
    else:
        assert refused(folder, text) == "RUN-BUDGET"


@pytest.mark.parametrize("value", ["1.0", "true", '"16"', "[16]", "0", "9223372036854775808", "1" + "0" * 4290, "0x" + "f" * 9000])
def test_a_batch_that_is_no_count_or_too_large_is_over_the_budget(value: str, tmp_path: Path) -> None:
    assert refused(tmp_path, f"[batch_rows]\nvalue = {value}\n{CODE}") == "RUN-BUDGET"


@pytest.mark.parametrize("value", ["-0.1", "nan", "inf", '"1"', "true", "0.0", "0x" + "f" * 9000])
def test_a_weight_must_be_a_number_and_one_of_them_positive(value: str, tmp_path: Path) -> None:
    assert refused(tmp_path, f"[batch_rows]\nvalue = 4\n[mixture_code]\nvalue = {value}\n") == "RUN-BUDGET"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("batch_rows = 16\n", id="no table"),
        pytest.param("[batch_rows]\nlow = 1\n", id="no value"),
        pytest.param("[[[", id="no TOML"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param("a = " + "[" * 20_000, id="nested"),
        pytest.param("#" * (MAX_CONFIG_BYTES + 1), id="large"),
        pytest.param("a = 1" + "0" * 5000, id="long number"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_refused(text: str | bytes, tmp_path: Path) -> None:
    assert refused(tmp_path, text) == "RUN-IMPORT"


def test_a_configuration_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "base.toml").symlink_to(RECIPE / "config" / "base.toml")
    with pytest.raises(UntrustedInputError):
        plan(tmp_path, RUNG)


def test_a_rung_multiplies_the_rows_that_the_recipe_asks_for() -> None:
    rung = RUNG.model_copy(update={"batch_factor": 4, "tokens": 64 * 16 * 5, "max_steps": 100})
    fixed = plan(RECIPE, rung)
    assert (fixed.batch_rows, fixed.steps) == (64, 5)


LONG = RUNG.model_copy(update={"max_steps": 100})


def staged(folder: Path, *, batch_rows: int = 4, rung: Rung = LONG, **values: object) -> Plan:
    """The plan of a configuration that declares these knobs, with values as they stand in TOML."""
    declared = "".join(f"[{name}]\nvalue = {value}\n" for name, value in values.items())
    return planned(folder, f"[batch_rows]\nvalue = {batch_rows}\n{CODE}{declared}", rung)


def test_a_configuration_without_the_knobs_has_one_stage_and_a_stream(tmp_path: Path) -> None:
    made = staged(tmp_path)
    assert (made.stages, made.packing) == ((Stage(steps=25, batch_rows=4, sequence=16),), "stream")
    assert staged(tmp_path, early_tokens=0.0, early_batch=0.25, early_sequence=0.5, packing='"stream"') == made


@pytest.mark.parametrize(
    ("batch", "sequence", "early"),
    [
        (1.0, 1.0, Stage(steps=12, batch_rows=4, sequence=16)),
        (1.0, 0.25, Stage(steps=12, batch_rows=16, sequence=4)),
        (0.5, 0.25, Stage(steps=25, batch_rows=8, sequence=4)),
        (0.25, 1.0, Stage(steps=50, batch_rows=1, sequence=16)),
    ],
)
def test_a_shorter_row_is_served_more_often_and_a_smaller_batch_has_fewer_tokens(
    batch: float, sequence: float, early: Stage, tmp_path: Path
) -> None:
    made = staged(tmp_path, early_tokens=0.5, early_batch=batch, early_sequence=sequence)
    assert made.stages == (early, Stage(steps=(1600 - early.steps * early.step_tokens) // 64, batch_rows=4, sequence=16))
    assert (made.batch_rows, made.sequence, made.steps) == (4, 16, sum(stage.steps for stage in made.stages))
    assert made.tokens == made.tokens_after(made.steps) <= LONG.tokens
    assert made.tokens_after(early.steps + 1) == early.steps * early.step_tokens + 64


@given(
    part=st.floats(-0.5, 1.5) | st.integers(-1, 2),
    batch=st.sampled_from([0.25, 0.5, 1.0, 1, 2.0]),
    sequence=st.sampled_from([0.25, 0.5, 1.0]),
    batch_rows=st.integers(1, 60),
    max_steps=st.integers(1, 200),
)
def test_stages_never_get_more_than_the_budget_and_none_of_them_is_empty(
    tmp_path_factory: pytest.TempPathFactory, part: float, batch: float, sequence: float, batch_rows: int, max_steps: int
) -> None:
    folder = tmp_path_factory.mktemp("stages")
    (folder / "config").mkdir()
    text = f"[early_tokens]\nvalue = {part!r}\n[early_batch]\nvalue = {batch}\n[early_sequence]\nvalue = {sequence}\n"
    (folder / "config" / "base.toml").write_text(f"[batch_rows]\nvalue = {batch_rows}\n{CODE}{text}")
    try:
        made = plan(folder, RUNG.model_copy(update={"max_steps": max_steps}))
    except UntrustedInputError as refusal:
        assert refusal.code == "RUN-BUDGET"
        return
    assert len(made.stages) == (2 if part else 1)
    assert all(stage.steps >= 1 and stage.batch_rows >= 1 and RUNG.sequence % stage.sequence == 0 for stage in made.stages)
    assert made.steps <= max_steps
    assert made.tokens <= RUNG.tokens
    assert made.boundaries[-1] == made.steps
    assert sum(stage.steps * stage.step_tokens for stage in made.stages[:-1]) <= part * RUNG.tokens


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"packing": '"tight"'}, "packing is 'tight', it must be one of stream, best_fit"),
        ({"packing": "1"}, "packing is '1'"),
        ({"early_batch": "0.3"}, "early_batch is '0.3', it must be one of 0.25, 0.5, 1.0"),
        ({"early_batch": "true"}, "early_batch is 'True'"),
        ({"early_sequence": "[1.0]"}, "early_sequence is '[1.0]'"),
        ({"early_sequence": "0x" + "f" * 9000}, "early_sequence is a number of thousands of digits"),
        ({"early_tokens": "1.0"}, "early_tokens is '1.0', it must be a number of at least 0 and below 1"),
        ({"early_tokens": "nan"}, "early_tokens is 'nan'"),
        ({"early_tokens": "true"}, "early_tokens is 'True'"),
        ({"early_tokens": "0.01"}, "early_tokens of 1600 tokens are 16, 0 steps of 4 rows x 16 tokens"),
        (
            {"early_tokens": "0.5", "early_batch": "0.25", "early_sequence": "0.25", "batch_rows": 1},
            "200 steps of 1 rows x 4 tokens; rung tiny allows 1 to 99 steps before the last stage",
        ),
        ({"early_tokens": "0.5", "early_batch": "0.25", "batch_rows": 2}, "would have 1/2 rows of 16 tokens"),
        (
            {"early_tokens": "0.6", "batch_rows": 51},
            "one step of 51 rows x 16 tokens is 816 tokens, rung tiny allows 1600, of which the first stage leaves 784",
        ),
    ],
)
def test_a_knob_of_the_host_that_does_not_add_up_is_over_the_budget(knobs: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(UntrustedInputError, match=re.escape(said)) as refusal:
        staged(tmp_path, **knobs)
    assert refusal.value.code == "RUN-BUDGET"


def test_rows_that_cannot_be_quartered_are_refused_at_that_rung(tmp_path: Path) -> None:
    odd = LONG.model_copy(update={"sequence": 18})
    with pytest.raises(UntrustedInputError, match="16 rows of 9/2 tokens; it needs a row, and whole tokens"):
        staged(tmp_path, rung=odd, early_tokens=0.5, early_sequence=0.25)
    assert staged(tmp_path, rung=odd, early_tokens=0.5, early_sequence=0.5).stages[0].sequence == 9


def test_a_gpu_rung_is_refused_before_anything_starts(data: DataSet, sandbox: BubblewrapSandbox) -> None:
    rung = next(rung for rung in LADDER if rung.device == "cuda")
    with (
        pytest.raises(ConfigurationError, match="no /dev/nvidia0"),
        host.start(job(rung=rung), sandbox=sandbox, data=data),
    ):
        pass
