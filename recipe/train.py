"""Training: reads the knobs, builds model and optimisers, and makes one step at a time.

`build` and `Trainer` are all that the host's worker uses (see README.md). Data, seed, step count and evaluation are not here:
the worker's process is seeded before this file is imported, and tokens arrive as arguments.
"""

import tomllib
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from model import GPT
from optim import POLAR_EXPRESS, QUINTIC, AdamW, Muon, clip, schedule
from torch import Tensor

CONFIG = Path(__file__).parent / "config" / "base.toml"
PIECES = {"lambdas": "off", "orthogonaliser": "quintic", "cautious_decay": "off", "momentum_warmup": 0.0, "warmdown_floor": 0.0}
"""Knobs that a configuration may leave out, with what they are then: the piece is not there."""


def build(*, width: int, sequence: int, vocabulary: int, steps: int, batch_rows: int) -> "Trainer":
    """Return a trainer at step 0 for rows of `sequence` tokens, planned to make exactly `steps` steps."""
    knobs = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    config = SimpleNamespace(**(PIECES | {name: table["value"] for name, table in knobs.items()}))
    model = GPT(config, width=width, sequence=sequence, vocabulary=vocabulary)
    return Trainer(config, model, steps, flops_per_token=model.flops_per_token(sequence))


class Trainer:
    """A model, its optimisers and the number of steps made."""

    def __init__(self, config: SimpleNamespace, model: GPT, steps: int, *, flops_per_token: int) -> None:
        self.config, self.model, self.steps, self.count = config, model, steps, 0
        self.flops_per_token = flops_per_token
        parameters = dict(model.named_parameters())
        hidden = [name for name, parameter in parameters.items() if name.startswith("blocks.") and parameter.ndim == 2]
        matrices = {name: parameters.pop(name) for name in hidden if config.optimizer == "muon"}
        factors = {"embedding.weight": config.embedding_rate, "head.weight": config.head_rate}
        adamw = AdamW(
            parameters,
            [factors.get(name, 1.0) for name in parameters],
            beta1=config.beta1,
            beta2=config.beta2,
            weight_decay=config.weight_decay,
            cautious=config.cautious_decay == "on",
        )
        self.optimizers = [("adamw", adamw, config.learning_rate)]
        if matrices:  # option: optimizer = "muon"
            muon = Muon(
                matrices,
                momentum=config.muon_momentum,
                weight_decay=config.weight_decay,
                cautious=config.cautious_decay == "on",
                momentum_steps=round(config.momentum_warmup * steps),
                coefficients=POLAR_EXPRESS if config.orthogonaliser == "polar" else QUINTIC,  # option: orthogonaliser
            )
            self.optimizers.append(("muon", muon, config.muon_rate))

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Train on int64[B, T+1], or a rank's share of it; return mean loss in nats and gradient norm, both from before the update."""
        logits = self.model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        loss = loss.detach()
        average([loss, *(parameter.grad for parameter in self.model.parameters())])
        norm = clip(list(self.model.parameters()), self.config.gradient_clip)
        factor = schedule(self.count, self.steps, self.config.warmup, self.config.warmdown, self.config.warmdown_floor)
        self.count += 1
        for _, optimizer, rate in self.optimizers:
            optimizer.step(self.count, rate * factor)
        self.model.zero_grad(set_to_none=True)
        return loss, norm

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, besides torch's generator."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, optimizer, _ in self.optimizers:
            tensors |= {f"optimizer.{name}.{buffer}": tensor for buffer, tensor in optimizer.state().items()}
        return tensors | {"step": torch.tensor(self.count)}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state()` returned; hyper-parameters come from the config, never from a state."""
        here = self.state()
        if here.keys() != state.keys():
            raise ValueError("the state belongs to another recipe")
        for name, tensor in here.items():
            tensor.copy_(state[name])
        self.count = int(state["step"])


@torch.no_grad()
def average(tensors: list[Tensor]) -> None:
    """Replace every tensor by its mean over the ranks that train together; without a process group there is nothing to do."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):  # one reduction for each
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in same])
        torch.distributed.all_reduce(flat)
        means = (flat / torch.distributed.get_world_size()).split([tensor.numel() for tensor in same])
        torch._foreach_copy_(same, [mean.view_as(tensor) for tensor, mean in zip(same, means, strict=True)])
