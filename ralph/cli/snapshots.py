"""Snapshots of a run, measured on public documents as a validator measures hidden ones: in two sandboxes of their own.

The worker that trains is not asked, so a run with snapshots is the same run as one without, bit for bit.
"""

import json
from pathlib import Path

from ralph.cli.models import public_exam
from ralph.data.dataset import DataSet, Rows
from ralph.errors import CorruptStateError
from ralph.evaluate.loading import Model
from ralph.evaluate.measure import score
from ralph.interfaces import Sandbox
from ralph.protocol.canonical import digest
from ralph.store.files import replace_file
from ralph.train import safetensors, wire
from ralph.train.host import state_limits
from ralph.train.run import RunJob
from ralph.train.segments import Boundary

FILE = "snapshots.json"
KEY_TAG = "recipe-net/cli-snapshot/v1"
MODEL = "model."
"""What the names of the model's tensors in a training state begin with, by the recipe's interface."""
PROBES = 256


class Snapshots:
    """A StateSink that measures the model at every boundary and keeps the values in a file of the run's directory."""

    def __init__(self, directory: Path, *, job: RunJob, sandbox: Sandbox, data: DataSet, rows: Rows, resume: bool) -> None:
        self._path, self._job, self._sandbox, self._data, self._rows = directory / FILE, job, sandbox, data, rows
        self.found: dict[int, float] = self._kept() if resume else {}
        """Step -> val_bpb, those of an earlier process too."""

    def keep(self, boundary: Boundary) -> None:
        """Measure the model of a boundary, once."""
        if boundary.step in self.found:
            return
        state = boundary.tensors(state_limits(self._job.rung))
        model = [
            wire.Tensor(tensor.name.removeprefix(MODEL), tensor.dtype, tensor.shape, tensor.data)
            for tensor in state
            if tensor.name.startswith(MODEL)
        ]
        scored = Model(
            sandbox=self._sandbox,
            recipe=self._job.recipe,
            weights=safetensors.dump(model),
            rung=self._job.rung,
            vocabulary=self._data.vocabulary,
        )
        exam = public_exam(scored, self._rows, probes=PROBES, key=digest(KEY_TAG, {"seed": self._job.seed, "step": boundary.step}))
        measured = score(exam, self._data.token_bytes)
        self.found[boundary.step] = measured.val_bpb
        replace_file(self._path, (json.dumps({str(step): value for step, value in self.found.items()}, indent=2) + "\n").encode())

    def _kept(self) -> dict[int, float]:
        if not self._path.exists():
            return {}
        try:
            return {int(step): float(value) for step, value in json.loads(self._path.read_bytes()).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise CorruptStateError(f"{self._path} is damaged; remove it, and the snapshots are measured again") from error
