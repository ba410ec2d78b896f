"""What a worker may use, derived from the rung it runs."""

from ralph.interfaces import SandboxLimits
from ralph.protocol.rules import Rung

MEBIBYTE = 1024 * 1024
PROCESSES = 32
"""Processes and threads together; torch on one thread needs fewer than ten."""
OPEN_FILES = 64
FILE_BYTES = 64 * MEBIBYTE
TMP_BYTES = 64 * MEBIBYTE
SPARE_PROCESSES = 8
"""The launcher's own processes, in a control group on top of what the worker may start."""
TMP_FILES = 16384
"""Inodes of the scratch file system, where the launcher may set them (as root)."""
STAGE_BYTES = MEBIBYTE
MAX_FILES = 256
"""Files of a recipe that the launcher copies in; each costs one descriptor during the launch."""
MAX_COPIED_BYTES = 16 * MEBIBYTE
"""Bytes of all copied files together."""
GPU_HOST_BYTES = 32 * 1024 * MEBIBYTE
"""Memory of the machine, not of the card: CUDA, the compiler and its processes."""
GPU_THREADS = 4
"""The one that hands work to the card, the one that goes backward, and the driver's: one that waits for the card must not stop another."""
GPU_PROCESSES = 512
GPU_OPEN_FILES = 4096
GPU_TMP_BYTES = 4 * 1024 * MEBIBYTE
"""Compiled kernels and what the compilers leave lying about."""


def limits_for(rung: Rung, *, ranks: int = 1) -> SandboxLimits:
    """Return the limits for one training or scoring run at ``rung``, of so many processes that train together."""
    if rung.device == "cuda":
        return SandboxLimits(
            memory_bytes=GPU_HOST_BYTES,
            threads=GPU_THREADS,
            processes=GPU_PROCESSES,
            open_files=GPU_OPEN_FILES,
            file_bytes=GPU_TMP_BYTES,
            tmp_bytes=GPU_TMP_BYTES,
            timeout_s=float(rung.timeout_s),
            ranks=ranks,
            gpus=ranks,
        )
    return SandboxLimits(
        memory_bytes=rung.max_memory_bytes,
        processes=PROCESSES,
        open_files=OPEN_FILES,
        file_bytes=FILE_BYTES,
        tmp_bytes=TMP_BYTES,
        timeout_s=float(rung.timeout_s),
        ranks=ranks,
    )
