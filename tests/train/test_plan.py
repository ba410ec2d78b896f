from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.data.dataset import DataSet
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.protocol.network import LADDER
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train import host
from ralph.train.plan import MAX_CONFIG_BYTES, Plan, plan
from tests.train.material import RECIPE, RUNG, job

CODE = "[mixture_code]\nvalue = 1.0\n"


def planned(folder: Path, text: str | bytes) -> Plan:
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / "base.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    return plan(folder, RUNG)


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


@pytest.mark.parametrize("value", ["1.0", "true", '"16"', "[16]", "0", "9223372036854775808"])
def test_a_batch_that_is_no_count_or_too_large_is_over_the_budget(value: str, tmp_path: Path) -> None:
    assert refused(tmp_path, f"[batch_rows]\nvalue = {value}\n{CODE}") == "RUN-BUDGET"


@pytest.mark.parametrize("value", ["-0.1", "nan", "inf", '"1"', "true", "0.0"])
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


def test_a_gpu_rung_is_refused_before_anything_starts(data: DataSet, sandbox: BubblewrapSandbox) -> None:
    rung = next(rung for rung in LADDER if rung.device == "cuda")
    with pytest.raises(ConfigurationError, match="S1 trains on a GPU"), host.start(job(rung=rung), sandbox=sandbox, data=data):
        pass
