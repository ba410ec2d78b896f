"""A small GPT. The dial `width` fixes depth and heads; every other choice is a knob of config/base.toml.

Blocks are pre-norm (RMSNorm without weights), no linear has a bias, and the output head is not tied to the embedding.
Weights are float32; what is computed with them is in the type of the residual stream, which is float32 or bfloat16. Logits are float32.
The pieces marked `option:` do not depend on each other and can be removed one by one.
"""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from attention import attend, rotate, rotations
from loss import capped_cross_entropy
from torch import Tensor, nn

SCALES = ((32, 2, 16), (64, 2, 16), (128, 4, 32), (256, 6, 128), (512, 8, 128), (768, 12, 128))
"""Rows of (width, depth, head size); a width between two rows has the depth and the head size of the smaller one."""


def norm(x: Tensor) -> Tensor:
    """Scale every vector to unit root mean square."""
    return F.rms_norm(x, (x.size(-1),))


class Linear(nn.Linear):
    """A linear without bias that computes in the type of its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Attention(nn.Module):
    """Causal self-attention. Shapes below: B rows, T tokens, H heads of D numbers."""

    def __init__(self, config: SimpleNamespace, width: int, head: int) -> None:
        super().__init__()
        self.heads, self.head, self.kind = width // head, head, config.attention
        self.qk_norm, self.qk_gain = config.qk_norm == "on", config.qk_gain
        self.qkv = Linear(width, 3 * width)
        self.output = Linear(width, width)

    def forward(self, x: Tensor, window: int, rotation: tuple[Tensor, Tensor] | None, extra: Tensor | None) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, self.head).unbind(2)
        if rotation is not None:  # option: position = "rope"
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        if self.qk_norm:  # option: qk_norm
            q, k = self.qk_gain * norm(q), norm(k)
        if extra is not None:  # option: value_embedding
            v = v + extra.view(B, T, self.heads, self.head)
        y = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), window, self.kind)
        return self.output(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """Two linears with a non-linearity between them."""

    def __init__(self, config: SimpleNamespace, width: int) -> None:
        super().__init__()
        self.relu2 = config.activation == "relu2"
        self.input = Linear(width, config.mlp_ratio * width)
        self.output = Linear(config.mlp_ratio * width, width)

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
        self.lambdas = config.lambdas == "on"
        if self.lambdas:
            self.stay, self.again = nn.Parameter(torch.empty(())), nn.Parameter(torch.empty(()))

    def forward(self, x: Tensor, first: Tensor, window: int, rotation: tuple[Tensor, Tensor] | None, extra: Tensor | None) -> Tensor:
        if self.lambdas:  # option: lambdas
            x = self.stay.to(x.dtype) * x + self.again.to(x.dtype) * first
        x = x + self.attention(norm(x), window, rotation, extra)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """Tokens int64[B, T] in, logits float32[B, T, V] out; a logit depends on no later token and on no other row."""

    def __init__(self, config: SimpleNamespace, *, width: int, sequence: int, vocabulary: int) -> None:
        super().__init__()
        _, depth, head = max(row for row in SCALES if row[0] <= max(width, SCALES[0][0]))
        half = config.precision == "bf16" or (config.precision == "auto" and torch.get_default_device().type == "cuda")
        self.dtype = torch.bfloat16 if half else torch.float32
        self.sequence, self.soft_cap, self.fused_loss = sequence, config.soft_cap, config.fused_loss == "on"
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(config, width, head) for _ in range(depth))
        self.head = Linear(width, vocabulary)
        self.rope = config.position == "rope"
        if self.rope:
            cosine, sine = rotations(sequence, head)
            self.register_buffer("cosine", cosine, persistent=False)
            self.register_buffer("sine", sine, persistent=False)
        else:
            self.position = nn.Parameter(torch.empty(sequence, width))
        self.value_embedding = nn.Embedding(vocabulary, width) if config.value_embedding == "on" else None
        self.short = max(1, sequence // 4)
        pattern = (config.window_pattern * depth)[: depth - 1] + "L"  # the last block always sees everything
        self.windows = [self.short if letter == "S" else sequence for letter in pattern]
        self.initialise(config)

    @torch.no_grad()
    def initialise(self, config: SimpleNamespace) -> None:
        """Draw every parameter from torch's generator, or set it to a constant."""
        for name, parameter in self.named_parameters():
            embeds = name in ("embedding.weight", "position", "value_embedding.weight")
            if name.endswith(("stay", "again")):
                parameter.fill_(1.0 if name.endswith("stay") else 0.0)
            elif config.zero_init == "on" and name.endswith("output.weight"):  # option: zero_init
                parameter.zero_()
            else:
                parameter.normal_(std=config.embedding_std if embeds else config.matrix_std * parameter.size(-1) ** -0.5)

    def flops_per_token(self) -> int:
        """Return what training costs for one token: 6 for every weight that multiplies, and attention (arXiv:2204.02311, appendix B)."""
        looked_up = ("embedding.weight", "position", "value_embedding.weight")
        weights = sum(parameter.numel() for name, parameter in self.named_parameters() if name not in looked_up)
        return 6 * weights + 12 * self.embedding.embedding_dim * sum(self.windows)

    def features(self, tokens: Tensor, *, short: bool = False) -> Tensor:
        """Return what the head reads: [B, T, C]. While `short`, no block sees further than the short window."""
        T = tokens.size(1)
        x = self.embedding(tokens)
        if not self.rope:
            x = x + self.position[:T]
        x = x.to(self.dtype)
        rotation = (self.cosine[:T].to(self.dtype), self.sine[:T].to(self.dtype)) if self.rope else None
        extra = None if self.value_embedding is None else self.value_embedding(tokens).to(self.dtype)
        first = x
        for block, window in zip(self.blocks, self.windows, strict=True):
            x = block(x, first, min(window, self.short) if short else window, rotation, extra)
        return norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.features(tokens))

    def logits_at(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return the logits behind one position of each row, float32[B, V], without the head's work for the others."""
        return self.logits(self.features(tokens)[torch.arange(len(positions)), positions])

    def logits(self, x: Tensor) -> Tensor:
        """Return float32[..., V] of features [..., C]."""
        logits = self.head(x).float()
        if self.soft_cap:  # option: soft_cap
            logits = self.soft_cap * torch.tanh(logits / self.soft_cap)
        return logits

    def loss(self, tokens: Tensor, *, short: bool = False) -> Tensor:
        """Return the mean loss in nats of predicting tokens[:, 1:] from int64[B, T+1]."""
        x, targets = self.features(tokens[:, :-1], short=short).flatten(0, 1), tokens[:, 1:].flatten()
        if self.fused_loss:  # option: fused_loss
            return capped_cross_entropy(x, self.head.weight, targets, self.soft_cap)
        return F.cross_entropy(self.logits(x), targets)
