"""A whole small network for stories: a real chain, store, sandbox and training, with the ladder shrunk to seconds."""

import asyncio
import itertools
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ralph.agent import knobs
from ralph.chain.local import LocalChain
from ralph.chain.producer import Barrier, BlockProducer
from ralph.cli.exams import Exams
from ralph.cli.nodes import miner_services, validator_services
from ralph.cli.setup import Devnet, MakeRules, MinerPlan, derived, set_up
from ralph.config import load_config
from ralph.data.corpora import stdlib_documents
from ralph.data.prepare import prepare
from ralph.judge.weights import weights
from ralph.miner.loop import Miner, Policy
from ralph.miner.prove import Prover, prove
from ralph.miner.services import PatchSource
from ralph.protocol.network import devnet_rules
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import Rules
from ralph.records.history import History, anchor_of
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.store.directory import DirectoryStore
from ralph.validator.loop import Validator
from ralph_devnet.attackers.sources import Once, Scripted, hypothesis

SEED = 7
TASK_ITEMS = 40


def small_rules(*, genesis_tree: bytes, manifest: bytes, vocabulary: int, hidden: bytes, sources: tuple[str, ...]) -> Rules:
    """Return devnet Rules with 24 training steps, few documents and a decision within three looks."""
    rules = devnet_rules(genesis_tree=genesis_tree, manifest=manifest, vocabulary=vocabulary, hidden=hidden, sources=sources)
    rung = rules.rung("C1").model_copy(update={"sequence": 32, "tokens": 16 * 32 * 24})
    crown = rules.crown.model_copy(
        update={
            "pool_runs": 3,
            "filter_looks": (1,),
            "filter_drop": (),
            "filter_advance": (1.0,),
            "proof_looks": (2,),
            "proof_weights": (1.0,),
            "proof_drop": (),
            "alpha_reign": 0.9,
            "sigma": 0.05,
            "variance_reference": 0.0025,
            "probation_runs": 2,
        }
    )
    evaluation = rules.evaluation.model_copy(update={"uniform_cells": 128, "weighted_cells": 32, "batch_rows": 32})
    hidden = rules.hidden.model_copy(update={"screen": 48, "confirm": 96, "audit": 24, "crown": 6})
    canary = rules.canary.model_copy(update={"probation_minimum": 2, "rotation_minimum": 3})
    guards = rules.guards.model_copy(update={"min_documents": 4, "source_margin_sigmas": 2.0})
    changed = {"ladder": (rung,), "crown": crown, "evaluation": evaluation, "hidden": hidden, "guards": guards, "canary": canary}
    return rules.model_copy(update=changed)


def prepare_data(directory: Path) -> Path:
    """Prepare a small corpus once; return its directory."""
    documents = list(itertools.islice(stdlib_documents(), 1200))
    prepare(directory / "public", hidden=directory / "hidden", vocabulary=320, documents=documents)
    return directory


@dataclass(slots=True, kw_only=True)
class KnobEdit(Once):
    """A patch that sets knobs of whatever king there is."""

    values: dict[str, float | int | str]

    def make(self, king: RecipeTree) -> Scripted:
        tree = knobs.edit(king, self.values)
        assert tree is not None
        return Scripted(tree=tree, hypothesis=hypothesis(f"set {self.values}"))


@dataclass(slots=True, kw_only=True)
class FixedStart(KnobEdit):
    """An honest improvement whose initial weights do not depend on the seed: a lucky draw could be stored in it."""

    def make(self, king: RecipeTree) -> Scripted:
        edited = super(FixedStart, self).make(king)
        head = b"    def initialise(self, config: SimpleNamespace) -> None:\n"
        model = edited.tree.files["model.py"].replace(head, head + b"        torch.manual_seed(7)\n")
        assert model != edited.tree.files["model.py"]
        return Scripted(tree=RecipeTree(files={**edited.tree.files, "model.py": model}), hypothesis=edited.hypothesis)


class GoesSilentError(Exception):
    """The miner of a story dies in the middle of something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """A miner of a story."""

    name: str
    source: PatchSource
    prover: Prover = prove


class World:
    """One devnet in a directory, with its chain's producer in this process."""

    def __init__(self, home: Path, data: Path, names: Sequence[str], *, rules: MakeRules = small_rules, core: Path | None = None) -> None:
        miners = [MinerPlan(name=name) for name in names]
        exams = Exams(core=core, core_items=TASK_ITEMS)
        self.devnet: Devnet = set_up(home, seed=SEED, miners=miners, data=data, rules=rules, exams=exams)
        self.store = DirectoryStore(home / "store")

    @contextmanager
    def blocks(self):
        """Let the chain run while the context lasts."""
        stop = threading.Event()
        with BlockProducer(self.devnet.chain, seed=derived(SEED, "chain"), pace=Barrier(timeout_s=900.0)) as producer:
            thread = threading.Thread(target=producer.run, args=(stop,), daemon=True)
            thread.start()
            try:
                yield producer
            finally:
                stop.set()
                thread.join()

    def play(self, players: Sequence[Player], *, rounds: int) -> History:
        """Run validator and miners together until so many rounds are recorded; return the published history."""
        with self.blocks():
            asyncio.run(self._play(players, rounds))
        return asyncio.run(self.history())

    async def _play(self, players: Sequence[Player], rounds: int) -> None:
        validating = await validator_services(load_config(self.devnet.config("validator")), BubblewrapSandbox())
        services = [await miner_services(load_config(self.devnet.config(player.name))) for player in players]
        chains = [one.chain for one in services]
        miners = []
        for player, one in zip(players, services, strict=True):
            miner = Miner(one, player.source, policy=Policy(holds_rounds=False), prover=player.prover)
            if hasattr(player.source, "history"):
                player.source.history = miner.history
            miners.append(asyncio.ensure_future(miner.run(asyncio.Event())))
        validator = asyncio.ensure_future(Validator(validating).run(asyncio.Event(), rounds=rounds))
        waiting = {validator, *miners}
        while not validator.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {validator}:
                if not isinstance(task.exception(), GoesSilentError):
                    task.result()
                await chains[miners.index(task)].leave()
        left = {task for task in (validator, *miners) if not task.done()}
        while left:  # wait_for of Python 3.11 can swallow a cancellation that meets a finished call
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=1)
        for chain in (*chains, validating.chain):
            await chain.close()
        validator.result()

    async def history(self) -> History:
        """Read what the validator published, as a stranger would."""
        chain = LocalChain.connect(self.devnet.chain)
        try:
            head = await chain.head()
            anchor = anchor_of((await chain.commitments(head.number)).get(self.devnet.validator))
            history = History(self.store, self.devnet.profile, self.devnet.validator)
            return history.read(anchor) if anchor else history
        finally:
            await chain.close()

    async def chain_weights(self) -> dict[str, int]:
        """Return the validator's weights on chain."""
        chain = LocalChain.connect(self.devnet.chain)
        try:
            return (await chain.weights((await chain.head()).number)).get(self.devnet.validator, {})
        finally:
            await chain.close()

    def expected_weights(self, history: History) -> dict[str, int]:
        """Return what the published Records pay, on the chain's scale."""
        owner = self.devnet.hotkeys["owner"]
        paid = dict(weights(history.throne, self.devnet.profile.rules, owner=owner, registered=frozenset(self.devnet.hotkeys.values())))
        largest = max(paid.values())
        return {hotkey: weight * 65_535 // largest for hotkey, weight in paid.items()}

    def outcomes(self, history: History, name: str) -> list[tuple[int, str, str]]:
        """Return (round, state, reason) of everything a node submitted."""
        hotkey = self.devnet.hotkeys[name]
        found = []
        for entry in history.entries:
            record = entry.signed.record
            own = {case.case for case in record.cases if case.hotkey == hotkey}
            found += [(record.round, outcome.state, outcome.reason) for outcome in record.outcomes if outcome.case in own]
        return found
