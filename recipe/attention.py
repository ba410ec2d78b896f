"""Causal attention, with and without a window, and rotary positions. Shapes: B rows, H heads, T tokens, D numbers a head."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, window: int, kind: str) -> Tensor:
    """Return [B, H, T, D]: every position reads the `window` tokens that end with its own. Fewer queries than keys are the last ones.

    `kind` is "plain" (softmax written out), "fused" (torch's kernels, FlashAttention where it applies), or "auto": fused, but
    plain for bfloat16 on a CPU, where the fused backward pass is several times slower.
    """
    Q, T = q.size(2), k.size(2)
    if kind == "auto":
        kind = "plain" if q.device.type == "cpu" and q.dtype == torch.bfloat16 else "fused"
    if kind == "plain":
        scores = (q @ k.mT).float() * q.size(-1) ** -0.5
        weights = scores.masked_fill(~visible(T, window, q.device)[T - Q :], -torch.inf).softmax(-1)
        return weights.to(v.dtype) @ v
    if window >= T and Q == T:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible(T, window, q.device)[T - Q :])  # option: window_pattern, window_warmup


def visible(T: int, window: int, device: torch.device) -> Tensor:
    """Return bool[T, T]: whether row's position may read column's."""
    place = torch.arange(T, device=device)
    distance = place[:, None] - place
    return (distance >= 0) & (distance < window)


class Past:
    """Keys and values of one row, kept by each attention that first sees them, as what precedes every row that follows."""

    def __init__(self) -> None:
        self.length = 0
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def join(self, attention: object, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [B, H, P + T, D] of the kept row and these [B, H, T, D], or keep these."""
        if id(attention) not in self.kept:
            self.kept[id(attention)] = k, v
            return k, v
        before_k, before_v = (tensor.expand(k.size(0), -1, -1, -1) for tensor in self.kept[id(attention)])
        return torch.cat((before_k, k), 2), torch.cat((before_v, v), 2)


def rotations(sequence: int, head: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Return cosine and sine float32[T, 1, D/2] of rotary position embeddings (Su et al. 2021, arXiv:2104.09864)."""
    frequency = base ** -(torch.arange(0, head, 2, dtype=torch.float32) / head)
    angle = torch.outer(torch.arange(sequence, dtype=torch.float32), frequency)[:, None, :]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the pairs (x[i], x[i + D/2]) of x[B, T, H, D] by their position's angles."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), dim=-1)
