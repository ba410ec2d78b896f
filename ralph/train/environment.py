"""Describe the stack that a run depends on, as the sandboxed worker itself sees it."""

import platform
from pathlib import Path
from tempfile import TemporaryDirectory

from ralph.interfaces import Sandbox, SandboxSpec
from ralph.protocol.announcement import Environment
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import Rung
from ralph.repository.trees import materialise
from ralph.sandbox.limits import limits_for
from ralph.train.channel import WorkerChannel

CPU_INFO = Path("/proc/cpuinfo")


def describe(sandbox: Sandbox, recipe: RecipeTree, rung: Rung, *, scratch: Path) -> Environment:
    """Start a worker, ask what it is made of, and return the pins. The recipe itself is not touched."""
    limits = limits_for(rung)
    with TemporaryDirectory(dir=scratch) as folder:
        directory = Path(folder) / "recipe"
        materialise(recipe, directory)
        with sandbox.launch(SandboxSpec(recipe=directory, limits=limits)) as worker:
            hello = WorkerChannel(worker, deadline_s=limits.timeout_s).hello()
    return Environment(
        system=f"{platform.system()} {platform.machine()} {platform.libc_ver()[0]} {platform.libc_ver()[1]}",
        python=str(hello["python"])[:200],
        torch=str(hello["torch"])[:200],
        device=cpu_model()[:200],
        instruction_set=str(hello["cpu"])[:200],
        threads=limits.threads,
        sandbox=sandbox.name,
    )


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it."""
    for line in CPU_INFO.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
