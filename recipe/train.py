"""Training: reads the knobs, builds model and optimisers, and makes one step at a time.

`build` and `Trainer` are all that the host's worker uses (see README.md). Data, seed, step count and evaluation are not here:
the worker's process is seeded before this file is imported, and tokens arrive as arguments.
"""

import tomllib
from pathlib import Path
from types import SimpleNamespace

import torch
from model import GPT
from optim import POLAR_EXPRESS, QUINTIC, AdamW, Muon, clip, schedule
from torch import Tensor

CONFIG = Path(__file__).parent / "config" / "base.toml"
PIECES = Path(__file__).parent / "pieces.toml"
MICRO_TOKENS = 65_536
"""A larger batch is worked through in parts of this many tokens, whose gradients add up."""
REFERENCE_WIDTH, REFERENCE_STEPS = 32, 100
"""Where learning rates and weight decay are what the configuration says: the smallest rung, with genesis's batch."""


def build(*, width: int, sequence: int, vocabulary: int, steps: int, batch_rows: int) -> "Trainer":
    """Return a trainer at step 0 for rows of `sequence` tokens, planned to make exactly `steps` steps."""
    knobs = tomllib.loads(PIECES.read_text(encoding="utf-8")) | tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    config = SimpleNamespace(**{name: table["value"] for name, table in knobs.items()})
    model = GPT(config, width=width, sequence=sequence, vocabulary=vocabulary)
    return Trainer(config, model, width=width, steps=steps, step_tokens=batch_rows * sequence)


class Trainer:
    """A model, its optimisers and the number of steps made."""

    def __init__(self, config: SimpleNamespace, model: GPT, *, width: int, steps: int, step_tokens: int) -> None:
        self.config, self.model, self.steps, self.step_tokens, self.count = config, model, steps, step_tokens, 0
        self.flops_per_token = model.flops_per_token()
        self.depth = len(model.blocks)
        self.optimizers = optimizers(config, dict(model.named_parameters()), narrow=REFERENCE_WIDTH / width, steps=steps)
        on_gpu = next(model.parameters()).is_cuda
        self.loss = torch.compile(model.loss, dynamic=False) if on_gpu else model.loss

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Train on int64[B, T+1], or a rank's share of it; return mean loss in nats and gradient norm, both from before the update."""
        rows, sequence = tokens.size(0), tokens.size(1) - 1
        short = self.count < self.config.window_warmup * self.steps  # option: window_warmup
        loss = torch.zeros((), device=tokens.device)
        for part in tokens.split(max(1, MICRO_TOKENS // sequence)):
            share = self.loss(part, short=short) * (len(part) / rows)
            share.backward()
            loss += share.detach()
        average([loss, *(parameter.grad for parameter in self.model.parameters())])
        norm = clip(list(self.model.parameters()), self.config.gradient_clip)
        factor = schedule(self.count, self.steps, self.config.warmup, self.config.warmdown, self.config.warmdown_floor)
        factor *= (ranks() * rows * sequence / self.step_tokens) ** 0.5  # a smaller batch early in the plan takes smaller steps
        self.count += 1
        for optimizer in self.optimizers.values():
            optimizer.step(self.count, factor)
        self.model.zero_grad(set_to_none=True)
        return loss, norm

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, besides torch's generator."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, optimizer in self.optimizers.items():
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


def optimizers(config: SimpleNamespace, parameters: dict[str, Tensor], *, narrow: float, steps: int) -> dict[str, AdamW | Muon]:
    """Return an optimiser for each group of parameters: embedding, head, matrices of the blocks, and the others.

    Two rules make the same configuration mean the same on every rung. `narrow` is the reference width over the model's.
    - AdamW's rate for what multiplies an activation, head and matrices, is multiplied by it (Yang et al. 2022, arXiv:2203.03466). Rates
      of embeddings and scalars stay, and Muon's: its update has the same spectral norm at any width.
    - Over a whole run, weight decay shrinks a weight that is never updated by the same factor whatever the number of steps and the
      rate: decay x rate x steps is constant (Wang and Aitchison 2024, arXiv:2405.13698).
    """
    groups: dict[str, dict[str, Tensor]] = {"embedding": {}, "head": {}, "matrices": {}, "others": {}}
    for name, parameter in parameters.items():
        matrix = name.startswith("blocks.") and parameter.ndim == 2
        embedding = name in ("embedding.weight", "value_embedding.weight")
        group = "embedding" if embedding else "head" if name == "head.weight" else "matrices" if matrix else "others"
        groups[group][name] = parameter
    shrink, cautious = REFERENCE_STEPS / steps, config.cautious_decay == "on"
    found: dict[str, AdamW | Muon] = {}
    if config.optimizer == "muon":  # option: optimizer = "muon"
        found["matrices"] = Muon(
            groups.pop("matrices"),
            rate=config.muon_rate,
            momentum=config.muon_momentum,
            decay=config.weight_decay * config.matrices_decay * shrink,
            cautious=cautious,
            coefficients=POLAR_EXPRESS if config.orthogonaliser == "polar" else QUINTIC,  # option: orthogonaliser
        )
    own = {  # option: factors on rate and decay of a group
        "embedding": (config.embedding_rate, config.embedding_decay),
        "head": (config.head_rate, config.head_decay),
        "matrices": (1.0, config.matrices_decay),
        "others": (config.others_rate, 1.0),
    }
    for group, members in groups.items():
        rate, decay = own[group]
        scale = narrow if group in ("head", "matrices") else 1.0
        if members:
            found[group] = AdamW(
                members,
                rate=config.learning_rate * rate * scale,
                beta1=config.beta1,
                beta2=config.beta2,
                decay=config.weight_decay * decay * shrink / scale,
                cautious=cautious,
            )
    return found


def ranks() -> int:
    """Return how many processes train together, each on its share of the rows."""
    return torch.distributed.get_world_size() if torch.distributed.is_available() and torch.distributed.is_initialized() else 1


@torch.no_grad()
def average(tensors: list[Tensor]) -> None:
    """Replace every tensor by its mean over all ranks."""
    if ranks() == 1:
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):  # one reduction for each
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in same])
        torch.distributed.all_reduce(flat)
        means = (flat / ranks()).split([tensor.numel() for tensor in same])
        torch._foreach_copy_(same, [mean.view_as(tensor) for tensor, mean in zip(same, means, strict=True)])
