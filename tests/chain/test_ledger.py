import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ralph.chain import ledger
from ralph.chain.ledger import Extrinsic
from ralph.chain.schema import connect
from ralph.chain.wallet import Hotkey
from ralph.errors import ChainRejected, UntrustedInputError
from tests.chain.support import ALICE, BOB, CAROL, COLD_ONE, DAVE, OWNER, LocalWorld, run

Make = Callable[..., LocalWorld]


async def refused(call: object) -> ChainRejected:
    with pytest.raises(ChainRejected) as refusal:
        await call  # type: ignore[misc]
    return refusal.value


def test_the_slot_budget_of_an_epoch_charges_at_least_100_bytes_and_starts_afresh(make_world: Make) -> None:
    world = make_world(tempo=10, slot_budget_bytes=450)

    async def story() -> None:
        await world.register(ALICE)
        await world.advance(10)
        async with world.connect(ALICE) as chain:
            await chain.commit(b"x")
            await chain.commit(bytes(128))
            await chain.commit(bytes(100))
            refusal = await refused(chain.commit(bytes(123)))
            assert (refusal.code, refusal.retry_after_blocks) == ("SpaceLimitExceeded", 9)
            await chain.commit(bytes(122))
            await world.advance(8)
            assert (await refused(chain.commit(b""))).retry_after_blocks == 1
            await world.advance(1)
            await chain.commit(b"")

    run(story())


def test_budgets_are_counted_for_each_hotkey(make_world: Make) -> None:
    world = make_world(slot_budget_bytes=100)

    async def story() -> None:
        for signer in (ALICE, BOB):
            await world.register(signer)
        async with world.connect(ALICE) as alice, world.connect(BOB) as bob:
            await alice.commit(b"a")
            await refused(alice.commit(b"c"))
            await bob.commit(b"b")

    run(story())


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(sizes=st.lists(st.integers(0, 140), max_size=40))
def test_no_sequence_of_commits_passes_the_budget_or_the_size_of_a_slot(make_world: Make, sizes: list[int]) -> None:
    world = make_world(tempo=1_000)

    async def story() -> None:
        await world.register(ALICE)
        spent, last = 0, None
        async with world.connect(ALICE) as chain:
            for number, size in enumerate(sizes):
                payload = bytes([number]) * size
                charge = max(100, size)
                if size > 128:
                    assert (await refused(chain.commit(payload))).code == "TooManyBytes"
                elif spent + charge > 3_100:
                    assert (await refused(chain.commit(payload))).code == "SpaceLimitExceeded"
                else:
                    block = await chain.commit(payload)
                    spent, last = spent + charge, payload
            await world.advance()
            assert (await chain.commitments(1)).get(ALICE.key_id) == last
            assert last is None or block == 1

    asyncio.run(story())


def test_a_uid_is_used_again_for_the_newcomer_who_evicts_the_least_earning(make_world: Make) -> None:
    world = make_world(max_uids=3, immunity_blocks=5, tempo=5, weights_rate_limit=1)

    async def story() -> None:
        await world.register(ALICE, stake=100)
        await world.register(BOB)
        await world.advance(3)
        async with world.connect(ALICE) as chain:
            refusal = await refused(chain.register(CAROL.key_id, COLD_ONE))
            assert refusal.code == "NoNeuronIdAvailable"
            await chain.set_weights({BOB.key_id: 1}, version_key=0)
            await world.advance(7)
            before = (await chain.snapshot(10)).by_hotkey()
            assert before[BOB.key_id].incentive > 0
            since = await chain.register(CAROL.key_id, COLD_ONE)
            await world.advance()
            after = (await chain.snapshot(since)).by_hotkey()
            assert ALICE.key_id not in after
            assert after[CAROL.key_id].uid == before[ALICE.key_id].uid
            assert after[CAROL.key_id].registered_at == since
            assert (await chain.snapshot(since - 1)).by_hotkey() == before
            assert OWNER.key_id in after

    run(story())


def test_weights_for_a_hotkey_that_came_back_and_weights_of_one_that_left_are_void(make_world: Make) -> None:
    world = make_world(max_uids=3, immunity_blocks=1, weights_rate_limit=1)

    async def story() -> None:
        await world.register(ALICE, stake=100)
        await world.advance()
        await world.register(BOB)
        await world.advance()
        async with world.connect(ALICE) as chain:
            await chain.set_weights({BOB.key_id: 1, OWNER.key_id: 1}, version_key=0)
            await world.advance()
            assert set((await chain.weights(3))[ALICE.key_id]) == {BOB.key_id, OWNER.key_id}
            await world.register(CAROL)
            await world.advance()
            assert await chain.weights(4) == {}
            await world.register(ALICE, stake=100)
            await world.advance()
            assert BOB.key_id not in (await chain.snapshot(5)).by_hotkey()
            assert await chain.weights(5) == {}

    run(story())


def test_a_hotkey_registers_once(local: LocalWorld) -> None:
    async def story() -> None:
        await local.register(ALICE)
        async with local.connect() as chain:
            assert (await refused(chain.register(ALICE.key_id, COLD_ONE))).code == "HotKeyAlreadyRegisteredInSubNet"
            with pytest.raises(UntrustedInputError):
                await chain.register("nobody", COLD_ONE)

    run(story())


def test_permits_go_to_the_largest_stakes(make_world: Make) -> None:
    world = make_world(max_validators=2, permit_stake=10)

    async def story() -> None:
        for signer, stake in ((ALICE, 9), (BOB, 10), (CAROL, 30), (DAVE, 20)):
            await world.register(signer, stake=stake)
        await world.advance()
        async with world.connect() as chain:
            permitted = {neuron.hotkey for neuron in (await chain.snapshot(1)).neurons if neuron.validator_permit}
            assert permitted == {CAROL.key_id, DAVE.key_id}
            await chain.set_stake(ALICE.key_id, 25)
            await world.advance()
            permitted = {neuron.hotkey for neuron in (await chain.snapshot(2)).neurons if neuron.validator_permit}
            assert permitted == {CAROL.key_id, ALICE.key_id}

    run(story())


@pytest.mark.parametrize(
    ("weights", "version_key", "code"),
    [
        ({CAROL.key_id: 1}, 7, "UidVecContainInvalidOne"),
        ({}, 7, "WeightVecLengthIsLow"),
        ({BOB.key_id: 0}, 7, "WeightVecLengthIsLow"),
        ({BOB.key_id: 65536}, 7, "MaxWeightExceeded"),
        ({BOB.key_id: -1}, 7, "MaxWeightExceeded"),
        ({BOB.key_id: 1}, 6, "IncorrectWeightVersionKey"),
    ],
)
def test_a_malformed_vector_of_weights_is_refused(make_world: Make, weights: dict[str, int], version_key: int, code: str) -> None:
    world = make_world(weights_version_key=7, weights_rate_limit=0)

    async def story() -> None:
        await world.register(ALICE, stake=5)
        await world.register(BOB)
        async with world.connect(ALICE) as chain:
            assert (await refused(chain.set_weights(weights, version_key=version_key))).code == code
            await chain.set_weights({BOB.key_id: 1}, version_key=7)

    run(story())


def test_with_a_reveal_delay_weights_count_at_once_and_are_seen_later(make_world: Make) -> None:
    world = make_world(reveal_delay=4, weights_rate_limit=1, max_unrevealed=2)

    async def story() -> None:
        await world.register(ALICE, stake=5)
        await world.advance()
        async with world.connect(ALICE) as chain:
            landed = await chain.set_weights({OWNER.key_id: 1}, version_key=0)
            await world.advance()
            assert (await chain.snapshot(landed)).by_hotkey()[ALICE.key_id].last_update == landed
            await chain.set_weights({OWNER.key_id: 1}, version_key=0)
            await world.advance()
            assert (await refused(chain.set_weights({OWNER.key_id: 1}, version_key=0))).code == "TooManyUnrevealedCommits"
            await world.advance(3)
            assert await chain.weights(landed + 3) == {}
            assert await chain.weights(landed + 4) == {ALICE.key_id: {OWNER.key_id: 65535}}

    run(story())


def test_money_moves_to_whom_the_stake_says_and_the_owners_part_is_withheld(make_world: Make) -> None:
    world = make_world(tempo=5, weights_rate_limit=1, emission_per_block=1_000, miner_percent=40)

    async def story() -> None:
        await world.register(ALICE, stake=5)
        await world.register(BOB)
        await world.advance()
        async with world.connect(ALICE) as chain:
            await chain.set_weights({BOB.key_id: 3, OWNER.key_id: 1}, version_key=0)
            await world.advance(9)
            earned = [{n.hotkey: n.incentive for n in (await chain.snapshot(block)).neurons} for block in (4, 5, 9, 10)]
            assert [row[BOB.key_id] for row in earned] == [0, 1_500, 1_500, 3_000]
            assert all(row[OWNER.key_id] == row[ALICE.key_id] == 0 for row in earned)

    run(story())


def forge(world: LocalWorld, *, signer: Hotkey, hotkey: str, parent: bytes | None = None) -> str:
    """Apply a call signed by ``signer`` in the name of ``hotkey``; return the code of the refusal."""
    db = connect(world.path)
    (newest,) = db.execute("SELECT hash FROM blocks ORDER BY number DESC LIMIT 1").fetchone()
    call = Extrinsic(hotkey=hotkey, call="commit", body={"payload": b"x"}, parent=parent or newest)
    with pytest.raises(ChainRejected) as refusal:
        ledger.authorise(db, call, signer.sign(call.digest()), 1)
    assert db.execute("SELECT count(*) FROM extrinsics").fetchone() == (0,)
    db.close()
    return refusal.value.code


def test_nobody_speaks_for_another_hotkey(local: LocalWorld) -> None:
    assert forge(local, signer=BOB, hotkey=ALICE.key_id) == "BadProof"


def test_a_signature_for_another_block_is_stale(local: LocalWorld) -> None:
    assert forge(local, signer=ALICE, hotkey=ALICE.key_id, parent=bytes(32)) == "AncientBirthBlock"
