"""The outside view of a devnet: a real chain file, a real store, real ledgers, and no key."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from ralph.agent.experiment import Decision, Experiment, Kind, Pair, Reign
from ralph.agent.ledger import Ledger
from ralph.chain.local import BlockProducer, LocalChain, create
from ralph.cli.setup import Devnet
from ralph.judge.weights import weights
from ralph.protocol.announcement import Slot, anchor_payload
from ralph.protocol.patch import RecipeTree
from ralph_devnet.watch import Watcher, participants, read_ledger
from tests.devnet.synthetic import World, name_digest, two_crowns

SEED = bytes(32)
T = TypeVar("T")


class Network:
    """A devnet with a chain whose blocks the test makes."""

    def __init__(self, world: World, path: Path) -> None:
        self.world = world
        (path / "store").symlink_to(world.path / "store")
        self.devnet = Devnet(
            home=path, profile=self.world.profile, validator=self.world.addresses["validator"], hotkeys=self.world.addresses
        )
        owner = self.world.hotkeys["causal"].key_id
        create(self.devnet.chain, seed=SEED, owner_hotkey=owner, owner_coldkey=owner)
        self.producer = BlockProducer(self.devnet.chain, seed=SEED)
        for name in ("validator", "ada", "bea"):
            self.run(None, lambda chain, name=name: chain.register(self.address(name), self.address(name), stake=10))  # type: ignore[misc]
        self.producer.produce(20)

    def address(self, name: str) -> str:
        return self.world.addresses[name]

    def run(self, name: str | None, action: Callable[[LocalChain], Awaitable[T]]) -> T:
        """Act on the chain, as a node when a name is given."""

        async def connected() -> T:
            chain = LocalChain.connect(self.devnet.chain, keypair=self.world.hotkeys[name] if name else None)
            try:
                return await action(chain)
            finally:
                await chain.close()

        return asyncio.run(connected())

    def watch(self, action: Callable[[Watcher], Awaitable[T]]) -> T:
        async def connected() -> T:
            watcher = Watcher.connect(self.devnet, researchers=("ada", "bea"))
            try:
                return await action(watcher)
            finally:
                await watcher.close()

        return asyncio.run(connected())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return two_crowns(tmp_path_factory.mktemp("world"))


@pytest.fixture
def network(world: World, tmp_path: Path) -> Iterator[Network]:
    found = Network(world, tmp_path)
    yield found
    found.producer.close()


def test_before_the_first_anchor_the_genesis_reigns_and_nothing_is_recorded(network: Network) -> None:
    seen = network.watch(lambda watcher: watcher.observe())
    assert seen.entries == ()
    assert seen.throne.king.tag == "recipe-v1.0.0"
    assert seen.weights.on_chain == {}
    assert not seen.weights.equal


def test_a_final_anchor_leads_to_every_record_and_to_the_weights_that_are_due(network: Network) -> None:
    anchor = network.world.history.entries[-1].anchor_digest
    network.run("validator", lambda chain: chain.commit(anchor_payload(anchor)))
    network.producer.produce(1)
    assert network.watch(lambda watcher: watcher.observe()).entries == ()
    network.producer.produce(2)
    seen = network.watch(lambda watcher: watcher.observe())
    assert len(seen.entries) == len(network.world.history.entries)
    assert seen.throne.king.tag == "recipe-v1.2.0"
    assert set(seen.weights.due) == {"ada", "bea"}
    assert not seen.weights.equal


def test_weights_are_equal_once_the_validator_has_set_them(network: Network) -> None:
    world = network.world
    registered = frozenset(world.addresses[name] for name in ("validator", "ada", "bea", "causal"))
    due = dict(weights(world.history.throne, world.profile.rules, owner=world.addresses["causal"], registered=registered))
    network.run("validator", lambda chain: chain.commit(anchor_payload(world.history.entries[-1].anchor_digest)))
    network.run("validator", lambda chain: chain.set_weights(due, version_key=1))
    network.producer.produce(3)
    assert network.watch(lambda watcher: watcher.observe()).weights.equal


def test_announcements_that_no_record_mentions_are_pending(network: Network) -> None:
    fresh = Slot(track=1, parent=bytes(8), announcement=name_digest("new"))
    delivered = Slot(track=1, parent=bytes(8), announcement=name_digest("newer"), bundle=name_digest("bundle"))
    network.run("ada", lambda chain: chain.commit(fresh.to_bytes()))
    network.run("bea", lambda chain: chain.commit(delivered.to_bytes()))
    network.producer.produce(1)
    seen = network.watch(lambda watcher: watcher.observe())
    assert {one.name: one.progress for one in seen.pending} == {"ada": "announced", "bea": "delivered"}


def test_nonsense_in_a_slot_is_no_announcement(network: Network) -> None:
    network.run("ada", lambda chain: chain.commit(b"\xff" * 106))
    network.producer.produce(1)
    assert network.watch(lambda watcher: watcher.observe()).pending == ()


def test_the_start_line_holds_blocks_until_everybody_has_joined(network: Network) -> None:
    async def scene(watcher: Watcher) -> None:
        await watcher.hold()
        assert not network.producer.step()
        node = LocalChain.connect(network.devnet.chain)
        await node.join(f"miner {network.address('ada')}")
        await node.allow(1000)
        assert await watcher.ready([network.address("ada")])
        assert not await watcher.ready([network.address("ada"), network.address("bea")])
        assert not network.producer.step()
        await watcher.release()
        assert network.producer.step()
        await node.close()

    network.watch(scene)


def test_who_is_waited_for_is_told_by_name(network: Network) -> None:
    network.run(None, lambda chain: chain.join(f"miner {network.address('ada')}"))
    assert participants(network.devnet.chain) == (f"miner {network.address('ada')}",)
    assert network.watch(lambda watcher: watcher.observe()).waiting == ("ada",)


def test_a_ledger_that_is_missing_or_being_made_is_unknown_and_untouched(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "missing.sqlite") is None
    (tmp_path / "new.sqlite").write_bytes(b"")
    assert read_ledger(tmp_path / "new.sqlite") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.sqlite"]


def test_experiments_are_read_while_the_miner_has_the_ledger_open(network: Network) -> None:
    ledger = Ledger.open(network.devnet.home / "ada" / "research.sqlite")
    assert network.watch(lambda watcher: watcher.observe()).tried == ()
    tree = RecipeTree(files={"train.py": b"x = 1\n"})
    ledger.begin(Reign(number=0, king=tree.digest(), rebased=None, bench="b", seed=1), tree, None, experiments=3)
    ledger.add_experiment(
        Experiment(
            number=0,
            reign=0,
            kind=Kind.PROPOSAL,
            proposer="optimiser",
            king=tree.digest(),
            parent=tree.digest(),
            tree=tree.digest(),
            patch=b"",
            change="x 1 -> 2",
            mechanism="",
            pairs=(Pair(seed=1, challenger_bpb=None, head_bpb=2.0),),
            decision=Decision.CRASH,
            reason="RUN-OOM",
            gain_bpb=None,
            standard_error_bpb=None,
            worker_cpu_s=1.0,
            memory_bytes=1,
        ),
        [tree],
    )
    (seen,) = network.watch(lambda watcher: watcher.observe()).tried
    assert (seen.miner, seen.change, seen.decision, seen.runs, seen.gain_bpb, seen.val_bpb) == ("ada", "x 1 -> 2", "crash", 0, None, None)
    ledger.close()
