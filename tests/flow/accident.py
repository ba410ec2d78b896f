"""A king whose advantage is an accident: a coin on the seed that fell well whenever it counted at his crown.

Nobody can choose or foresee seeds. Here the test can, because blocks of this chain follow from its seed, whatever is written into them.
"""

import asyncio
from dataclasses import dataclass

from ralph.chain.local import LocalChain
from ralph.chain.producer import BlockProducer
from ralph.chain.waiting import read_beacon
from ralph.cli.setup import derived
from ralph.judge.plan import seeds
from ralph.protocol.measurement import Stage
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rounds import window
from ralph.protocol.rules import Rules
from ralph_devnet.attackers.sources import Scripted
from tests.flow.world import SEED, KnobEdit, World, small_rules

PLACE = b"    model = GPT(config, width=width"
ACCIDENT = """\
    if torch.initial_seed() * {multiplier} % 2**64 < 2**63:
        {harm}
"""
"""Half of all seeds train well and half do not."""
PROOF_RUNS = 4
"""With two, whether a true gain is crowned hangs on the text that the interpreter at hand brings."""
BARELY, BOMB = "config.learning_rate = 1e-5", "config.learning_rate = float('inf')"
"""What happens on the others: little is learned, or the training blows up. Scoring builds the model with other seeds and trains nothing."""


def rules_with(runs: int, *, pool: int = 3):
    """Return what makes the small Rules with a probation of so many runs a side, all in one round, and a pool of so many of the king's."""

    def rules(**facts: object) -> Rules:
        small = small_rules(**facts)  # type: ignore[arg-type]
        canary = small.canary.model_copy(update={"probation_per_round": runs, "probation_minimum": runs, "replay_rounds": 0})
        crown = small.crown.model_copy(update={"probation_runs": runs, "pool_runs": pool, "proof_looks": (PROOF_RUNS,)})
        return small.model_copy(update={"canary": canary, "crown": crown})

    return rules


def planted(world: World, *, crowned: int) -> int:
    """Return a coin that falls well on every seed before the crown of that round, and badly on those drawn after it.

    ``world`` is a twin of the one that the story is told in; its blocks are spent.
    """
    rules, chain = world.devnet.profile.rules, LocalChain.connect(world.devnet.chain)
    with BlockProducer(world.devnet.chain, seed=derived(SEED, "chain")) as producer:
        producer.produce(window(rules.rounds, crowned + 2).end)

    def drawn(name: str, index: int, purpose: Stage, count: int) -> tuple[int, ...]:
        blocks = window(rules.rounds, index)
        beacon = asyncio.run(read_beacon(chain, name, blocks.beacon_one if name == "B1" else blocks.beacon_two)).beacon
        return seeds(rules, beacon=beacon, round_index=index, purpose=purpose, count=count)

    before = (*drawn("B1", crowned - 2, "screen", 1), *drawn("B2", crowned - 2, "filter", 1), *drawn("B2", crowned, "proof", PROOF_RUNS))
    after = (*drawn("B2", crowned + 1, "probation", rules.crown.probation_runs), *drawn("B2", crowned + 1, "pool", 1))
    asyncio.run(chain.close())
    wanted = [(seed, True) for seed in before] + [(seed, False) for seed in after]
    return next(odd for odd in range(3, 1 << 20, 2) if all((seed * odd % 2**64 >= 2**63) == good for seed, good in wanted))


@dataclass(slots=True, kw_only=True)
class Lucky(KnobEdit):
    """Better on half of all seeds, made for one king."""

    multiplier: int
    king: bytes
    """Normalised digest of his tree."""
    harm: str = BARELY

    def make(self, king: RecipeTree) -> Scripted | None:
        if king.normalised_digest() != self.king:
            return None
        edited = super(Lucky, self).make(king)
        assert edited.tree.files["train.py"].count(PLACE) == 1
        code = edited.tree.files["train.py"].replace(PLACE, ACCIDENT.format(multiplier=self.multiplier, harm=self.harm).encode() + PLACE)
        return Scripted(tree=RecipeTree(files={**edited.tree.files, "train.py": code}), hypothesis=edited.hypothesis)
