"""A small GPT. The dial `width` fixes depth and heads; every other choice is a knob of config/base.toml.

Blocks are pre-norm (RMSNorm without weights), no linear has a bias, and the output head is not tied to the embedding.
The pieces marked `option:` do not depend on each other and can be removed one by one.
"""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALES = ((32, 2, 16), (64, 2, 16), (128, 4, 32), (256, 6, 128), (512, 8, 128), (768, 12, 128))
"""Rows of (width, depth, head size); a width between two rows has the depth and the head size of the smaller one."""


def norm(x: Tensor) -> Tensor:
    """Scale every vector to unit root mean square."""
    return F.rms_norm(x, (x.size(-1),))


class Attention(nn.Module):
    """Causal self-attention. Shapes below: B rows, T tokens, H heads of D numbers."""

    def __init__(self, config: SimpleNamespace, width: int, head: int) -> None:
        super().__init__()
        self.heads, self.head = width // head, head
        self.qk_norm = config.qk_norm == "on"
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, self.heads, bias=False) if config.value_embedding == "gated" else None

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, extra: Tensor | None) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, self.head).unbind(2)
        if rotation is not None:  # option: position = "rope"
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        if self.qk_norm:  # option: qk_norm
            q, k = norm(q), norm(k)
        if extra is not None:  # option: value_embedding
            extra = extra.view(B, T, self.heads, self.head)
            v = v + (extra if self.gate is None else 2 * torch.sigmoid(self.gate(x))[..., None] * extra)
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        return self.output(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """Two linears with a non-linearity between them."""

    def __init__(self, config: SimpleNamespace, width: int) -> None:
        super().__init__()
        self.relu2 = config.activation == "relu2"
        self.input = nn.Linear(width, config.mlp_ratio * width, bias=False)
        self.output = nn.Linear(config.mlp_ratio * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input(x)
        x = F.relu(x).square() if self.relu2 else F.gelu(x)  # option: activation
        return self.output(x)


class Block(nn.Module):
    """Attention, then MLP, each added to the residual stream."""

    def __init__(self, config: SimpleNamespace, width: int, head: int) -> None:
        super().__init__()
        self.attention = Attention(config, width, head)
        self.mlp = MLP(config, width)
        if config.lambdas == "on":
            self.stay, self.again = nn.Parameter(torch.empty(())), nn.Parameter(torch.empty(()))
        self.lambdas = config.lambdas == "on"

    def forward(self, x: Tensor, first: Tensor, rotation: tuple[Tensor, Tensor] | None, extra: Tensor | None) -> Tensor:
        if self.lambdas:  # option: lambdas
            x = self.stay * x + self.again * first
        x = x + self.attention(norm(x), rotation, extra)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """Tokens int64[B, T] in, logits float32[B, T, V] out; a logit depends on no later token and on no other row."""

    def __init__(self, config: SimpleNamespace, *, width: int, sequence: int, vocabulary: int) -> None:
        super().__init__()
        _, depth, head = max(row for row in SCALES if row[0] <= max(width, SCALES[0][0]))
        self.soft_cap = config.soft_cap
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(config, width, head) for _ in range(depth))
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.rope = config.position == "rope"
        if self.rope:
            cosine, sine = rotations(sequence, head)
            self.register_buffer("cosine", cosine, persistent=False)
            self.register_buffer("sine", sine, persistent=False)
        else:
            self.position = nn.Parameter(torch.empty(sequence, width))
        self.value_embedding = nn.Embedding(vocabulary, width) if config.value_embedding != "off" else None
        self.initialise(config)

    @torch.no_grad()
    def initialise(self, config: SimpleNamespace) -> None:
        """Draw every parameter from torch's generator, or set it to a constant."""
        for name, parameter in self.named_parameters():
            embeds = name in ("embedding.weight", "position", "value_embedding.weight")
            if name.endswith(("stay", "again")):
                parameter.fill_(1.0 if name.endswith("stay") else 0.0)
            elif name.endswith("gate.weight") or (config.zero_init == "on" and name.endswith("output.weight")):  # option: zero_init
                parameter.zero_()
            else:
                parameter.normal_(std=config.embedding_std if embeds else config.matrix_std * parameter.size(-1) ** -0.5)

    def flops_per_token(self, sequence: int) -> int:
        """Return what training costs for one token: 6 for every weight that multiplies, and attention (arXiv:2204.02311, appendix B)."""
        looked_up = ("embedding.weight", "position", "value_embedding.weight")
        weights = sum(parameter.numel() for name, parameter in self.named_parameters() if name not in looked_up)
        return 6 * weights + 12 * len(self.blocks) * self.embedding.embedding_dim * sequence

    def forward(self, tokens: Tensor) -> Tensor:
        T = tokens.size(1)
        x = self.embedding(tokens)
        rotation = (self.cosine[:T], self.sine[:T]) if self.rope else None
        if not self.rope:
            x = x + self.position[:T]
        extra = None if self.value_embedding is None else self.value_embedding(tokens)
        first = x
        for block in self.blocks:
            x = block(x, first, rotation, extra)
        logits = self.head(norm(x))
        if self.soft_cap:  # option: soft_cap
            logits = self.soft_cap * torch.tanh(logits / self.soft_cap)
        return logits


def rotations(sequence: int, head: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Return cosine and sine float32[T, 1, D/2] of rotary position embeddings (Su et al. 2021, arXiv:2104.09864)."""
    frequency = base ** -(torch.arange(0, head, 2, dtype=torch.float32) / head)
    angle = torch.outer(torch.arange(sequence, dtype=torch.float32), frequency)[:, None, :]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the pairs (x[i], x[i + D/2]) of x[B, T, H, D] by their position's angles."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), dim=-1)
