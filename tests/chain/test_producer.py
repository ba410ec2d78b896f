import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ralph.chain.local import BlockProducer
from ralph.chain.producer import Barrier, Pace, Situation, Timer
from ralph.errors import ConfigurationError
from tests.chain.support import ALICE, SEED, LocalWorld, run, start

PRODUCER = """
import sys, threading
from pathlib import Path
from ralph.chain.local import BlockProducer
with BlockProducer(Path(sys.argv[1]), seed=bytes(range(32))) as producer:
    print("ready", flush=True)
    producer.run(threading.Event())
"""


class FixedMonotonic:
    """Seconds that a test counts."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@contextmanager
def producing(path: Path, *, pace: Pace | None = None) -> Iterator[None]:
    """Run a producer in a thread of its own."""
    stop = threading.Event()

    def author() -> None:
        with BlockProducer(path, seed=SEED, pace=pace) as producer:
            producer.run(stop)

    thread = threading.Thread(target=author)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_the_barrier_makes_blocks_up_to_what_the_slowest_participant_allows(local: LocalWorld) -> None:
    async def story() -> None:
        async with local.connect() as one, local.connect() as two:
            await one.join("one")
            await two.join("two")
            assert not local.producer.step()
            await one.allow(5)
            assert not local.producer.step()
            assert await one.waiting_for() == ("two",)
            await two.allow(3)
            assert [local.producer.step() for _ in range(4)] == [True, True, True, False]
            assert await one.waiting_for() == ("two",)
            await two.allow(2)
            assert not local.producer.step()
            await two.leave()
            assert [local.producer.step() for _ in range(3)] == [True, True, False]
            assert await one.waiting_for() == ("one",)

    run(story())


def test_a_participant_that_joins_again_holds_the_barrier_until_it_allows(local: LocalWorld) -> None:
    async def story() -> None:
        async with local.connect() as before:
            await before.join("miner")
            await before.allow(100)
            local.producer.produce(3)
        async with local.connect() as after:
            assert await after.waiting_for() == ()
            await after.join("miner")
            assert await after.waiting_for() == ("miner",)
            assert not local.producer.step()

    run(story())


def test_a_dead_participant_slows_the_chain_and_does_not_stop_it(local: LocalWorld) -> None:
    local.close()
    monotonic = FixedMonotonic()

    async def story() -> None:
        async with local.connect() as chain:
            await chain.join("dead")
        with BlockProducer(local.path, seed=SEED, pace=Barrier(timeout_s=120), monotonic=monotonic) as producer:
            monotonic.time = 119.9
            assert not producer.step()
            monotonic.time = 120.0
            assert producer.step()
            assert not producer.step()
            monotonic.time = 240.0
            assert producer.step()

    run(story())


def test_a_chain_without_participants_waits() -> None:
    assert not Barrier().due(Situation(head=0, allowed=None, silence_s=1))
    assert Barrier().due(Situation(head=0, allowed=None, silence_s=120))


def test_the_timer_makes_one_block_per_interval_whatever_is_allowed(local: LocalWorld) -> None:
    local.close()
    monotonic = FixedMonotonic()
    with BlockProducer(local.path, seed=SEED, pace=Timer(interval_s=12), monotonic=monotonic) as producer:
        made = 0
        for second in range(121):
            monotonic.time = float(second)
            made += producer.step()
        assert made == 10


def test_many_participants_walk_through_blocks_together(local: LocalWorld) -> None:
    local.close()
    seen: dict[str, list[int]] = {}

    async def participant(name: str, ready: asyncio.Barrier) -> None:
        async with local.connect() as chain:
            await chain.join(name)
            await ready.wait()
            for target in (3, 4, 50, 51):
                await chain.allow(target)
                head = await chain.wait_for(target)
                seen.setdefault(name, []).append(head.number)

    async def story() -> None:
        ready = asyncio.Barrier(4)
        with producing(local.path):
            await asyncio.gather(*(participant(f"p{number}", ready) for number in range(4)))

    run(story())
    assert seen == {f"p{number}": [3, 4, 50, 51] for number in range(4)}


def test_only_one_producer_runs_at_a_time(local: LocalWorld) -> None:
    with pytest.raises(ConfigurationError, match="another block producer"):
        BlockProducer(local.path, seed=SEED)
    local.close()
    BlockProducer(local.path, seed=SEED).close()


def test_a_producer_killed_in_the_middle_is_resumed_with_the_same_chain(make_world) -> None:
    killed, undisturbed = make_world(), make_world()
    killed.close()

    async def story() -> None:
        async with killed.connect() as chain:
            await chain.join("test")
            await chain.allow(10**9)
            process = start(PRODUCER, killed.path)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            await chain.wait_for(20)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            reached = (await chain.head()).number
            with BlockProducer(killed.path, seed=SEED) as producer:
                assert producer.produce(5).number == reached + 5
            undisturbed.producer.produce(reached + 5)
            async with undisturbed.connect() as other:
                for block in (1, reached, reached + 5):
                    assert await chain.block_hash(block) == await other.block_hash(block)

    run(story())


def test_timestamps_never_go_back_when_the_clock_does(local: LocalWorld) -> None:
    first = local.producer.produce()
    local.clock.time -= 3_600
    second = local.producer.produce()
    local.clock.time += 7_200
    third = local.producer.produce()
    assert first.timestamp < second.timestamp < third.timestamp
    assert third.timestamp == local.clock.time


def test_what_waits_for_the_next_block_survives_the_producer(local: LocalWorld) -> None:
    async def story() -> None:
        await local.register(ALICE)
        async with local.connect(ALICE) as chain:
            block = await chain.commit(b"x")
            local.close()
            with BlockProducer(local.path, seed=SEED) as producer:
                producer.produce()
            assert await chain.commitments(block) == {ALICE.key_id: b"x"}

    run(story())
