"""The bench: one training of one tree with one private seed, by the same host code as everywhere else, and its val_bpb.

A run is trained in a sandbox and asked for its losses on public validation documents before the sandbox ends. There are
no probes: it is the miner's own code on his own machine, and a number that he made up would fool nobody but him. What
a validator measures later is on other documents, on other seeds, and audited.

Seeds come from the researcher's own seed. They are never the beacon's, so nothing is learned here about
the seeds that will judge.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ralph.data.dataset import DataSet
from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.evaluate import claims
from ralph.evaluate.estimator import bits_per_byte
from ralph.interfaces import Sandbox, SandboxedWorker, SandboxSpec
from ralph.protocol.canonical import digest
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import Rules, Rung
from ralph.repository.trees import materialise
from ralph.sandbox.limits import limits_for
from ralph.train import host
from ralph.train.run import RunJob

SEED_TAG = "recipe-net/research-seed/v1"
DOCUMENTS = 256
LOG_CHARACTERS = 4000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run came to. ``val_bpb`` is None when the recipe broke a rule or crashed."""

    seed: int
    val_bpb: float | None
    worker_cpu_s: float
    memory_bytes: int
    code: str = ""
    """Reason code of a run without a value."""
    log_tail: str = field(default="", repr=False)

    @property
    def failure(self) -> str:
        """Return one line that says why there is no value."""
        return f"{self.code}: {(self.log_tail.strip().splitlines() or ['no output'])[-1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Everything that an experiment needs besides a tree and a seed.

    Args:
        sandbox: Where recipes run.
        data: Verified public data.
        rules: The network's Rules: what may be patched, the batch shape of scoring, sigma.
        rung: The scale of the experiments, usually the decision rung.
        scratch: A directory for temporary files; nothing stays in it.
        documents: How many public validation documents are scored, fewer when there are not as many.
    """

    sandbox: Sandbox
    data: DataSet
    rules: Rules
    rung: Rung
    scratch: Path
    documents: int = DOCUMENTS

    @property
    def identity(self) -> str:
        """Name what values must share to be compared: data, rung and documents."""
        value = {"data": self.data.manifest.digest(), "rung": self.rung.value(), "documents": self.documents}
        return digest("recipe-net/research-bench/v1", value).hex()[:16]

    def run(self, tree: RecipeTree, seed: int) -> Run:
        """Train ``tree`` once and measure it.

        Raises:
            InfrastructureError: Ours; the run can be tried again.
        """
        try:
            self.scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.scratch, prefix="run-") as folder:
                materialise(tree, Path(folder) / "recipe")
                return self._run(Path(folder) / "recipe", seed)
        except OSError as error:
            raise InfrastructureError(f"cannot use {self.scratch}: {error}") from error

    def _run(self, recipe: Path, seed: int) -> Run:
        meter, code, log_tail = _Meter(self.sandbox), "", ""
        val_bpb: float | None = None
        try:
            val_bpb = self._measure(recipe, seed, meter)
        except UntrustedInputError as error:
            code, log_tail = error.code, f"{meter.stderr_tail}\n{error.detail}".strip()[-LOG_CHARACTERS:]
        return Run(
            seed=seed, val_bpb=val_bpb, worker_cpu_s=meter.cpu_seconds, memory_bytes=meter.memory_bytes, code=code, log_tail=log_tail
        )

    def _measure(self, recipe: Path, seed: int, sandbox: Sandbox) -> float:
        job = RunJob(recipe=recipe, rung=self.rung, seed=seed, vocabulary=self.data.vocabulary, limits=limits_for(self.rung))
        rows = self.data.validation.rows(min(self.documents, len(self.data.validation)), self.rung.sequence)
        with host.start(job, sandbox=sandbox, data=self.data) as run:
            run.train()
            key = digest(SEED_TAG, {"seed": seed, "order": "claims"})
            batch_rows = self.rules.evaluation.batch_rows
            losses = claims.collect(run.claim, rows, batch_rows=batch_rows, key=key, scratch=self.scratch)
        return bits_per_byte(float(np.sum(losses)), int(rows.byte_counts.sum()))


class _Meter:
    """A Sandbox that reads the meters of the worker that it launched, also when the run fails."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox, self.name = sandbox, sandbox.name
        self.cpu_seconds, self.memory_bytes, self.stderr_tail = 0.0, 0, ""

    @contextmanager
    def launch(self, spec: SandboxSpec) -> Iterator[SandboxedWorker]:
        with self._sandbox.launch(spec) as worker:
            try:
                yield worker
            finally:
                self.memory_bytes = worker.peak_memory_bytes()
                worker.kill()
                self.cpu_seconds, self.stderr_tail = worker.cpu_seconds(), worker.stderr_tail()


def research_seed(seed: int, *, reign: int, king: bytes, index: int) -> int:
    """Return the private training seed number ``index`` for a reign, in [0, 2**64)."""
    preimage = {"seed": seed, "reign": reign, "king": king, "i": index}
    return int.from_bytes(digest(SEED_TAG, preimage)[:8], "little")
