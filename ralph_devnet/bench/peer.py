"""The same training as plain torch would do it, without host, sandbox, transcript or hand-written optimiser: what we are compared with.

Run as a script: `peer.py SETTINGS.json BATCHES.npy` trains on int32[steps, rows, T+1] and prints its losses and its speed as JSON.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Attention and MLP, pre-norm."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, mlp_ratio * width, bias=False), nn.Linear(mlp_ratio * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, C = x.shape
        q, k, v = (part.view(B, T, self.heads, -1).transpose(1, 2) for part in self.qkv(_norm(x)).chunk(3, dim=-1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C))
        hidden: torch.Tensor = self.down(F.gelu(self.up(_norm(x))))
        return x + hidden


class Peer(nn.Module):
    """The architecture of the genesis recipe."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        width, vocabulary = settings["width"], settings["vocabulary"]
        self.embedding, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary, bias=False)
        self.position = nn.Parameter(torch.empty(settings["sequence"], width))
        self.blocks = nn.Sequential(*(Block(width, settings["heads"], settings["mlp_ratio"]) for _ in range(settings["depth"])))
        for name, parameter in self.named_parameters():
            embeds = name in ("embedding.weight", "position")
            std = settings["embedding_std"] if embeds else settings["matrix_std"] * parameter.size(-1) ** -0.5
            nn.init.normal_(parameter, std=std)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(_norm(self.blocks(self.embedding(tokens) + self.position[: tokens.size(1)])))
        return logits


def train(settings: dict[str, Any], batches: np.ndarray[Any, np.dtype[np.int32]]) -> dict[str, Any]:
    """Train once; return the loss of every step and the seconds after the first one."""
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    model, steps = Peer(settings), len(batches)
    optimizer = torch.optim.AdamW(_groups(model, settings, steps), betas=(settings["beta1"], settings["beta2"]), foreach=True)
    rising = max(1, math.ceil(settings["warmup"] * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / rising))
    losses, started = [], 0.0
    for number, batch in enumerate(batches):
        tokens = torch.from_numpy(batch.astype(np.int64))
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call] # torch has no annotation here
        nn.utils.clip_grad_norm_(model.parameters(), settings["gradient_clip"])
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if number == 0:
            started = time.perf_counter()
    seconds = time.perf_counter() - started
    return {"losses": losses, "tokens_per_s": (steps - 1) * batches.shape[1] * (batches.shape[2] - 1) / seconds}


def _groups(model: Peer, settings: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """Return the parameters with the rates and decays that the recipe's rules of scale give them (recipe/README.md)."""
    embeds = [parameter for name, parameter in model.named_parameters() if name in ("embedding.weight", "position")]
    products = [parameter for name, parameter in model.named_parameters() if name not in ("embedding.weight", "position")]
    rate, decay, narrow = settings["learning_rate"], settings["weight_decay"] * 100 / steps, 32 / settings["width"]
    return [
        {"params": embeds, "lr": rate, "weight_decay": decay},
        {"params": products, "lr": rate * narrow, "weight_decay": decay / narrow},
    ]


def _norm(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (x.size(-1),))


if __name__ == "__main__":
    print(json.dumps(train(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), np.load(sys.argv[2]))))
