"""AdamW and Muon over dictionaries of named parameters, without torch.optim, each with a learning rate and a decay of its own.

Every buffer exists from the start and `state()` returns all of them, so a training resumes bit for bit. Learning rates are
arguments of `step`: nothing here keeps a schedule, and no state that is loaded can change one.
"""

import math

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101); the same bits as torch.optim.AdamW."""

    def __init__(self, parameters: Tensors, *, rate: float, beta1: float, beta2: float, decay: float, cautious: bool) -> None:
        self.names, self.parameters = list(parameters), list(parameters.values())
        self.rate, self.beta1, self.beta2, self.decay, self.cautious, self.epsilon = rate, beta1, beta2, decay, cautious, 1e-8
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, count: int, factor: float) -> None:
        """Update in place with `factor` on the rate; `count` is 1 at the first step."""
        rate = self.rate * factor
        gradients = [parameter.grad for parameter in self.parameters]
        if self.decay and not self.cautious:
            torch._foreach_mul_(self.parameters, 1 - rate * self.decay)
        torch._foreach_lerp_(self.first, gradients, 1 - self.beta1)
        torch._foreach_mul_(self.second, self.beta2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - self.beta2)
        divisor = torch._foreach_sqrt(self.second)
        torch._foreach_div_(divisor, (1 - self.beta2**count) ** 0.5)
        torch._foreach_add_(divisor, self.epsilon)
        if self.decay and self.cautious:  # option: cautious_decay
            decay_aligned(self.parameters, self.first, rate * self.decay)
        torch._foreach_addcdiv_(self.parameters, self.first, divisor, -(rate / (1 - self.beta1**count)))

    def state(self) -> Tensors:
        """Return every buffer by name."""
        first = {f"first.{name}": moment for name, moment in zip(self.names, self.first, strict=True)}
        return first | {f"second.{name}": moment for name, moment in zip(self.names, self.second, strict=True)}


class Muon:
    """Momentum whose update is orthogonalised, for matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

    Matrices of one shape are stacked, so that the iteration runs once per shape and not once per matrix.
    """

    def __init__(
        self,
        parameters: Tensors,
        *,
        rate: float,
        momentum: float,
        decay: float,
        cautious: bool,
        coefficients: "Coefficients",
    ) -> None:
        self.names, self.parameters = list(parameters), list(parameters.values())
        self.rate, self.momentum = rate, momentum
        self.decay, self.cautious, self.coefficients = decay, cautious, coefficients
        self.velocity = [torch.zeros_like(parameter) for parameter in self.parameters]
        shapes = sorted({tuple(parameter.shape) for parameter in self.parameters})
        on_gpu = bool(self.parameters) and self.parameters[0].is_cuda
        self.orthogonalise = torch.compile(orthogonalise, dynamic=False) if on_gpu else orthogonalise
        self.groups = [[i for i, parameter in enumerate(self.parameters) if tuple(parameter.shape) == shape] for shape in shapes]

    @torch.no_grad()
    def step(self, count: int, factor: float) -> None:
        """Update in place with `factor` on the rate; `count` is 1 at the first step."""
        rate = self.rate * factor
        gradients = [parameter.grad for parameter in self.parameters]
        if self.decay and not self.cautious:
            torch._foreach_mul_(self.parameters, 1 - rate * self.decay)
        torch._foreach_lerp_(self.velocity, gradients, 1 - self.momentum)
        nesterov = torch._foreach_lerp(gradients, self.velocity, self.momentum)
        for group in self.groups:
            parameters = [self.parameters[i] for i in group]
            updates = list(self.orthogonalise(torch.stack([nesterov[i] for i in group]), self.coefficients).unbind())
            if self.decay and self.cautious:  # option: cautious_decay
                decay_aligned(parameters, updates, rate * self.decay)
            scale = max(1.0, parameters[0].size(-2) / parameters[0].size(-1)) ** 0.5
            torch._foreach_add_(parameters, updates, alpha=-rate * scale)

    def state(self) -> Tensors:
        """Return every buffer by name."""
        return {f"velocity.{name}": velocity for name, velocity in zip(self.names, self.velocity, strict=True)}


def decay_aligned(parameters: list[Tensor], updates: list[Tensor], rate: float) -> None:
    """Shrink every weight whose update points the same way as it would (Chen et al. 2025, arXiv:2510.12402)."""
    for parameter, update in zip(parameters, updates, strict=True):
        parameter.sub_(parameter * (parameter * update > 0), alpha=rate)


Coefficients = tuple[tuple[float, float, float], ...]
QUINTIC: Coefficients = ((3.4445, -4.7750, 2.0315),) * 5
"""Muon's coefficients: singular values end between 0.7 and 1.2."""
POLAR_EXPRESS: Coefficients = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Best polynomials of degree 5 for five steps (Amsel et al. 2025, arXiv:2505.16932): from 1/1000 on, values end between 0.86 and 1.14."""


def orthogonalise(matrices: Tensor, coefficients: Coefficients = QUINTIC) -> Tensor:
    """Return roughly U V^T of every matrix U S V^T in [N, rows, columns], by odd polynomials of its singular values.

    On a GPU the products are bfloat16, which the polynomials forgive.
    """
    x = matrices.mT if matrices.size(-2) > matrices.size(-1) else matrices
    x = x.bfloat16() if x.is_cuda else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * (1.0 if coefficients is QUINTIC else 1.02) + 1e-7)
    for linear, cubic, quintic in coefficients:
        gram = x @ x.mT
        x = linear * x + torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic) @ x
    x = x.to(matrices.dtype)
    return x.mT if matrices.size(-2) > matrices.size(-1) else x


@torch.no_grad()
def clip(parameters: list[Tensor], limit: float) -> Tensor:
    """Scale all gradients down to a joint norm of `limit` (0: leave them); return the norm they had."""
    gradients = [parameter.grad for parameter in parameters]
    total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if limit:
        torch._foreach_mul_(gradients, (limit / (total + 1e-6)).clamp(max=1.0))
    return total


def schedule(step: int, steps: int, warmup: float, warmdown: float, floor: float = 0.0) -> float:
    """Return the factor on every learning rate: up over the first fraction, 1, then down to `floor` over the last one."""
    rising = (step + 1) / math.ceil(warmup * steps) if warmup else 1.0
    falling = (steps - step) / math.ceil(warmdown * steps) if warmdown else 1.0
    return min(1.0, rising, floor + (1 - floor) * falling)
