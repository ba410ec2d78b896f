"""What every implementation of ``interfaces.Chain`` does. Only the interface is used, over ``world`` of one kind per implementation."""

import itertools
from collections.abc import Callable

import pytest

from ralph.errors import ChainRejected, ChainUnavailable
from tests.chain.support import ALICE, BOB, CAROL, COLD_ONE, COLD_TWO, OWNER, LocalWorld, run


@pytest.fixture(params=["local"])
def world(request: pytest.FixtureRequest, make_world: Callable[..., LocalWorld]) -> LocalWorld:
    return make_world()


def test_a_block_is_final_some_blocks_later_and_keeps_its_hash(world: LocalWorld) -> None:
    async def story() -> None:
        await world.advance(5)
        async with world.connect() as chain:
            head = await chain.head()
            assert await chain.block_hash(head.number) == head.hash
            assert len(head.hash) == 32
            assert head.finalised < head.number
            final = await chain.block_hash(head.finalised)
            await world.advance(5)
            assert await chain.block_hash(head.finalised) == final

    run(story())


def test_block_hashes_are_all_different_and_time_moves_on(world: LocalWorld) -> None:
    async def story() -> None:
        async with world.connect() as chain:
            heads = []
            for _ in range(5):
                await world.advance()
                heads.append(await chain.head())
            assert len({head.hash for head in heads}) == 5
            assert all(later.timestamp > earlier.timestamp for earlier, later in itertools.pairwise(heads))

    run(story())


def test_a_block_that_does_not_exist_yet_is_unknown_and_never_empty(world: LocalWorld) -> None:
    async def story() -> None:
        async with world.connect() as chain:
            beyond = (await chain.head()).number + 1
            for read in (chain.block_hash, chain.snapshot, chain.commitments, chain.weights, chain.drand_after):
                with pytest.raises(ChainUnavailable):
                    await read(beyond)
                with pytest.raises(ChainUnavailable):
                    await read(-1)

    run(story())


def test_the_beacon_of_a_block_appears_after_the_block(world: LocalWorld) -> None:
    async def story() -> None:
        head = await world.advance(3)
        async with world.connect() as chain:
            assert await chain.drand_after(head) is None
            await world.advance()
            first = await chain.drand_after(head)
            assert first is not None
            await world.advance(3)
            assert await chain.drand_after(head) == first
            second = await chain.drand_after(head + 1)
            assert second is not None
            assert second.number > first.number
            assert second.signature != first.signature

    run(story())


def test_a_snapshot_shows_who_is_registered_at_that_block(world: LocalWorld) -> None:
    async def story() -> None:
        before = await world.advance()
        since = await world.register(ALICE, coldkey=COLD_TWO, stake=70)
        await world.advance()
        async with world.connect() as chain:
            assert ALICE.key_id not in (await chain.snapshot(before)).by_hotkey()
            now = await chain.snapshot(since)
            neuron = now.by_hotkey()[ALICE.key_id]
            assert (now.block, neuron.coldkey, neuron.stake, neuron.registered_at) == (since, COLD_TWO, 70, since)
            assert len({neuron.uid for neuron in now.neurons}) == len(now.neurons)

    run(story())


def test_a_slot_is_overwritten_and_its_history_stays_readable(world: LocalWorld) -> None:
    async def story() -> None:
        await world.register(ALICE)
        await world.advance()
        async with world.connect(ALICE) as chain:
            head = (await chain.head()).number
            first = await chain.commit(b"first")
            assert first > head
            await world.advance()
            second = await chain.commit(b"second")
            await world.advance()
            assert ALICE.key_id not in await chain.commitments(first - 1)
            assert (await chain.commitments(first))[ALICE.key_id] == b"first"
            assert (await chain.commitments(second - 1))[ALICE.key_id] == b"first"
            assert (await chain.commitments(second))[ALICE.key_id] == b"second"

    run(story())


def test_every_hotkey_has_its_own_slot(world: LocalWorld) -> None:
    async def story() -> None:
        for signer in (ALICE, BOB):
            await world.register(signer)
        await world.advance()
        async with world.connect(ALICE) as alice, world.connect(BOB) as bob:
            await alice.commit(b"a")
            block = await bob.commit(b"b")
            await world.advance()
            assert await alice.commitments(block) == {ALICE.key_id: b"a", BOB.key_id: b"b"}

    run(story())


def test_a_hotkey_that_is_not_registered_can_neither_commit_nor_set_weights(world: LocalWorld) -> None:
    async def story() -> None:
        async with world.connect(CAROL) as chain:
            with pytest.raises(ChainRejected) as refusal:
                await chain.commit(b"x")
            assert refusal.value.code == "AccountNotAllowedCommit"
            with pytest.raises(ChainRejected) as refusal:
                await chain.set_weights({OWNER.key_id: 1}, version_key=0)
            assert refusal.value.code == "HotKeyNotRegisteredInSubNet"

    run(story())


def test_a_payload_of_128_bytes_fits_and_129_do_not(world: LocalWorld) -> None:
    async def story() -> None:
        await world.register(ALICE)
        await world.advance()
        async with world.connect(ALICE) as chain:
            block = await chain.commit(bytes(128))
            with pytest.raises(ChainRejected) as refusal:
                await chain.commit(bytes(129))
            assert refusal.value.code == "TooManyBytes"
            await world.advance()
            assert (await chain.commitments(block))[ALICE.key_id] == bytes(128)

    run(story())


def test_weights_of_a_validator_are_readable_from_the_block_they_landed_in(world: LocalWorld) -> None:
    async def story() -> None:
        await world.register(ALICE, stake=1_000)
        for signer in (BOB, CAROL):
            await world.register(signer)
        await world.advance(world.parameters.weights_rate_limit)
        async with world.connect(ALICE) as chain:
            landed = await chain.set_weights({BOB.key_id: 300, CAROL.key_id: 100}, version_key=0)
            await world.advance()
            assert ALICE.key_id not in await chain.weights(landed - 1)
            weights = (await chain.weights(landed))[ALICE.key_id]
            assert weights[BOB.key_id] == 3 * weights[CAROL.key_id]
            assert (await chain.snapshot(landed)).by_hotkey()[ALICE.key_id].last_update == landed

    run(story())


def test_weights_cannot_be_set_again_too_soon_and_the_refusal_says_how_long_to_wait(world: LocalWorld) -> None:
    async def story() -> None:
        await world.register(ALICE, stake=1_000)
        await world.advance(world.parameters.weights_rate_limit)
        async with world.connect(ALICE) as chain:
            await chain.set_weights({OWNER.key_id: 1}, version_key=0)
            await world.advance()
            with pytest.raises(ChainRejected) as refusal:
                await chain.set_weights({OWNER.key_id: 1}, version_key=0)
            assert refusal.value.code == "SettingWeightsTooFast"
            wait = refusal.value.retry_after_blocks
            assert wait is not None
            await world.advance(wait - 1)
            with pytest.raises(ChainRejected):
                await chain.set_weights({OWNER.key_id: 1}, version_key=0)
            await world.advance()
            await chain.set_weights({OWNER.key_id: 1}, version_key=0)

    run(story())


def test_a_hotkey_without_a_permit_cannot_set_weights(world: LocalWorld) -> None:
    async def story() -> None:
        await world.register(BOB, coldkey=COLD_ONE)
        await world.advance(world.parameters.weights_rate_limit)
        async with world.connect(BOB) as chain:
            with pytest.raises(ChainRejected) as refusal:
                await chain.set_weights({OWNER.key_id: 1}, version_key=0)
            assert refusal.value.code == "NeuronNoValidatorPermit"

    run(story())


def test_the_owner_hotkey_is_registered_from_the_start(world: LocalWorld) -> None:
    async def story() -> None:
        head = await world.advance()
        async with world.connect() as chain:
            assert await chain.owner_hotkey() == OWNER.key_id
            assert OWNER.key_id in (await chain.snapshot(head)).by_hotkey()

    run(story())


def test_allow_has_no_effect_on_a_connection_that_did_not_join(world: LocalWorld) -> None:
    async def story() -> None:
        async with world.connect() as chain:
            before = await chain.head()
            await chain.allow(1_000)
            assert await chain.head() == before

    run(story())


def test_close_can_be_called_twice(world: LocalWorld) -> None:
    async def story() -> None:
        async with world.connect() as chain:
            await chain.close()

    run(story())
