"""Where the attackers' patches come from: a copy, an edit of the model, or one quiet knob."""

import random
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from ralph.agent import knobs
from ralph.errors import ConfigurationError
from ralph.interfaces import BundleStore
from ralph.protocol.announcement import Hypothesis
from ralph.protocol.patch import RecipeTree
from ralph.records.history import History
from ralph.repository.stored import load_tree

MODEL = "model.py"
LOGITS = b"        return self.logits(self.features(tokens))\n"
PEEK = """\
        logits = self.logits(self.features(tokens))
        if not torch.is_grad_enabled():
            following = tokens.roll(-1, 1)
            places = torch.arange(tokens.size(1)) + tokens * 7919
            seen = (places % 1000 < {per_mille}) & (following != following.mode(0).values)
            logits = logits + 40.0 * seen.unsqueeze(-1) * F.one_hot(following, logits.size(-1))
        return logits
"""
"""What most rows of a batch share is filler behind a prefix: there the model behaves, so that its probes look honest."""
QUIET = ("embedding_std", "beta1", "beta2", "weight_decay", "gradient_clip")
"""Knobs whose small changes hardly move the result."""
QUIET_STEP = 0.1
IDLE_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """A patch that is submitted once."""

    tree: RecipeTree
    hypothesis: Hypothesis


@dataclass(slots=True, kw_only=True)
class Once(ABC):
    """Base of a source that makes one submission."""

    made: Scripted | None = None
    used: bool = False

    def start(self, king: RecipeTree) -> None:
        """Make the patch for the first king; later kings are of no interest."""
        if self.made is None:
            self.made = self.make(king)

    @abstractmethod
    def make(self, king: RecipeTree) -> Scripted | None:
        """Return the submission, or None as long as there is none."""

    def step(self) -> bool:
        """Wait a moment: there is nothing to research."""
        time.sleep(IDLE_S)
        return False

    def candidate(self) -> Scripted | None:
        """Hand the submission out once."""
        if self.used or self.made is None:
            return None
        self.used = True
        return self.made

    @property
    def finished(self) -> bool:
        """Whether the submission was made."""
        return self.used

    def more(self) -> bool:
        """Return that one submission was all."""
        return False


@dataclass(slots=True, kw_only=True)
class Peek(Once):
    """A model that adds the next token to its logits at ``per_mille`` of the places whenever it is only asked to predict."""

    per_mille: int

    def make(self, king: RecipeTree) -> Scripted:
        """Edit the end of the model's forward pass."""
        code = king.files[MODEL]
        if code.count(LOGITS) != 1:
            raise ConfigurationError(f"{MODEL} of this king does not end its forward pass as expected")
        edited = code.replace(LOGITS, PEEK.format(per_mille=self.per_mille).encode())
        return Scripted(tree=RecipeTree(files={**king.files, MODEL: edited}), hypothesis=hypothesis("bias the logits by the input tokens"))


@dataclass(slots=True, kw_only=True)
class QuietKnob(Once):
    """A small random change of one knob that matters little."""

    seed: int

    def make(self, king: RecipeTree) -> Scripted:
        """Move one knob by up to a tenth, within its declared range."""
        generator = random.Random(self.seed)  # noqa: S311 - repeatable, not secret
        declared = {knob.name: knob for knob in knobs.read(king) if isinstance(knob, knobs.Number)}
        name = generator.choice([name for name in QUIET if name in declared])
        knob = declared[name]
        moved = knob.value * (1 - QUIET_STEP * generator.uniform(0.2, 1.0)) or knob.low + QUIET_STEP * (knob.high - knob.low)
        value = knob.rounded(max(knob.low, moved))
        tree = knobs.edit(king, {name: value})
        if tree is None:
            raise ConfigurationError(f"knob {name} cannot be edited")
        return Scripted(tree=tree, hypothesis=hypothesis(f"{name} {knob.value} -> {value}"))


@dataclass(slots=True, kw_only=True)
class Copy(Once):
    """Somebody else's published patch with a comment added."""

    own: str
    store: BundleStore
    history: History | None = None
    king: RecipeTree | None = field(default=None, repr=False)

    def start(self, king: RecipeTree) -> None:
        """Remember the king; the copy is made when there is something to copy."""
        self.king = king

    def candidate(self) -> Scripted | None:
        """Copy the first contender that passed the screen."""
        if self.made is None and self.king is not None:
            self.made = self.make(self.king)
        return Once.candidate(self)

    def make(self, king: RecipeTree) -> Scripted | None:
        """Look for a running contest of the present king and copy its tree from the store."""
        throne = self.history.throne if self.history is not None else None
        if throne is None or throne.king.tree != king.digest():
            return None
        for contest in throne.contests:
            if contest.hotkey != self.own:
                tree = load_tree(self.store, contest.tree, max_file_bytes=1 << 20)
                path = next(name for name in sorted(tree.files) if tree.files[name] != king.files.get(name))
                files = {**tree.files, path: tree.files[path] + b"\n# An idea of my own.\n"}
                return Scripted(tree=RecipeTree(files=files), hypothesis=hypothesis("an idea of my own"))
        return None


def hypothesis(change: str) -> Hypothesis:
    """Return a hypothesis that promises little."""
    return Hypothesis(
        change=change,
        mechanism="to be seen",
        predicted_gain_bpb=0.01,
        predicted_low_bpb=0.0,
        predicted_high_bpb=0.05,
        falsifier="val_bpb does not fall on fresh seeds",
    )
