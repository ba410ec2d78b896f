"""What hostile recipes obtain from an evaluation: the gain of each, how it is caught, how long it lives, and what it leaves behind.

All of them carry the same weights as their honest twin, so that whatever they gain, they gain by cheating. A gain is what the twin's
score is above theirs: of the one score that was accepted, and for a lie whose claims and true losses are all known, of the mean over
many draws of the probes. The king is another run of the same recipe.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ralph.cli.nodes import open_hidden_documents, open_public_data
from ralph.config import load_config
from ralph.errors import RalphError
from ralph.evaluate.cells import Floats
from ralph.evaluate.loading import Model
from ralph.evaluate.measure import Exam, Revealed, reveal, score
from ralph.evaluate.redraw import redraw
from ralph.evaluate.score import Score
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import materialise
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.limits import limits_for
from ralph.train import host
from ralph.train.run import RunJob
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import devnet, scratch
from ralph_devnet.hostile.catalogue import CATALOGUE, Hostile
from ralph_devnet.hostile.whispers import BY_CHANCE, SECRET, wrong_bits

RUNG = "C1"
DOCUMENTS = 256
REDRAWS = 300
TWIN, KING = 1, 2
"""Seeds."""
KINGS = "claim the king's losses where they are lower"
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one attack ended."""

    outcome: str
    """Reason code, or "scored"."""
    score: Score | None
    seconds: float


class Bout:
    """One evaluation after the other, of the same weights on the same hidden text."""

    def __init__(self, context: Context) -> None:
        net = devnet(context, "attacks")
        config = load_config(net.config("validator"))
        self.rules, self.data, self.sandbox = net.profile.rules, open_public_data(config, net.profile), BubblewrapSandbox(in_memory=True)
        self.rung, self.folder = self.rules.rung(RUNG), scratch(context, "attacks-recipes")
        self.rows = open_hidden_documents(config, net.profile, self.data).rows(DOCUMENTS, self.rung.sequence)
        materialise(genesis_recipe(), self.folder / "honest")
        self.weights = self._trained(TWIN)
        self.king = reveal(self.exam(self.folder / "honest", self._trained(KING), None)).truths

    def _trained(self, seed: int) -> bytes:
        job = RunJob(
            recipe=self.folder / "honest", rung=self.rung, seed=seed, vocabulary=self.data.vocabulary, limits=limits_for(self.rung)
        )
        return host.train(job, sandbox=self.sandbox, data=self.data).weights

    def exam(self, recipe: Path, weights: bytes, king: Floats | None) -> Exam:
        """Return a measurement under a fresh key."""
        return Exam(
            model=Model(
                sandbox=self.sandbox,
                recipe=recipe,
                weights=weights,
                rung=self.rung,
                vocabulary=self.data.vocabulary,
            ),
            rules=self.rules.evaluation,
            rows=self.rows,
            key=os.urandom(32),
            king=king,
        )

    def measure(self, recipe: Path) -> Ended:
        """Measure a recipe as a validator does, and say how it ended."""
        began = time.monotonic()
        scored, outcome = None, "scored"
        try:
            scored = score(self.exam(recipe, self.weights, self.king), self.data.token_bytes)
        except RalphError as error:
            outcome = str(error.code)
        return Ended(outcome=outcome, score=scored, seconds=time.monotonic() - began)

    def reveal(self, recipe: Path) -> Revealed:
        """Return all claims and true losses of a recipe."""
        return reveal(self.exam(recipe, self.weights, self.king))


def attacks(context: Context) -> list[Figure]:
    """Evaluate every hostile recipe of the catalogue."""
    bout = Bout(context)
    temporary = scratch(context, "attacks-temporary")
    before = leftovers(temporary)
    twin = bout.measure(bout.folder / "honest")
    truth = bout.reveal(bout.folder / "honest").truths
    if twin.score is None:
        raise ValueError(f"the honest twin ended with {twin.outcome}")
    figures = [
        Figure.of("honest twin", "s", [twin.seconds]),
        *_lie(bout, "claim the king's losses where they are lower", _kings(bout, truth), truth),
    ]
    surprises = 0
    for number, attack in enumerate(CATALOGUE):
        recipe = attack.write(bout.folder / f"{number}-{attack.payload}")
        with temporary_files_in(temporary):
            ended = bout.measure(recipe)
        expected = ended.outcome in attack.ends or (ended.outcome == "scored" and not attack.ends)
        surprises += not expected
        title = f"{attack.title}: {ended.outcome}" + ("" if expected else " (UNEXPECTED)")
        context.say(f"attacks: {title} after {ended.seconds:.1f} s")
        figures.append(Figure.of(f"{title}, its end", "s", [ended.seconds]))
        if ended.score is not None:
            figures.append(_accepted(attack, ended.score, twin.score))
        if attack.lies:
            figures += _lie(bout, attack.title, bout.reveal(recipe), truth)
    boxes = {"disk": BubblewrapSandbox(), "memory": bout.sandbox}
    wrong = {name: wrong_bits(box, temporary, f"{name}-{os.getpid()}") for name, box in boxes.items()}
    left = leftovers(temporary) - before
    for one in sorted(left):
        context.say(f"attacks: left behind: {one}")
    return [
        *figures,
        Figure.of("tell a later sandbox over look-ups in vain, programs on a disk: wrong bits", f"of {len(SECRET)}", [wrong["disk"]]),
        Figure.of("the same, programs in memory: wrong bits", f"of {len(SECRET)}", [wrong["memory"]], goal=f"> {BY_CHANCE}"),
        Figure.of("attacks", "", [len(CATALOGUE) + 2], goal=">= 25"),
        Figure.of("attacks that ended otherwise than they must", "", [surprises], goal="0"),
        Figure.of("processes, mounts, control groups and files left behind", "", [len(left)], goal="0"),
    ]


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Have every temporary file of this process made in ``folder``."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def leftovers(temporary: Path) -> frozenset[str]:
    """Return everything that an evaluation could leave behind: child processes, mounts, our control groups, temporary files."""
    children = {f"process {number}" for task in Path("/proc/self/task").glob("*/children") for number in task.read_text().split()}
    mounts = {f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines()}
    groups = {f"group {folder}" for folder in CGROUPS.rglob("*") if folder.name.startswith(f"ralph-{os.getpid()}-")}
    return frozenset(children | mounts | groups | {f"file {file}" for file in temporary.iterdir()})


def _accepted(attack: Hostile, score: Score, twin: Score) -> Figure:
    gain = twin.val_bpb - score.val_bpb
    error = 1.96 * (score.standard_error_nats**2 + twin.standard_error_nats**2) ** 0.5 * score.tokens / (np.log(2) * score.size_bytes)
    name = f"{attack.title}: gain of the score that was accepted"
    return Figure(name=name, unit="bpb, 95 % interval", median=gain, low=gain - error, high=gain + error, repetitions=1, goal="holds 0")


def _lie(bout: Bout, title: str, seen: Revealed, twin: Floats) -> list[Figure]:
    """Say what a lie would win on average over draws of the probes if nobody looked at mismatches, and in how many draws there is none."""
    drawn = redraw(seen.claims, seen.truths, bout.king, rules=bout.rules.evaluation, key=os.urandom(32), times=REDRAWS)
    gain, error = float(twin.mean() - drawn.scores.mean()), 1.96 * drawn.spread / REDRAWS**0.5
    figure = Figure(
        name=f"{title}: mean gain over {REDRAWS} draws, if nobody looked",
        unit="nats a token, 95 % interval",
        median=gain,
        low=gain - error,
        high=gain + error,
        repetitions=REDRAWS,
        goal="holds 0 or below, or never passes",
    )
    return [figure, Figure.of(f"{title}: draws that it passes", "%", [100 * drawn.passed], goal="0")]


def _kings(bout: Bout, truth: Floats) -> Revealed:
    """Return the claims of somebody who knows every loss of the king's, and is honest where his own are lower."""
    return Revealed(claims=np.minimum(truth, bout.king), truths=truth)
