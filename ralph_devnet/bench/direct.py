"""The losses of a model by plain torch, without host, sandbox, claims or probes: what an evaluation is compared with.

Run as a script: `direct.py RECIPE SETTINGS.json WEIGHTS.safetensors ROWS.npy LOSSES.npy` computes the loss in nats of every token of
int32[N, T+1] in batches, writes float64[N, T], and prints the CPU seconds that it needed to start and to compute.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file


def main(recipe: str, settings_file: str, weights: str, rows: str, result: str) -> None:
    """Compute all losses."""
    settings = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    sys.path.insert(0, recipe)
    model = import_module("train").build(**settings["shape"]).model.eval()
    model.load_state_dict(load_file(weights))
    tokens = torch.from_numpy(np.load(rows).astype(np.int64))
    started = time.process_time()
    losses = []
    with torch.no_grad():
        for batch in torch.split(tokens, settings["batch_rows"]):
            for logits, targets in zip(model(batch[:, :-1]), batch[:, 1:], strict=True):  # row by row, which takes half the time
                losses.append(torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none"))
    spent = time.process_time() - started
    np.save(result, torch.stack(losses).numpy())
    print(json.dumps({"start_cpu_s": started, "pass_cpu_s": spent}))


if __name__ == "__main__":
    main(*sys.argv[1:])
