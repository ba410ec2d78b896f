"""What it takes to start and to end a sandbox, launcher beside launcher, without torch and without a recipe.

The launchers take turns, so that a busy moment of the machine is nobody's alone. A launcher that cannot run here is named and left out.
"""

import time
from collections.abc import Callable

from ralph.errors import SandboxUnavailable
from ralph.interfaces import SandboxSpec
from ralph.protocol.network import LADDER
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.container import ContainerSandbox
from ralph.sandbox.files import Copied
from ralph.sandbox.limits import limits_for
from ralph.sandbox.options import WORKER, Program
from ralph.sandbox.preflight import Attackable
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import scratch

LAUNCHERS: tuple[Callable[[], Attackable], ...] = (BubblewrapSandbox, ContainerSandbox)
_SOURCE = b"import socket\n\n\ndef main(fd):\n    channel = socket.socket(fileno=fd)\n    channel.sendall(b'R')\n    channel.recv(1)\n"
_PROGRAM = Program(module="ready", files=(Copied(target=f"{WORKER}/ready.py", data=_SOURCE),))


def launches(context: Context) -> list[Figure]:
    """Start every launcher's sandbox in turn; measure until its program has answered, and until nothing of it is left."""
    recipe = scratch(context, "launch-recipe") / "recipe"
    recipe.mkdir(parents=True, exist_ok=True)
    spec = SandboxSpec(recipe=recipe, limits=limits_for(LADDER[0]))
    sandboxes = list(_present(context, spec))
    starts: dict[str, list[float]] = {sandbox.name: [] for sandbox in sandboxes}
    ends: dict[str, list[float]] = {sandbox.name: [] for sandbox in sandboxes}
    for _ in range(context.repeat):
        for sandbox in sandboxes:
            began = time.monotonic()
            with sandbox.launch(spec) as worker:
                worker.receive_into(memoryview(bytearray(1)), 60.0)
                stood = time.monotonic()
            starts[sandbox.name].append(1000 * (stood - began))
            ends[sandbox.name].append(1000 * (time.monotonic() - stood))
    figures = [Figure.of(f"{name}: from the call to the program's first byte", "ms", values) for name, values in starts.items()]
    return figures + [Figure.of(f"{name}: to the end of everything", "ms", values) for name, values in ends.items()]


def _present(context: Context, spec: SandboxSpec) -> list[Attackable]:
    """Return the launchers that work here, each after a first launch that is not counted."""
    found = []
    for launcher in LAUNCHERS:
        try:
            sandbox = launcher().running(_PROGRAM)
            with sandbox.launch(spec):
                found.append(sandbox)
        except SandboxUnavailable as error:
            context.say(f"launch: {error.detail}")
    return found
