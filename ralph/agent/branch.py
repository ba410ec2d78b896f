"""The branch: the patch of what was kept, its rebase onto a new king, and the hypothesis that goes with it.

A patch is always made by comparing trees, and checked as a validator will check it: applied to the king's tree within
the Rules' limits, whose result must be the very tree that was measured.
"""

from dataclasses import dataclass, field
from pathlib import Path

from ralph.agent import knobs
from ralph.agent.decide import Estimate
from ralph.errors import UntrustedInputError
from ralph.protocol.announcement import Hypothesis
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import PatchRules
from ralph.repository.apply import apply_patch, diff, merge

MAX_TEXT = 2000
INTERVAL = 2.0
"""Half-width of the predicted interval in standard errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A tree that is better than the king on seeds that no decision has seen."""

    tree: RecipeTree = field(repr=False)
    patch: bytes = field(repr=False)
    """Unified diff from the king's tree."""
    hypothesis: Hypothesis
    gain_bpb: float
    standard_error_bpb: float
    experiments: int
    """Experiments that this reign took so far."""


def diff_of(scratch: Path, base: RecipeTree, tree: RecipeTree) -> bytes:
    """Return the unified diff from ``base`` to ``tree``, empty for equal trees."""
    if base.digest() == tree.digest():
        return b""
    scratch.mkdir(parents=True, exist_ok=True)
    return diff(scratch, base, tree)


def patch_of(scratch: Path, base: RecipeTree, tree: RecipeTree, rules: PatchRules) -> bytes:
    """Return the patch to submit: the diff, applied to ``base`` as a validator will.

    Raises:
        UntrustedInputError: ``INT-*``, the Rules do not let it through.
    """
    patch = diff_of(scratch, base, tree)
    if apply_patch(scratch, base, patch, rules).digest() != tree.digest():
        raise UntrustedInputError("INT-NOAPPLY", "the patch does not make the tree that it was made from")
    return patch


def rebase(scratch: Path, *, base: RecipeTree, head: RecipeTree, king: RecipeTree) -> RecipeTree | None:
    """Bring the change from ``base`` to ``head`` over to ``king``; None when nothing of it is left.

    A three-way merge comes first. Where that conflicts, the knobs that the branch changed are set again, as far as
    the new king still declares them with these values.
    """
    if head.digest() == base.digest():
        return None
    scratch.mkdir(parents=True, exist_ok=True)
    tree = merge(scratch, base, king, head)
    if tree is None:
        declared = {knob.name: knob for knob in knobs.read(king)}
        wanted = {
            change.name: change.after
            for change in knobs.changes(base, head)
            if change.name in declared and declared[change.name].allows(change.after)
        }
        tree = knobs.edit(king, wanted)
    return None if tree is None or tree.digest() == king.digest() else tree


def hypothesis(king: RecipeTree, tree: RecipeTree, found: Estimate, *, rung: str) -> Hypothesis:
    """Return what the patch is expected to do, from what it did on private seeds."""
    changed = knobs.changes(king, tree)
    about = {knob.name: knob.about for knob in knobs.read(king)}
    low, high = (found.gain_bpb + sign * INTERVAL * found.standard_error_bpb for sign in (-1, 1))
    return Hypothesis(
        change=("; ".join(str(change) for change in changed) or "code")[:MAX_TEXT],
        mechanism=" ".join(f"{change.name}: {about.get(change.name, '')}" for change in changed)[:MAX_TEXT],
        predicted_gain_bpb=round(found.gain_bpb, 6),
        predicted_low_bpb=round(low, 6),
        predicted_high_bpb=round(high, 6),
        falsifier=f"a mean paired gain over this king below {low:.4f} bpb on fresh seeds at rung {rung}",
    )
