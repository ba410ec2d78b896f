"""Two ways to compute one thing agree: attention written out and fused, loss kept whole and in chunks."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

B, H, T, D = 2, 3, 32, 16
N, C, V = 24, 8, 40


def _inputs(dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(B, H, T, D).to(dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("window", [1, 5, T, 2 * T])
def test_plain_and_fused_attention_agree_forward_and_backward(
    window: int, dtype: torch.dtype, tolerance: float, recipe: SimpleNamespace
) -> None:
    found = []
    for kind in ("plain", "fused"):
        q, k, v = _inputs(dtype)
        y = recipe.attention.attend(q, k, v, window, kind)
        y.float().square().sum().backward()
        found.append([y.detach(), q.grad, k.grad, v.grad])
    for plain, fused in zip(*found, strict=True):
        assert plain.dtype == fused.dtype == dtype
        scale = float(plain.float().abs().max())
        assert float((plain.float() - fused.float()).abs().max()) <= tolerance * max(1.0, scale)


@pytest.mark.parametrize("kind", ["plain", "fused"])
@pytest.mark.parametrize("window", [1, 5, T])
def test_a_position_reads_its_window_and_nothing_else(kind: str, window: int, recipe: SimpleNamespace) -> None:
    q, k, v = (tensor.detach() for tensor in _inputs(torch.float32))
    before = recipe.attention.attend(q, k, v, window, kind)
    place = 7
    changed = v.clone()
    changed[:, :, place] += 1.0
    moved = (recipe.attention.attend(q, k, changed, window, kind) - before).abs().amax((0, 1, 3))
    readers = {int(reader) for reader in torch.nonzero(moved)}
    assert readers == set(range(place, min(T, place + window)))


def test_bfloat16_on_a_cpu_is_not_left_to_the_slow_kernel(recipe: SimpleNamespace) -> None:
    q, k, v = (tensor.detach() for tensor in _inputs(torch.bfloat16))
    chosen, plain = (recipe.attention.attend(q, k, v, T, kind) for kind in ("auto", "plain"))
    assert torch.equal(chosen, plain)


@pytest.mark.parametrize("cap", [0, 5])
@pytest.mark.parametrize("logits", [1 << 27, 5 * V])
def test_the_loss_in_chunks_is_the_loss(cap: int, logits: int, recipe: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe.loss, "CHUNK_LOGITS", logits)
    torch.manual_seed(0)
    x, weight, targets = torch.randn(N, C), 2 * torch.randn(V, C), torch.randint(0, V, (N,))
    found = []
    for fused in (False, True):
        inputs = [tensor.clone().requires_grad_() for tensor in (x, weight)]
        if fused:
            loss = recipe.loss.capped_cross_entropy(*inputs, targets, cap)
        else:
            plain = inputs[0] @ inputs[1].mT
            loss = functional.cross_entropy(cap * torch.tanh(plain / cap) if cap else plain, targets)
        (3 * loss).backward()
        found.append([loss.detach(), *(tensor.grad for tensor in inputs)])
    for plain, chunked in zip(*found, strict=True):
        assert torch.allclose(plain, chunked, rtol=1e-5, atol=1e-6)


def test_the_chunks_do_not_change_what_a_training_does(recipe: SimpleNamespace) -> None:
    """In bfloat16 the gradients keep the type of what they belong to."""
    torch.manual_seed(0)
    x, weight = torch.randn(N, C).bfloat16().requires_grad_(), torch.randn(V, C).requires_grad_()
    recipe.loss.capped_cross_entropy(x, weight, torch.randint(0, V, (N,)), 15).backward()
    assert (x.grad.dtype, weight.grad.dtype) == (torch.bfloat16, torch.float32)
