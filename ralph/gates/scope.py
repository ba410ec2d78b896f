"""Establish that the patch applies to the king's recipe, changes only what is patchable, and gives the announced tree."""

from pathlib import Path

from ralph.errors import UntrustedInputError
from ralph.protocol.patch import RecipeTree
from ralph.protocol.reasons import Reason
from ralph.protocol.rules import PatchRules
from ralph.protocol.submission import Case
from ralph.protocol.verdict import Finding
from ralph.repository.apply import apply_patch

GATE = "scope"


def scope(case: Case, rules: PatchRules, *, scratch: Path) -> tuple[Finding, RecipeTree | None]:
    """Apply the diff to a clean tree and compare what came out; return the resulting tree when it passes."""
    try:
        tree = apply_patch(scratch, case.king, case.patch, rules)
    except UntrustedInputError as error:
        return Finding(gate=GATE, reason=Reason(error.code), detail=error.detail), None
    if tree.digest() != case.announcement.tree:
        return Finding(gate=GATE, reason=Reason.INT_HASH, detail="the patch gives another tree than was announced"), None
    return Finding(gate=GATE, reason=None, detail="only patchable paths changed"), tree
