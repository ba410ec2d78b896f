import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from ralph.chain.local import BlockProducer, ChainParameters, LocalChain, create
from ralph.chain.schema import connect
from ralph.errors import ChainRejected, ChainUnavailable, ConfigurationError, CorruptStateError
from tests.chain.support import ALICE, BOB, COLD_ONE, COLD_OWNER, OWNER, SEED, LocalWorld, run, start

WRITER = """
import asyncio, sys
from pathlib import Path
from ralph.chain.local import LocalChain
from ralph.chain.wallet import Hotkey

async def main(path, seed, count):
    signer = Hotkey.from_seed(bytes([seed]) * 32)
    chain = LocalChain.connect(path, keypair=signer)
    for number in range(count):
        await chain.commit(b"%d:%d" % (seed, number))
    await chain.close()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


def test_two_processes_that_write_at_once_both_get_everything_in(make_world) -> None:
    world = make_world(slot_budget_bytes=1_000_000, tempo=1_000_000)

    async def story() -> None:
        for signer in (ALICE, BOB):
            await world.register(signer)
        await world.advance()
        processes = [start(WRITER, world.path, str(seed), "60") for seed in (2, 3)]
        while any(process.poll() is None for process in processes):
            await world.advance()
        assert [process.wait() for process in processes] == [0, 0]
        for process in processes:
            process.communicate()
        head = await world.advance()
        async with world.connect() as chain:
            assert await chain.commitments(head) == {ALICE.key_id: b"2:59", BOB.key_id: b"3:59"}
        db = connect(world.path)
        assert db.execute("SELECT sum(charged) FROM slots").fetchone() == (2 * 60 * 100,)
        db.close()

    run(story())


def test_a_writer_killed_in_the_middle_leaves_a_chain_that_works(make_world) -> None:
    world = make_world(slot_budget_bytes=100_000_000, tempo=1_000_000)

    async def story() -> None:
        for signer in (ALICE, BOB):
            await world.register(signer)
        await world.advance()
        process = start(WRITER, world.path, "2", "100000")
        async with world.connect(BOB) as chain:
            while ALICE.key_id not in await chain.commitments(await world.advance()):
                pass
            process.kill()
            process.communicate()
            block = await chain.commit(b"still here")
            await world.advance()
            assert (await chain.commitments(block))[BOB.key_id] == b"still here"

    run(story())


def test_a_reorganisation_replaces_the_newest_blocks_and_takes_their_state_back(local: LocalWorld) -> None:
    async def story() -> None:
        await local.register(ALICE, stake=10)
        await local.advance(20)
        async with local.connect(ALICE) as chain:
            await chain.commit(b"old")
            await local.advance(5)
            before = await chain.head()
            kept = [await chain.block_hash(number) for number in range(before.finalised + 1)]
            gone = await chain.commit(b"new")
            await chain.set_weights({OWNER.key_id: 1}, version_key=0)
            await chain.register(BOB.key_id, COLD_ONE, stake=4)
            await local.advance(1)
            assert (await chain.commitments(gone))[ALICE.key_id] == b"new"
            old = await chain.head()
            local.producer.reorganise(2)
            new = await chain.head()
            assert (new.number, new.finalised) == (old.number, old.finalised)
            assert new.hash != old.hash
            assert [await chain.block_hash(number) for number in range(before.finalised + 1)] == kept
            assert (await chain.commitments(new.number))[ALICE.key_id] == b"old"
            assert await chain.weights(new.number) == {}
            assert BOB.key_id not in (await chain.snapshot(new.number)).by_hotkey()

    run(story())


def test_a_reorganisation_brings_back_the_evicted(make_world) -> None:
    world = make_world(max_uids=2, immunity_blocks=1)

    async def story() -> None:
        await world.register(ALICE)
        await world.advance(5)
        await world.register(BOB)
        await world.advance()
        async with world.connect() as chain:
            assert ALICE.key_id not in (await chain.snapshot(6)).by_hotkey()
            world.producer.reorganise(1)
            now = (await chain.snapshot(6)).by_hotkey()
            assert ALICE.key_id in now
            assert BOB.key_id not in now

    run(story())


def test_final_blocks_cannot_be_reorganised(local: LocalWorld) -> None:
    local.producer.produce(10)
    for depth in (0, local.parameters.finality_lag + 1):
        with pytest.raises(ValueError, match="cannot be reverted"):
            local.producer.reorganise(depth)


def test_the_beacon_survives_a_reorganisation(local: LocalWorld) -> None:
    async def story() -> None:
        await local.advance(6)
        async with local.connect() as chain:
            before = [await chain.drand_after(number) for number in range(6)]
            local.producer.reorganise(2)
            assert [await chain.drand_after(number) for number in range(6)] == before

    run(story())


def test_an_outage_makes_every_call_unavailable_until_it_ends(local: LocalWorld) -> None:
    async def story() -> None:
        await local.register(ALICE)
        await local.advance()
        async with local.connect(ALICE) as chain:
            chain.faults.outage = True
            for call in (chain.head(), chain.snapshot(1), chain.commitments(1), chain.commit(b"x"), chain.owner_hotkey()):
                with pytest.raises(ChainUnavailable):
                    await call
            chain.faults.outage = False
            assert await chain.commitments(1) == {}

    run(story())


def test_a_slow_call_ends_at_its_deadline_and_holds_up_nobody_else(local: LocalWorld) -> None:
    async def story() -> None:
        async with local.connect(deadline_s=0.05) as slow, local.connect() as quick:
            slow.faults.delay_s = 3_600.0
            with pytest.raises(ChainUnavailable, match=r"no answer within 0\.05 s"):
                await slow.head()
            assert (await quick.head()).number == 0

    run(story())


def test_a_busy_file_ends_a_write_at_its_deadline_and_reads_go_on(local: LocalWorld) -> None:
    async def story() -> None:
        await local.register(ALICE)
        await local.advance()
        hog = connect(local.path)
        hog.execute("BEGIN IMMEDIATE")
        async with local.connect(ALICE, deadline_s=0.05) as chain:
            with pytest.raises(ChainUnavailable):
                await chain.commit(b"x")
            assert (await chain.head()).number == 1
            hog.execute("ROLLBACK")
            assert await chain.commit(b"x") == 2
        hog.close()

    run(story())


def test_an_injected_rejection_changes_nothing_and_happens_once(local: LocalWorld) -> None:
    async def story() -> None:
        await local.register(ALICE)
        await local.advance()
        async with local.connect(ALICE) as chain:
            chain.faults.rejections.append(ChainRejected("SettingWeightsTooFast", "injected", retry_after_blocks=3))
            with pytest.raises(ChainRejected, match="injected"):
                await chain.commit(b"x")
            await local.advance()
            assert await chain.commitments(2) == {}
            await chain.commit(b"x")

    run(story())


def test_a_connection_without_a_hotkey_can_read_only(local: LocalWorld) -> None:
    async def story() -> None:
        async with local.connect() as chain:
            with pytest.raises(ConfigurationError, match="no hotkey"):
                await chain.commit(b"x")

    run(story())


def test_a_chain_that_is_not_there_yet_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ChainUnavailable):
        LocalChain.connect(tmp_path / "chain.db")


def test_a_chain_is_never_created_over_another(local: LocalWorld) -> None:
    before = sorted(path.name for path in local.path.parent.iterdir())
    with pytest.raises(ConfigurationError, match="already"):
        create(local.path, seed=SEED, owner_hotkey=OWNER.key_id, owner_coldkey=COLD_OWNER)
    assert sorted(path.name for path in local.path.parent.iterdir()) == before


def test_a_file_that_is_no_chain_stops_us(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 64)
    with pytest.raises(CorruptStateError):
        LocalChain.connect(tmp_path / "noise")


def test_a_chain_of_another_version_is_refused(local: LocalWorld) -> None:
    db = sqlite3.connect(local.path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigurationError, match="schema version 99"):
        LocalChain.connect(local.path)


def test_parameters_are_the_chains_own(make_world) -> None:
    world = make_world(netuid=7, tempo=33)
    chain = LocalChain.connect(world.path)
    assert (chain.netuid, chain.parameters) == (7, ChainParameters(netuid=7, tempo=33))
    asyncio.run(chain.close())


def test_a_read_sees_one_instant_while_blocks_are_made(local: LocalWorld) -> None:
    local.close()
    stop = threading.Event()

    def author() -> None:
        with BlockProducer(local.path, seed=SEED) as producer:
            while not stop.is_set():
                producer.produce()

    async def story() -> None:
        async with local.connect() as chain:
            for _ in range(100):
                head = await chain.head()
                assert await chain.block_hash(head.number) == head.hash
                assert (await chain.snapshot(head.number)).block == head.number

    thread = threading.Thread(target=author)
    thread.start()
    try:
        run(story())
    finally:
        stop.set()
        thread.join()
