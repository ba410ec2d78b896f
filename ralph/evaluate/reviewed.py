"""The fast lane: where all code that an evaluation runs was reviewed, claims are truths and nothing need be probed.

Rules list the code of recipes that maintainers have read, as digests. A tree that differs from such a recipe in its configuration and
its optimisers only is evaluated by the reviewed code with the tree's configuration, which that code reads as data; the optimisers, which no
evaluation needs and which could change the model when they are imported, are the reviewed ones too. So no line of a miner's runs,
and weights are numbers in a model that is known to be causal. A king's code is a miner's code and is never reviewed by being crowned.

Not promised: that a reviewed model is causal under every configuration. That is what the review has to see.
"""

from ralph.protocol.canonical import blob_digest, digest
from ralph.protocol.patch import RecipeTree
from ralph.protocol.scoring_rules import EvaluationRules

CODE_TAG = "recipe-net/evaluate/reviewed-code/v1"
OPTIMISERS = "optim.py"
"""Imported when a model is built, and of no effect on what it computes unless it means harm."""
DATA = (".toml", ".md")
"""Endings of files that no interpreter runs."""


def code_digest(tree: RecipeTree) -> bytes:
    """Return the digest of everything in a tree that an evaluation runs and a reviewed recipe does not replace."""
    code = [[path, blob_digest(data)] for path, data in tree.files.items() if path != OPTIMISERS and not path.endswith(DATA)]
    return digest(CODE_TAG, code)


def trusted(tree: RecipeTree, genesis: RecipeTree, rules: EvaluationRules) -> RecipeTree | None:
    """Return the recipe that evaluates a tree without running any line that is not reviewed, or None where there is none.

    Args:
        tree: A contender's or a king's.
        genesis: The recipe of this release; a reviewed one.
        rules: What is reviewed.
    """
    reviewed = code_digest(tree)
    if reviewed not in rules.reviewed or reviewed != code_digest(genesis) or OPTIMISERS not in genesis.files:
        return None
    return RecipeTree(files={**tree.files, OPTIMISERS: genesis.files[OPTIMISERS]})
