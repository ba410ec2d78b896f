"""Overwrite the memory of a card before anything of a recipe runs: what an earlier sandbox left there ends here.

The driver hands pages to a new process without saying what is in them. A worker that has seen hidden text could leave it in a card's
memory for the next one, so each worker that uses a card takes all of its free memory, overwrites it and gives it back.

Not promised: what other processes hold at that time, caches and registers of the card, or the memory that the driver keeps for itself.
"""

import torch

LEAST_BYTES = 1 << 20
"""Smaller pieces are not looked for: the allocator hands out memory in pieces of this size."""


def card() -> int:
    """Overwrite with zeros what is free of the current card, and return how many bytes that was."""
    taken: list[torch.Tensor] = []
    size = torch.cuda.mem_get_info()[0]
    while size >= LEAST_BYTES:
        try:
            taken.append(torch.zeros(size, dtype=torch.uint8))
            size = min(size, torch.cuda.mem_get_info()[0])
        except torch.OutOfMemoryError:
            size //= 2
    torch.cuda.synchronize()
    erased = sum(block.numel() for block in taken)
    taken.clear()
    torch.cuda.empty_cache()
    return erased
