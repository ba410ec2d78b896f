"""Measure the device inside the sandbox, without any recipe: matrix products, attention, memory.

Its figures are those of our own code in a process of its own. They are reported and decide nothing.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch.nn.functional import scaled_dot_product_attention

from ralph.train import wire
from ralph.worker.channel import TORCH_DTYPES, Channel

BUDGET_S = 0.15
"""Seconds of repetitions for each figure; the fastest one counts."""
COPY_BYTES = 64 * 1024 * 1024


def main(fd: int) -> NoReturn:
    """Answer one SETUP frame with the figures and leave."""
    channel = Channel(fd)
    header = channel.read().header
    torch.set_num_threads(header["threads"])
    device = torch.device(header["device"])
    dtype = TORCH_DTYPES[header["dtype"]]
    products = [_product(rows, columns, inner, device, dtype) for rows, columns, inner in header["products"]]
    figures: dict[str, Any] = {
        "product_flops": [int(rate) for rate in products],
        "attention_flops": int(_attention(header["attention"], device, dtype)),
        "copy_bytes": int(_copy(device)),
    }
    channel.send(wire.Kind.CALIBRATED, figures)
    sys.stdout.flush()
    os._exit(0)


def _product(rows: int, columns: int, inner: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return floating-point operations per second of (rows, inner) @ (inner, columns)."""
    left = torch.randn(rows, inner, device=device, dtype=dtype)
    right = torch.randn(inner, columns, device=device, dtype=dtype)
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    return 2.0 * rows * columns * inner / _fastest(lambda: torch.mm(left, right, out=out), device)


def _attention(shape: list[int], device: torch.device, dtype: torch.dtype) -> float:
    """Return floating-point operations per second of causal attention over (batch, heads, tokens, head size), as if not causal."""
    batch, heads, tokens, size = shape
    q, k, v = (torch.randn(batch, heads, tokens, size, device=device, dtype=dtype) for _ in range(3))
    return 4.0 * batch * heads * tokens * tokens * size / _fastest(lambda: scaled_dot_product_attention(q, k, v, is_causal=True), device)


def _copy(device: torch.device) -> float:
    """Return bytes per second that a copy reads and writes."""
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * COPY_BYTES / _fastest(lambda: target.copy_(source), device)


def _fastest(work: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of the fastest repetition; repetitions are long enough for the clock."""
    work()
    _wait(device)
    count = 1
    while (seconds := _seconds(work, count, device)) < BUDGET_S / 10:
        count *= 2
    return min(seconds, *(_seconds(work, count, device) for _ in range(5))) / count


def _seconds(work: Callable[[], Any], count: int, device: torch.device) -> float:
    started = time.perf_counter()
    for _ in range(count):
        work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
