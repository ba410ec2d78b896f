"""What a model that looks ahead gains: its corrected score beside its honest twin's over many redraws of the probes.

The cheat is the strongest one can be: its claims come from a real model that looks ahead, and to prefixes it answers exactly as its
twin does, so that only its claims can win anything.
"""

import numpy as np

from ralph.cli.nodes import open_hidden_documents, open_public_data
from ralph.config import load_config
from ralph.evaluate.cells import Cells, Floats
from ralph.evaluate.loading import Model
from ralph.evaluate.measure import Exam, reveal
from ralph.evaluate.redraw import redraw
from ralph.protocol.patch import RecipeTree
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import materialise
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.sandbox.limits import limits_for
from ralph.train import host
from ralph.train.run import RunJob
from ralph_devnet.attackers.sources import Peek
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import devnet, scratch

REDRAWS = 500
CHEATS = {"peeks at every token": 1000, "peeks at 1 % of the tokens": 10}
DOCUMENTS = 256


def scorer_gain(context: Context) -> list[Figure]:
    """Train once, claim with and without looking ahead, know the true loss of every cell, and redraw the probes."""
    net = devnet(context, "scorer")
    config = load_config(net.config("validator"))
    rules, data, sandbox = net.profile.rules, open_public_data(config, net.profile), BubblewrapSandbox()
    rung = rules.rung("C1")
    rows = open_hidden_documents(config, net.profile, data).rows(DOCUMENTS, rung.sequence)
    folder = scratch(context, "scorer-recipes")
    trees = {"honest twin": genesis_recipe()} | {name: _peeking(per_mille) for name, per_mille in CHEATS.items()}
    weights = b""
    truths: Floats | None = None
    redraws = {}
    for number, (name, tree) in enumerate(trees.items()):
        recipe = folder / str(number)
        materialise(tree, recipe)
        if not weights:
            job = RunJob(recipe=recipe, rung=rung, seed=1, vocabulary=data.vocabulary, limits=limits_for(rung))
            weights = host.train(job, sandbox=sandbox, data=data).weights
        exam = Exam(
            model=Model(
                sandbox=sandbox,
                recipe=recipe,
                weights=weights,
                rung=rung,
                vocabulary=data.vocabulary,
            ),
            rules=rules.evaluation,
            rows=rows,
            key=bytes(32),
            king=None,
        )
        found = reveal(exam)
        truths = found.truths if truths is None else truths
        redraws[name] = redraw(found.claims, truths, None, rules=rules.evaluation, key=b"bench", times=REDRAWS)
        context.say(f"scorer: {name}: claims {found.claims.mean():.4f}, truth {found.truths.mean():.4f} nats per token")
    honest = redraws.pop("honest twin")
    figures = [Figure.of("cells known in full", "", [float(Cells.of(rows.lengths).count)])]
    for name, cheat in redraws.items():
        error = float(cheat.scores.std(ddof=1))
        gap = (float(honest.scores.mean()) - float(cheat.scores.mean())) / error if error else 0.0
        figures += [
            Figure.of(f"{name}: mean score below the honest twin's over {REDRAWS} redraws", "standard errors", [gap], goal="|x| < 0.1"),
            Figure.of(f"{name}: redraws in which it is not caught", "%", [100 * cheat.passed], goal="0"),
            Figure.of(f"{name}: standard error of one measurement", "nats", [error]),
            Figure.of(f"{name}: bias of the estimate", "nats", [float(np.mean(cheat.scores)) - cheat.truth]),
        ]
    return figures


def _peeking(per_mille: int) -> RecipeTree:
    return Peek(per_mille=per_mille).make(genesis_recipe()).tree
