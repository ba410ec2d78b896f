"""What is found out about an interpreter."""

import os
import sys
from pathlib import Path

from ralph.protocol.network import LADDER
from ralph.sandbox.interpreter import describe
from ralph.sandbox.limits import limits_for
from ralph.sandbox.options import Program, command

GIB = 1 << 30


def test_a_torch_for_gpus_may_map_its_libraries_beside_the_memory_of_a_rung_of_cpus(tmp_path: Path) -> None:
    """The limit on addresses counts them, and 2 GiB are not enough for the libraries alone."""
    for name in ("nvidia/cublas/lib/libcublas.so.13", "torch/lib/libtorch_cuda.so", "torch/lib/libtorch_cpu.so"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with (tmp_path / name).open("wb") as file:
            os.truncate(file.fileno(), GIB)
    (tmp_path / "nvidia/cublas/lib/libcublas.so").symlink_to("libcublas.so.13")
    interpreter = describe(Path(sys.executable), packages=(tmp_path,))
    limits = limits_for(LADDER[0])
    line = command(interpreter=interpreter, program=Program(), limits=limits)
    assert interpreter.cuda_bytes == 2 * GIB
    assert line[line.index("/worker/bootstrap.py") + 1] == str(limits.memory_bytes + 2 * GIB)


def test_a_torch_for_cpus_gets_the_rung_s_memory_and_nothing_beside_it() -> None:
    limits = limits_for(LADDER[0])
    line = command(interpreter=describe(Path(sys.executable)), program=Program(), limits=limits)
    assert line[line.index("/worker/bootstrap.py") + 1] == str(limits.memory_bytes)
