"""Cross entropy over a soft-capped head in one pass: the logits of a chunk of rows exist only while their gradients are computed."""

from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 1 << 27
"""Logits that exist at a time: 512 MiB in float32."""


def capped_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
    """Return the mean of -log softmax(cap tanh(x W^T / cap))[target]: x[N, C], W float32[V, C], targets int64[N]; cap 0 is no cap."""
    return CappedCrossEntropy.apply(x, weight, targets, cap)


class CappedCrossEntropy(torch.autograd.Function):
    """Computes loss and both gradients in the forward pass; the backward pass only scales them."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
        N, matrix = x.size(0), weight.to(x.dtype)
        total, dx, dweight = x.new_zeros((), dtype=torch.float32), torch.empty_like(x), torch.zeros_like(weight)
        rows = max(1, CHUNK_LOGITS // weight.size(0))
        for start in range(0, N, rows):
            part, wanted = x[start : start + rows], targets[start : start + rows, None]
            logits = (part @ matrix.mT).float()
            if cap:
                logits = (logits / cap).tanh_()
                slope = 1 - logits * logits
                logits *= cap
            gradient = logits.log_softmax(1)
            total -= gradient.gather(1, wanted).sum()
            gradient = gradient.exp_().scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=torch.float32)).div_(N)
            if cap:
                gradient *= slope
            gradient = gradient.to(x.dtype)
            dx[start : start + rows] = gradient @ matrix
            dweight += gradient.mT @ part
        context.save_for_backward(dx, dweight)
        return total / N

    @staticmethod
    def backward(context: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dx, dweight = context.saved_tensors
        return dx * outer[0].to(dx.dtype), dweight * outer[0], None, None
