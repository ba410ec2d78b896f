import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.chain.author import Author, verify_round
from ralph.chain.producer import BlockProducer, create
from ralph.errors import ConfigurationError
from ralph.interfaces import DrandRound
from tests.chain.support import ALICE, BOB, COLD_OWNER, OWNER, SEED, LocalWorld, run


def test_two_chains_of_one_seed_have_the_same_hashes_and_beacon_whatever_is_written_into_them(make_world) -> None:
    first, second = make_world(), make_world()

    async def facts(world: LocalWorld) -> list[object]:
        await world.advance(6)
        async with world.connect() as chain:
            return [(await chain.block_hash(block), await chain.drand_after(block)) for block in range(6)]

    async def story() -> None:
        await first.register(ALICE)
        await first.advance(1)
        async with first.connect(ALICE) as chain:
            await chain.commit(b"only here")
        await second.register(BOB, stake=3)
        await second.advance(1)
        second.clock.time += 1_000
        assert await facts(first) == await facts(second)

    run(story())


def test_another_seed_makes_other_hashes_and_another_beacon() -> None:
    one, two = Author(SEED), Author(bytes(32))
    assert one.block_hash(number=1, parent=b"", fork=0) != two.block_hash(number=1, parent=b"", fork=0)
    assert one.beacon_public_key != two.beacon_public_key


def test_the_beacon_is_a_chain_that_anybody_can_verify(local: LocalWorld) -> None:
    async def story() -> None:
        await local.advance(8)
        async with local.connect() as chain:
            public, previous = await chain.beacon_public_key(), b""
            for number in range(9):
                current = await chain.beacon_round(number)
                assert current is not None
                assert verify_round(public, previous, current)
                assert not verify_round(public, previous + b"x", current)
                assert not verify_round(public, previous, DrandRound(number=number + 1, signature=current.signature))
                previous = current.signature
            assert await chain.beacon_round(9) is None

    run(story())


@given(st.binary(min_size=64, max_size=64))
@settings(max_examples=50)
def test_nobody_without_the_seed_can_make_a_round(signature: bytes) -> None:
    author = Author(SEED)
    assert not verify_round(author.beacon_public_key, b"", DrandRound(number=0, signature=signature))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_of_another_size_is_refused(size: int, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        create(tmp_path / "c", seed=bytes(size), owner_hotkey=OWNER.key_id, owner_coldkey=COLD_OWNER)
    assert list(tmp_path.iterdir()) == []


def test_a_producer_with_another_seed_is_refused(local: LocalWorld) -> None:
    local.close()
    with pytest.raises(ConfigurationError, match="not the seed"):
        BlockProducer(local.path, seed=bytes(32))
