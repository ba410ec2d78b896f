"""GPUs inside a sandbox: the device files of some NVIDIA cards, what their driver needs, and a compiler for kernels.

Bound read-write are the cards' own files and the driver's control files only. The driver's system calls are then the
weakest wall of a sandbox, which is one reason why keys and workers are on different machines. Caches of compiled kernels lie in the
sandbox's own scratch file system and end with it.

Not promised: a limit on the memory of a card; a card's memory is not cleared here either.
"""

from pathlib import Path

from ralph.errors import ConfigurationError

DEVICES = Path("/dev")
_CONTROL = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
_DRIVER_FOLDERS = (
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
)
"""Where a container runtime and distributions put the driver's libraries."""
_LIBRARY = "libcuda.so.1"
PROC = tuple(word for name in ("sys", "sysrq-trigger", "irq", "bus") for word in ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}"))
"""CUDA names its threads through ``/proc/self`` and fails with error 304 where it cannot; what is not a process's own stays read-only."""
FOLDERS = ("/usr", "/sys")
"""Triton calls the C compiler; CUDA looks for its devices."""


def require(count: int, *, devices: Path = DEVICES) -> tuple[Path, ...]:
    """Return the device files of the first ``count`` GPUs; none for 0.

    Raises:
        ConfigurationError: Not as many are here; the message names what is missing.
    """
    if count == 0:
        return ()
    wanted = [devices / f"nvidia{number}" for number in range(count)] + [devices / name for name in _CONTROL[:2]]
    missing = [str(path) for path in wanted if not path.exists()]
    if missing:
        cards = "an NVIDIA GPU" if count == 1 else f"{count} NVIDIA GPUs"
        detail = f"this rung trains on {cards}, and this machine has no {', '.join(missing)}"
        raise ConfigurationError(f"{detail}; rungs C1 to C3 need a CPU only")
    return (*wanted, *(path for path in (devices / _CONTROL[2],) if path.exists()))


def options(count: int, *, devices: Path = DEVICES) -> tuple[str, ...]:
    """Return bubblewrap's options for ``count`` GPUs, to follow its ``--dev``; none for 0."""
    files, result = require(count, devices=devices), list[str]()
    if not files:
        return ()
    for path in files:
        result += ["--dev-bind", str(path), f"/dev/{path.name}"]
    for folder in FOLDERS:
        result += ["--ro-bind", folder, folder]
    result += ["--symlink", "usr/bin", "/bin"]
    for name, value in environment(count):
        result += ["--setenv", name, value]
    return tuple(result)


def environment(count: int) -> tuple[tuple[str, str], ...]:
    """Return the variables that ``count`` GPUs need inside; none for 0."""
    if count == 0:
        return ()
    folder = next((folder for folder in _DRIVER_FOLDERS if Path(folder, _LIBRARY).exists()), None)
    # Triton would ask ldconfig, whose cache is not inside
    driver = (("LD_LIBRARY_PATH", folder), ("TRITON_LIBCUDA_PATH", folder)) if folder else ()
    # cuBLAS repeats itself only with a fixed workspace; compiling in processes of their own would start torch once for each
    return (("PATH", "/usr/bin"), ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"), ("TORCHINDUCTOR_COMPILE_THREADS", "1"), *driver)
