"""AdamW and Muon over dictionaries of named parameters, without torch.optim.

Every buffer exists from the start and `state()` returns all of them, so a training resumes bit for bit. Learning rates are
arguments of `step`: nothing here keeps a schedule, and no state that is loaded can change one.
"""

import math

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101); the same bits as torch.optim.AdamW."""

    def __init__(
        self, parameters: Tensors, factors: list[float], *, beta1: float, beta2: float, weight_decay: float, epsilon: float = 1e-8
    ) -> None:
        """`factors` are on the learning rate, one for each parameter."""
        self.names, self.parameters, self.factors = list(parameters), list(parameters.values()), factors
        self.beta1, self.beta2, self.weight_decay, self.epsilon = beta1, beta2, weight_decay, epsilon
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, count: int, rate: float) -> None:
        """Update in place; `count` is 1 at the first step."""
        rates = [rate * factor for factor in self.factors]
        gradients = [parameter.grad for parameter in self.parameters]
        if self.weight_decay:
            torch._foreach_mul_(self.parameters, [1 - rate * self.weight_decay for rate in rates])
        torch._foreach_lerp_(self.first, gradients, 1 - self.beta1)
        torch._foreach_mul_(self.second, self.beta2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - self.beta2)
        divisor = torch._foreach_sqrt(self.second)
        torch._foreach_div_(divisor, (1 - self.beta2**count) ** 0.5)
        torch._foreach_add_(divisor, self.epsilon)
        torch._foreach_addcdiv_(self.parameters, self.first, divisor, [-(rate / (1 - self.beta1**count)) for rate in rates])

    def state(self) -> Tensors:
        """Return every buffer by name."""
        first = {f"first.{name}": moment for name, moment in zip(self.names, self.first, strict=True)}
        return first | {f"second.{name}": moment for name, moment in zip(self.names, self.second, strict=True)}


class Muon:
    """Momentum whose update is orthogonalised, for matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

    Matrices of one shape are stacked, so that the iteration runs once per shape and not once per matrix.
    """

    def __init__(self, parameters: Tensors, *, momentum: float, weight_decay: float) -> None:
        self.names, self.parameters = list(parameters), list(parameters.values())
        self.momentum, self.weight_decay = momentum, weight_decay
        self.velocity = [torch.zeros_like(parameter) for parameter in self.parameters]
        shapes = sorted({tuple(parameter.shape) for parameter in self.parameters})
        self.groups = [[i for i, parameter in enumerate(self.parameters) if tuple(parameter.shape) == shape] for shape in shapes]

    @torch.no_grad()
    def step(self, count: int, rate: float) -> None:
        """Update in place; `count` is not used."""
        gradients = [parameter.grad for parameter in self.parameters]
        if self.weight_decay:
            torch._foreach_mul_(self.parameters, 1 - rate * self.weight_decay)
        torch._foreach_lerp_(self.velocity, gradients, 1 - self.momentum)
        nesterov = torch._foreach_lerp(gradients, self.velocity, self.momentum)
        for group in self.groups:
            update = orthogonalise(torch.stack([nesterov[i] for i in group]))
            scale = max(1.0, update.size(-2) / update.size(-1)) ** 0.5
            torch._foreach_add_([self.parameters[i] for i in group], list(update.unbind()), alpha=-rate * scale)

    def state(self) -> Tensors:
        """Return every buffer by name."""
        return {f"velocity.{name}": velocity for name, velocity in zip(self.names, self.velocity, strict=True)}


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return roughly U V^T of every matrix U S V^T in [N, rows, columns], by a quintic Newton-Schulz iteration."""
    x = matrices.mT if matrices.size(-2) > matrices.size(-1) else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315) @ x
    return x.mT if matrices.size(-2) > matrices.size(-1) else x


@torch.no_grad()
def clip(parameters: list[Tensor], limit: float) -> Tensor:
    """Scale all gradients down to a joint norm of `limit` (0: leave them); return the norm they had."""
    gradients = [parameter.grad for parameter in parameters]
    total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if limit:
        torch._foreach_mul_(gradients, (limit / (total + 1e-6)).clamp(max=1.0))
    return total


def schedule(step: int, steps: int, warmup: float, warmdown: float) -> float:
    """Return the factor on every learning rate: up over the first fraction, 1, then down to zero over the last one."""
    rising = (step + 1) / math.ceil(warmup * steps) if warmup else 1.0
    falling = (steps - step) / math.ceil(warmdown * steps) if warmdown else 1.0
    return min(1.0, rising, falling)
