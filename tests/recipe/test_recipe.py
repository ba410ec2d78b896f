"""The recipe as a stranger would use it: every option trains, stays causal, and resumes bit for bit."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ralph.protocol.network import LADDER
from ralph.protocol.rules import Rung
from tests.recipe.conftest import RECIPE

VOCABULARY, SEQUENCE, ROWS, STEPS = 64, 16, 8, 12
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"position": "rope"},
    {"qk_norm": "on"},
    {"qk_norm": "on", "qk_gain": 3.0},
    {"activation": "relu2"},
    {"zero_init": "on"},
    {"soft_cap": 15},
    {"value_embedding": "on"},
    {"optimizer": "muon"},
    {"warmdown": 0.5},
    {"gradient_clip": 0.0, "weight_decay": 0.0},
    {"mlp_ratio": 2},
    {"lambdas": "on"},
    {"cautious_decay": "on"},
    {"warmdown": 0.5, "warmdown_floor": 0.2},
    {"window_pattern": "SL", "window_warmup": 0.4},
    {"attention": "plain"},
    {"precision": "bf16"},
    {"fused_loss": "on", "soft_cap": 15},
    {"embedding_decay": 0.0, "head_decay": 2.0, "matrices_decay": 0.5},
    {"optimizer": "muon", "orthogonaliser": "polar", "cautious_decay": "on"},
    {"position": "rope", "optimizer": "muon"},
    {
        "position": "rope",
        "qk_norm": "on",
        "activation": "relu2",
        "zero_init": "on",
        "soft_cap": 30,
        "value_embedding": "on",
        "optimizer": "muon",
        "orthogonaliser": "polar",
        "cautious_decay": "on",
        "lambdas": "on",
        "warmdown": 0.3,
        "warmdown_floor": 0.1,
        "window_pattern": "SL",
        "window_warmup": 0.3,
        "fused_loss": "on",
    },
)
Build = Callable[..., Any]


def _name(option: dict[str, Any]) -> str:
    return " ".join(option) or "genesis"


@pytest.fixture
def build(recipe: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Build:
    """Return a function that builds a trainer with some knobs set, from a config file as the recipe reads it."""

    def built(width: int = 32, **knobs: Any) -> Any:
        text = recipe.train.tomllib.loads((RECIPE / "config" / "base.toml").read_text())
        for name, value in knobs.items():
            text.setdefault(name, {})["value"] = value
        lines = [f"[{name}]\nvalue = {value!r}\n" for name, value in ((name, table["value"]) for name, table in text.items())]
        path = tmp_path / "base.toml"
        path.write_text("".join(lines))
        monkeypatch.setattr(recipe.train, "CONFIG", path)
        torch.manual_seed(1)
        return recipe.train.build(width=width, sequence=SEQUENCE, vocabulary=VOCABULARY, steps=STEPS, batch_rows=ROWS)

    return built


def batch(step: int) -> torch.Tensor:
    """Return rows that count upwards by a step of their own: easy to learn."""
    generator = torch.Generator().manual_seed(step)
    start, stride = torch.randint(0, VOCABULARY, (2, ROWS, 1), generator=generator)
    return (start + (stride % 2 + 1) * torch.arange(SEQUENCE + 1)) % VOCABULARY


@pytest.mark.parametrize("option", OPTIONS, ids=_name)
def test_every_option_learns_within_a_few_steps(option: dict[str, Any], build: Build) -> None:
    trainer = build(**option)
    figures = [trainer.step(batch(step)) for step in range(STEPS)]
    losses = [float(loss) for loss, _ in figures]
    assert all(torch.isfinite(norm) and norm.ndim == 0 and loss.ndim == 0 for loss, norm in figures)
    assert losses[-1] < losses[0] - 0.02


@pytest.mark.parametrize("option", OPTIONS, ids=_name)
def test_no_logit_depends_on_a_later_token_or_another_row(option: dict[str, Any], build: Build) -> None:
    trainer = build(**option)
    for step in range(2):
        trainer.step(batch(step))
    model, tokens = trainer.model.eval(), batch(0)[:, :-1]
    with torch.no_grad():
        before = model(tokens)
        for place in (1, SEQUENCE // 2, SEQUENCE - 1):
            changed = tokens.clone()
            changed[0, place] = (changed[0, place] + 7) % VOCABULARY
            after = model(changed)
            assert torch.equal(after[0, :place], before[0, :place])
            assert torch.equal(after[1:], before[1:])
            assert not torch.equal(after[0, place:], before[0, place:])


@pytest.mark.parametrize("option", OPTIONS, ids=_name)
def test_rows_that_continue_a_prefix_get_the_logits_of_whole_rows(option: dict[str, Any], build: Build) -> None:
    trainer = build(**option)
    for step in range(2):
        trainer.step(batch(step))
    model, tokens = trainer.model.eval(), batch(0)[:, :-1]
    scale = 1e-5 if model.dtype == torch.float32 else 3e-2
    with torch.no_grad():
        for length in (1, SEQUENCE // 2, SEQUENCE - 1):
            rows = torch.cat((tokens[:1, :length].expand(ROWS, -1), tokens[:, length:]), 1)
            found = model.continued(rows[0, :length], rows[:, length:])
            assert found.shape == (ROWS, SEQUENCE - length, VOCABULARY)
            assert float((found - model(rows)[:, length:]).abs().max()) < scale


@pytest.mark.parametrize("option", OPTIONS, ids=_name)
def test_a_training_resumed_from_its_state_is_the_same_training(option: dict[str, Any], build: Build) -> None:
    straight = build(**option)
    for step in range(3):
        straight.step(batch(step))
    saved = {name: tensor.clone() for name, tensor in straight.state().items()}
    resumed = build(**option)
    resumed.load(saved)
    for step in range(3, 6):
        assert torch.equal(straight.step(batch(step))[0], resumed.step(batch(step))[0])
    ends = straight.state(), resumed.state()
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_state_of_another_recipe_is_refused(build: Build) -> None:
    with pytest.raises(ValueError, match="another recipe"):
        build().load(build(position="rope").state())


def test_a_loaded_state_brings_no_learning_rate(build: Build) -> None:
    """A checkpoint that carried its own hyper-parameters would replay "correctly" whatever the config says."""
    assert {name.split(".")[0] for name in build(optimizer="muon").state()} == {"model", "optimizer", "step"}
    slow, fast = build(learning_rate=1e-9), build(learning_rate=0.005)
    slow.load({name: tensor.clone() for name, tensor in fast.state().items()})
    before = slow.model.head.weight.clone()
    slow.step(batch(0))
    assert (slow.model.head.weight - before).abs().max() < 1e-7


@pytest.mark.parametrize(("width", "depth", "heads"), [(16, 2, 1), (32, 2, 2), (64, 2, 4), (96, 2, 6), (128, 4, 4), (256, 6, 2)])
def test_the_dial_fixes_depth_and_heads(width: int, depth: int, heads: int, build: Build) -> None:
    model = build(width=width).model
    assert (len(model.blocks), model.blocks[0].attention.heads) == (depth, heads)


@pytest.mark.parametrize("zero_init", ["on", "off"])
def test_every_parameter_is_drawn_anew_or_zero(zero_init: str, recipe: SimpleNamespace, build: Build) -> None:
    config = build(zero_init=zero_init, value_embedding="on").config

    def drawn(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return recipe.model.GPT(config, width=32, sequence=SEQUENCE, vocabulary=VOCABULARY).state_dict()

    first, second = drawn(2), drawn(3)
    for name, values in first.items():
        if zero_init == "on" and name.endswith("output.weight"):
            assert not values.any()
        else:
            assert abs(float(torch.corrcoef(torch.stack([values.flatten(), second[name].flatten()]))[0, 1])) < 6 / values.numel() ** 0.5


def test_soft_capped_logits_stay_below_the_cap(build: Build) -> None:
    model = build(soft_cap=15, matrix_std=2.0).model
    model.head.weight.data.mul_(100)
    assert model(batch(0)[:, :-1]).abs().max() <= 15


@pytest.mark.parametrize(("decay", "betas"), [(0.1, (0.9, 0.95)), (0.0, (0.8, 0.999))])
def test_adamw_has_the_bits_of_torchs(decay: float, betas: tuple[float, float], recipe: SimpleNamespace) -> None:
    torch.manual_seed(0)
    shapes = ((7, 5), (64, 32), (3,), ())
    ours = {str(index): torch.randn(shape, requires_grad=True) for index, shape in enumerate(shapes)}
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours.values()]
    adamw = recipe.optim.AdamW(ours, rate=0.01, beta1=betas[0], beta2=betas[1], decay=decay, cautious=False)
    reference = torch.optim.AdamW(theirs, lr=0.01, betas=betas, weight_decay=decay, eps=1e-8)
    for count in range(1, 31):
        reference.param_groups[0]["lr"] = 0.01 * (1 / count)
        for mine, other in zip(ours.values(), theirs, strict=True):
            mine.grad = torch.randn(mine.shape)
            other.grad = mine.grad.clone()
        adamw.step(count, 1 / count)
        reference.step()
        assert all(torch.equal(mine, other) for mine, other in zip(ours.values(), theirs, strict=True)), count


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 64, 16), (2, 16, 64)])
def test_muon_moves_along_a_nearly_orthogonal_matrix(shape: tuple[int, ...], recipe: SimpleNamespace) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(recipe.optim.orthogonalise(torch.randn(shape)))
    assert values.min() > 0.3
    assert values.max() < 1.4


@pytest.mark.parametrize("smallest", [0.002, 0.01, 0.5])
def test_polar_express_brings_every_singular_value_near_one(smallest: float, recipe: SimpleNamespace) -> None:
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))
    scales = torch.cat([torch.ones(1), torch.full((15,), smallest)]).double()
    matrix = ((left * scales) @ right)[None]
    values = torch.linalg.svdvals(recipe.optim.orthogonalise(matrix, recipe.optim.POLAR_EXPRESS))
    assert values.min() > 0.85
    assert values.max() < 1.15


def test_cautious_decay_leaves_weights_that_grow_alone(recipe: SimpleNamespace) -> None:
    weights, update = torch.tensor([1.0, -1.0, 2.0]), torch.tensor([3.0, 3.0, 0.0])
    recipe.optim.decay_aligned([weights], [update], 0.1)
    assert torch.allclose(weights, torch.tensor([0.9, -1.0, 2.0]))


def test_lambdas_begin_as_if_they_were_not_there(build: Build) -> None:
    plain, pieces = build().model, build(lambdas="on").model
    pieces.load_state_dict(plain.state_dict(), strict=False)
    assert torch.allclose(plain(batch(0)[:, :-1]), pieces(batch(0)[:, :-1]), atol=1e-6)


def test_muon_treats_each_matrix_of_a_stack_as_if_it_were_alone(recipe: SimpleNamespace) -> None:
    torch.manual_seed(0)
    stack = torch.randn(3, 8, 8)
    alone = torch.cat([recipe.optim.orthogonalise(one[None]) for one in stack])
    assert torch.allclose(recipe.optim.orthogonalise(stack), alone, atol=1e-5)


def test_clipping_scales_the_joint_norm_and_reports_the_one_before(recipe: SimpleNamespace) -> None:
    tensors = [torch.zeros(3, requires_grad=True), torch.zeros(4, requires_grad=True)]
    for tensor in tensors:
        tensor.grad = torch.full_like(tensor, 2.0)
    norm = recipe.optim.clip(tensors, 1.0)
    assert norm == pytest.approx((7 * 4) ** 0.5)
    assert sum(float(tensor.grad.square().sum()) for tensor in tensors) == pytest.approx(1.0, rel=1e-4)
    assert recipe.optim.clip(tensors, 0.0) == recipe.optim.clip(tensors, 4.0) == pytest.approx(1.0, rel=1e-4)


def test_the_schedule_rises_stays_and_falls(recipe: SimpleNamespace) -> None:
    factors = [recipe.optim.schedule(step, 100, 0.1, 0.2) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert set(factors[9:81]) == {1.0}
    assert factors[80:] == pytest.approx([(100 - step) / 20 for step in range(80, 100)])
    assert {recipe.optim.schedule(step, 7, 0.0, 0.0) for step in range(7)} == {1.0}


def test_the_schedule_can_end_above_zero(recipe: SimpleNamespace) -> None:
    factors = [recipe.optim.schedule(step, 10, 0.0, 0.5, 0.2) for step in range(10)]
    assert factors[:5] == [1.0] * 5
    assert factors[-1] == pytest.approx(0.2 + 0.8 / 5)


def test_the_loss_is_the_mean_cross_entropy_of_the_next_token(build: Build) -> None:
    trainer, tokens = build(), batch(0)
    expected = nn.functional.cross_entropy(trainer.model(tokens[:, :-1]).reshape(-1, VOCABULARY), tokens[:, 1:].reshape(-1))
    assert torch.equal(trainer.step(tokens)[0], expected.detach())


def test_a_worker_start_does_not_pay_for_the_compiler() -> None:
    """torch._dynamo costs a second; torch.optim and deterministic algorithms would bring it in."""
    code = f"""
import sys
sys.path.insert(0, {str(RECIPE)!r})
import torch, train
train.build(width=32, sequence=8, vocabulary=64, steps=2, batch_rows=2).step(torch.zeros(2, 9, dtype=torch.int64))
sys.exit(any(name.startswith("torch._dynamo") or name.startswith("ralph") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("width", [32, 64, 128])
def test_rates_follow_the_width_and_decay_the_whole_run(width: int, recipe: SimpleNamespace, build: Build) -> None:
    config = build(optimizer="muon", weight_decay=0.2).config

    def made(steps: int) -> dict[str, Any]:
        parameters = dict(recipe.model.GPT(config, width=width, sequence=8, vocabulary=8).named_parameters())
        found: dict[str, Any] = recipe.train.optimizers(config, parameters, narrow=32 / width, steps=steps)
        return found

    few, many = made(100), made(1000)
    assert few["head"].rate == pytest.approx(config.learning_rate * config.head_rate * 32 / width)
    assert few["embedding"].rate == pytest.approx(config.learning_rate * config.embedding_rate)
    assert few["matrices"].rate == many["matrices"].rate == config.muon_rate
    for name, optimizer in few.items():
        rate = config.muon_rate if name == "matrices" else config.learning_rate * {"embedding": config.embedding_rate}.get(name, 1.0)
        whole_run = 100 * optimizer.rate * optimizer.decay
        assert whole_run == pytest.approx(1000 * many[name].rate * many[name].decay)
        assert whole_run == pytest.approx(100 * config.weight_decay * rate)


def test_a_smaller_batch_takes_smaller_steps(build: Build) -> None:
    trainer = build(warmup=0.0, gradient_clip=0.0)
    factors: list[float] = []
    for optimizer in trainer.optimizers.values():
        optimizer.step = lambda count, factor: factors.append(factor)
    trainer.step(batch(0))
    trainer.step(batch(0)[: ROWS // 4])
    trainer.step(batch(0)[:, : SEQUENCE // 4 + 1])
    assert sorted(set(factors)) == [0.5, 1.0]


def test_a_large_batch_is_the_sum_of_its_parts(recipe: SimpleNamespace, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build()
    expected = [whole.step(batch(step)) for step in range(3)]
    monkeypatch.setattr(recipe.train, "MICRO_TOKENS", 3 * SEQUENCE)
    parts = build()
    found = [parts.step(batch(step)) for step in range(3)]
    for (loss, norm), (other_loss, other_norm) in zip(expected, found, strict=True):
        assert loss == pytest.approx(float(other_loss), rel=1e-5)
        assert norm == pytest.approx(float(other_norm), rel=1e-4)


def test_the_window_opens_after_its_part_of_the_steps(build: Build) -> None:
    trainer = build(window_warmup=0.5)
    seen: list[bool] = []
    loss = trainer.loss
    trainer.loss = lambda tokens, *, short: seen.append(short) or loss(tokens, short=short)
    for step in range(STEPS):
        trainer.step(batch(step))
    assert seen == [True] * (STEPS // 2) + [False] * (STEPS // 2)


@pytest.mark.parametrize(("pattern", "windows"), [("L", [32] * 4), ("SL", [8, 32, 8, 32]), ("SSSL", [8, 8, 8, 32])])
def test_a_pattern_of_windows_repeats_and_ends_with_a_long_one(
    pattern: str, windows: list[int], recipe: SimpleNamespace, build: Build
) -> None:
    config = build(window_pattern=pattern).config
    model = recipe.model.GPT(config, width=128, sequence=32, vocabulary=8)
    assert model.windows == windows
    full = recipe.model.GPT(build(window_pattern="L").config, width=128, sequence=32, vocabulary=8)
    assert full.flops_per_token() - model.flops_per_token() == 12 * 128 * (4 * 32 - sum(windows))


@pytest.mark.parametrize(
    "knobs", [{}, {"window_pattern": "SL", "precision": "bf16", "fused_loss": "on", "soft_cap": 15, "position": "rope"}]
)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's compiler does it itself
def test_the_loss_is_one_graph_of_fixed_shapes(knobs: dict[str, Any], build: Build) -> None:
    """What a GPU rung compiles: no break, and one compilation for all steps of one shape."""
    counted: list[int] = []

    def counting(graph: Any, inputs: Any) -> Any:
        counted.append(len(inputs))
        return graph.forward

    trainer = build(**knobs)
    eager = float(trainer.loss(batch(0), short=False).detach())
    torch._dynamo.reset()
    trainer.loss = torch.compile(trainer.model.loss, dynamic=False, fullgraph=True, backend=counting)
    losses = [float(trainer.step(batch(step))[0]) for step in range(3)]
    assert len(counted) == 1
    assert losses[0] == pytest.approx(eager, rel=1e-4)


@pytest.mark.parametrize("rung", LADDER, ids=lambda rung: rung.name)
@pytest.mark.parametrize("knobs", [{}, {"value_embedding": "on", "position": "rope", "mlp_ratio": 4}], ids=["genesis", "with everything"])
def test_every_rung_of_the_ladder_has_room_for_its_model(rung: Rung, knobs: dict[str, Any], recipe: SimpleNamespace, build: Build) -> None:
    config, vocabulary = build(**knobs).config, 1024 if rung.device == "cpu" else 50_257
    with torch.device("meta"):
        model = recipe.model.GPT(config, width=rung.width, sequence=rung.sequence, vocabulary=vocabulary)
    assert 0.1 * rung.max_parameters < sum(parameter.numel() for parameter in model.parameters()) <= rung.max_parameters
