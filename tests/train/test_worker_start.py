"""What the start of a worker must not cost, and must not change."""

import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "recipe"
CODE = """
import sys
if {lean}:
    import ralph.worker.main
import torch
sys.path.insert(0, {recipe!r})
import train
torch.set_num_threads(1)
torch.manual_seed(7)
trainer = train.build(width=32, sequence=16, vocabulary=64, steps=8, batch_rows=4)
tokens = torch.randint(0, 64, (4, 17))
losses = [trainer.step(tokens)[0].item().hex() for _ in range(8)]
print(losses, sum(tensor.double().sum() for tensor in trainer.state().values()).item().hex())
print(sorted(name for name in ("torch._decomp", "torch._refs", "torch._dynamo") if name in sys.modules))
"""


def run(*, lean: bool) -> tuple[str, str]:
    code = CODE.format(lean=lean, recipe=str(RECIPE))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    numbers, loaded = done.stdout.splitlines()
    return numbers, loaded


def test_kernels_for_compilers_are_left_out_and_every_bit_is_the_same() -> None:
    whole, lean = run(lean=False), run(lean=True)
    assert lean == (whole[0], "[]")
    assert "torch._decomp" in whole[1]
