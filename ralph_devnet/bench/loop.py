"""Seconds per stage of one submission: prove, publish, intake, measure, decide, read back."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ralph.agent import knobs
from ralph.chain.producer import BlockProducer
from ralph.cli.nodes import miner_services, validator_services
from ralph.cli.setup import derived
from ralph.config import load_config
from ralph.gates.announced import Entrant
from ralph.judge.decide import Sealed, decide
from ralph.judge.plan import Need, seeds
from ralph.miner.announce import prepare, slot_of
from ralph.miner.prove import run_files
from ralph.miner.services import MinerServices
from ralph.miner.submit import bundle_files, publish
from ralph.protocol.lineage import KingRun, Throne
from ralph.protocol.merkle import EMPTY_ROOT
from ralph.protocol.patch import RecipeTree
from ralph.protocol.pool import Subset
from ralph.protocol.rules import Rules
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.validator.intake import Docket, Intake
from ralph.validator.measure import Bench, Work
from ralph.validator.services import Services
from ralph_devnet.attackers.sources import Scripted, hypothesis
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import SEED, devnet

BEACON = bytes([5]) * 32


def loop_stages(context: Context) -> list[Figure]:
    """Take one submission through every stage, several times, each on its own devnet."""
    times: dict[str, list[float]] = {}
    for number in range(context.repeat):
        net = devnet(context, f"loop-{number}", ("miner",))
        with BlockProducer(net.chain, seed=derived(SEED, "chain")) as producer:
            producer.produce(3)
            for stage, seconds in asyncio.run(_stages(net.config("miner"), net.config("validator"))).items():
                times.setdefault(stage, []).append(seconds)
        context.say(f"loop: submission {number + 1} of {context.repeat}")
    return [Figure.of(stage, "s wall", values) for stage, values in times.items()]


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def timed(self, stage: str, work: Callable[[], Any]) -> Any:
        """Do the work of one stage and return its result."""
        started = time.perf_counter()
        result = work()
        self.found[stage] = time.perf_counter() - started
        return result


async def _stages(miner_config: Path, validator_config: Path) -> dict[str, float]:
    miner = await miner_services(load_config(miner_config))
    validator = await validator_services(load_config(validator_config), BubblewrapSandbox(in_memory=True))
    try:
        watch = Stopwatch()
        _judged(validator, watch, *_submitted(miner, watch))
        return watch.found
    finally:
        for services in (miner, validator):
            await services.chain.close()


def _submitted(miner: MinerServices, watch: Stopwatch) -> tuple[Entrant, RecipeTree]:
    """Announce a patch, prove it and publish its bundle."""
    rules, king = miner.profile.rules, miner.genesis
    timed = watch.timed
    rung = rules.rung(rules.crown.rung)
    tree = knobs.edit(king, {"learning_rate": 0.005})
    if tree is None:
        raise ValueError("the genesis recipe has no learning rate to edit")
    entry = timed(
        "announce: diff and preimage", lambda: prepare(miner, Scripted(tree=tree, hypothesis=hypothesis("bench")), king, round_index=1)
    )
    runs = timed("prove: one C1 run of the miner", lambda: run_files(miner, entry, rung, _screen_seeds(rules)[0]))
    files = bundle_files(miner, entry, runs)
    bundle = timed("submit: bundle and signature", lambda: publish(miner, entry, files, beacon_one=BEACON))
    return Entrant(hotkey=miner.hotkey.key_id, coldkey="c", registered_at=0, slot=slot_of(miner, entry, bundle=bundle)), tree


def _screen_seeds(rules: Rules) -> tuple[int, ...]:
    return seeds(rules, beacon=BEACON, round_index=1, purpose="screen", count=1)


def _judged(validator: Services, watch: Stopwatch, entrant: Entrant, tree: RecipeTree) -> None:
    """Take the submission in, measure it beside the king, and decide."""
    rules, king = validator.profile.rules, validator.genesis
    drawn, timed = _screen_seeds(rules), watch.timed
    docket = Docket(
        round_index=1,
        throne=Throne.genesis(king.digest()),
        king=king,
        entrants=(entrant,),
        bundles={entrant.hotkey: entrant.slot.to_bytes()},
        beacons_one={1: BEACON},
        screen_seeds=drawn,
        filter_seeds=lambda _: (),
    )
    intake = Intake(store=validator.store, rules=rules, scratch=validator.scratch, docket=docket)
    row = timed("judge: fetch and all gates", lambda: intake.row(entrant))
    if row.refusal is not None:
        raise ValueError(f"the benchmark's submission was refused: {row.refusal}")
    environment = timed("measure: describe the stack", validator.environment)
    subset = Subset(shard="screen", rotation=0)
    documents = validator.pools.documents(rules.data.hidden_commitment, subset.shard)
    rows = documents.rows(rules.hidden.count(subset), rules.rung(rules.crown.rung).sequence)
    bench = Bench(
        rules=rules,
        sandbox=validator.sandbox,
        data=validator.data,
        hidden={subset: rows},
        environment=environment,
        executor=validator.hotkey.key_id,
        round_index=1,
        beacon_two=BEACON,
        king_losses={},
        scratch=validator.scratch,
        genesis=validator.genesis,
    )
    beside_it = Need(role="king", stage="screen", tree=king.digest(), seed=drawn[0], executed=True, subset=subset)
    own = Work(need=beside_it, tree=king, weights=None)
    other = Work(need=replace(beside_it, role="challenger", tree=tree.digest()), tree=tree, weights=None)
    beside = timed("measure: king, trained and scored", lambda: bench.measure(own))
    measured = timed("measure: challenger, trained and scored", lambda: bench.measure(other))
    pool = tuple(KingRun(seed=index, val_bpb=2.8 + 0.001 * index, weights=bytes(32)) for index in range(rules.crown.pool_runs))
    throne = Throne(round_index=0, lineage=docket.throne.lineage, pool=pool)
    timed(
        "decide",
        lambda: decide(
            throne,
            round_index=1,
            beacon_two=BEACON,
            cases=[row],
            measurements=[beside.measurement, measured.measurement],
            sealed=Sealed(root=EMPTY_ROOT, documents=0),
            rules=rules,
        ),
    )
    watch.found["of a measurement: training, CPU"] = measured.train_cpu_s
    watch.found["of a measurement: probes, CPU"] = measured.score_cpu_s
