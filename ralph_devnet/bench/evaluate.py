"""What an honest evaluation costs and how exact it is: beside a direct pass of plain torch over the same tokens, in the same run."""

import json
import math
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ralph.cli.nodes import open_pools, open_public_data
from ralph.config import load_config
from ralph.data.dataset import Rows
from ralph.errors import InfrastructureError
from ralph.evaluate.cells import Cells, Floats
from ralph.evaluate.loading import Model
from ralph.evaluate.measure import Exam, score
from ralph.evaluate.redraw import detection, redraw
from ralph.evaluate.score import Score
from ralph.interfaces import SandboxSpec
from ralph.protocol.rules import Rung
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import materialise
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.limits import limits_for
from ralph.sandbox.options import Program
from ralph.train import host
from ralph.train.run import RunJob
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import devnet, scratch
from ralph_devnet.processes import python

DIRECT = Path(__file__).with_name("direct.py")
RUNG = "C2"
DOCUMENTS = 1400
"""More than the devnet scores in a proof run, and fewer than the shard of its hidden pool holds."""
STARTS = 20
EVALUATIONS = 200
FEW_DOCUMENTS = 64
REDRAWS = 2000
FRACTIONS = (0.01, 0.001, 0.0005)
MEBI = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """One pass of plain torch."""

    losses: Floats
    start_cpu_s: float
    pass_cpu_s: float


class Subject:
    """A trained model, and hidden rows to measure it on."""

    def __init__(self, context: Context) -> None:
        net = devnet(context, "evaluate")
        config = load_config(net.config("validator"))
        self.rules, self.data, self.sandbox = net.profile.rules, open_public_data(config, net.profile), BubblewrapSandbox(in_memory=True)
        self.folder = scratch(context, "evaluate-recipe")
        self.pool = open_pools(config, net.profile, self.data).documents(self.rules.data.hidden_commitment, "confirm")
        self.recipe = self.folder / "recipe"
        materialise(genesis_recipe(), self.recipe)

    def rung(self, name: str) -> Rung:
        """Return a rung of the rules."""
        return self.rules.rung(name)

    def trained(self, rung: Rung, seed: int = 1) -> bytes:
        """Return the weights of a run."""
        job = RunJob(recipe=self.recipe, rung=rung, seed=seed, vocabulary=self.data.vocabulary, limits=limits_for(rung))
        return host.train(job, sandbox=self.sandbox, data=self.data).weights

    def evaluated(self, rung: Rung, weights: bytes, rows: Rows, king: Floats | None = None) -> Score:
        """Measure as a validator does, under a fresh key."""
        exam = Exam(
            model=Model(
                sandbox=self.sandbox,
                recipe=self.recipe,
                weights=weights,
                rung=rung,
                vocabulary=self.data.vocabulary,
            ),
            rules=self.rules.evaluation,
            rows=rows,
            key=os.urandom(32),
            king=king,
        )
        return score(exam, self.data.token_bytes)

    def direct(self, rung: Rung, weights: bytes, rows: Rows) -> Direct:
        """Compute the losses with plain torch in a process of its own."""
        shape = {"width": rung.width, "sequence": rung.sequence, "vocabulary": self.data.vocabulary, "steps": 1, "batch_rows": 1}
        files = [self.folder / name for name in ("settings.json", "weights.safetensors", "rows.npy", "losses.npy")]
        files[0].write_text(json.dumps({"shape": shape, "batch_rows": self.rules.evaluation.batch_rows}), encoding="utf-8")
        files[1].write_bytes(weights)
        np.save(files[2], rows.take(np.arange(len(rows))))
        command = python(str(DIRECT), str(self.recipe), *map(str, files))
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InfrastructureError(f"the direct pass failed: {done.stderr[-500:]}")
        found = json.loads(done.stdout)
        losses = np.where(Cells.of(rows.lengths).mask(rung.sequence), np.load(files[3]), 0.0)
        return Direct(losses=losses, start_cpu_s=found["start_cpu_s"], pass_cpu_s=found["pass_cpu_s"])


def evaluation(context: Context) -> list[Figure]:
    """Measure cost, exactness, starts, detection and memory."""
    subject = Subject(context)
    return [*_costs(context, subject), *_starts(subject), *_memory(context, subject)]


def _costs(context: Context, subject: Subject) -> list[Figure]:
    rung = subject.rung(RUNG)
    figures = []
    weights, king = subject.trained(rung), subject.trained(rung, seed=2)
    for documents in (subject.rules.hidden.confirm, DOCUMENTS):
        rows = subject.pool.rows(documents, rung.sequence)
        known = Cells.of(rows.lengths).flatten(subject.direct(rung, king, rows).losses)
        ratios, shares, differences, corrections = [], [], [], []
        direct = None
        for number in range(context.repeat):
            before = time.process_time()
            seen = subject.evaluated(rung, weights, rows, known)
            spent = seen.worker_cpu_s + time.process_time() - before
            direct = subject.direct(rung, weights, rows)
            ratios.append(spent / (1.5 * direct.pass_cpu_s + 2 * direct.start_cpu_s))
            shares.append((spent - 2 * direct.start_cpu_s) / direct.pass_cpu_s)
            differences.append(abs(seen.val_bpb * math.log(2) - direct.losses.sum() / seen.size_bytes))
            corrections.append(abs(seen.correction_nats))
            context.say(f"evaluate: {documents} documents, run {number + 1} of {context.repeat}: {spent:.1f} s")
        name = f"{RUNG}, {documents} documents, {subject.rules.evaluation.uniform_cells + subject.rules.evaluation.weighted_cells} probes"
        figures += [
            Figure.of(f"{name}: CPU time / (1.5 direct passes and two starts)", "", ratios, goal="<= 1"),
            Figure.of(f"{name}: CPU time less two starts / direct pass", "", shares, goal="<= 1.5"),
            Figure.of(f"{name}: difference from the direct pass", "nats/byte", differences, goal="<= 1e-9"),
            Figure.of(f"{name}: correction of an honest model", "nats", corrections, goal="< 1e-6"),
        ]
        if direct is not None and documents == subject.rules.hidden.confirm:
            figures += _detection(subject, Cells.of(rows.lengths).flatten(direct.losses))
    return figures


def _detection(subject: Subject, truth: Floats) -> list[Figure]:
    """Compare how often a lie that wins nothing, so that all draws are uniform, is found with 1 - (1 - f)^n."""
    figures = []
    rules = subject.rules.evaluation
    for fraction in FRACTIONS:
        count = round(fraction * truth.size)
        claims = truth.copy()
        claims[np.random.default_rng(1).choice(truth.size, count, replace=False)] += 0.1
        seen = redraw(claims, truth, None, rules=rules, key=os.urandom(32), times=REDRAWS)
        expected = detection(count / truth.size, cells=rules.uniform_cells + rules.weighted_cells)
        error = 1.96 * math.sqrt(max(expected * (1 - expected), 1 / REDRAWS) / REDRAWS)
        found = 1 - seen.passed
        name = f"a lie on {100 * fraction:g} % of the cells is found, less 1 - (1 - f)^n"
        figures.append(
            Figure(name=name, unit="95 % interval", median=found - expected, low=found - expected - error, high=found - expected + error,
                   repetitions=REDRAWS, goal="holds 0")
        )  # fmt: skip
    return figures


def _starts(subject: Subject) -> list[Figure]:
    """Time a sandbox whose program needs no torch, from the launch to its first byte."""
    box = subject.sandbox.running(Program(module="json.tool", function="main"))
    times = []
    with tempfile.TemporaryDirectory() as empty:
        for _ in range(STARTS):
            began = time.monotonic()
            with box.launch(SandboxSpec(recipe=Path(empty), limits=limits_for(subject.rung("C1")))):
                times.append(1000 * (time.monotonic() - began))
    return [Figure.of("sandbox start without torch", "ms", times, goal="< 100")]


def _memory(context: Context, subject: Subject) -> list[Figure]:
    """Watch this process over many evaluations of few documents."""
    rung = subject.rung("C1")
    weights, rows = subject.trained(rung), subject.pool.rows(FEW_DOCUMENTS, rung.sequence)
    sizes = []
    for number in range(EVALUATIONS):
        subject.evaluated(rung, weights, rows)
        sizes.append(_resident() / MEBI)
        if (number + 1) % 20 == 0:
            context.say(f"evaluate: {number + 1} of {EVALUATIONS} evaluations, {sizes[-1]:.0f} MiB")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        Figure.of(f"growth of this process over {EVALUATIONS} evaluations", "MiB", [sizes[-1] - sizes[0]], goal="< 50"),
        Figure.of("its peak", "MiB", [peak]),
    ]


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
