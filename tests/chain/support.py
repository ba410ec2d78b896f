"""A small world for chain tests: keys that repeat, a chain, its producer, connections that get closed."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ralph.chain.local import BlockProducer, ChainParameters, LocalChain, create
from ralph.chain.wallet import Hotkey

SEED = bytes(range(32))
OWNER, ALICE, BOB, CAROL, DAVE = (Hotkey.from_seed(bytes([number]) * 32) for number in range(1, 6))
COLD_OWNER, COLD_ONE, COLD_TWO = (Hotkey.from_seed(bytes([number]) * 32).key_id for number in range(11, 14))


class FixedClock:
    """A clock that a test moves."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time


class LocalWorld:
    """A local chain with its producer. The same small interface would serve any other chain."""

    def __init__(self, directory: Path, **parameters: int) -> None:
        self.path = directory / "chain.db"
        self.clock = FixedClock()
        self.parameters = ChainParameters(**parameters)
        create(self.path, seed=SEED, owner_hotkey=OWNER.key_id, owner_coldkey=COLD_OWNER, parameters=self.parameters, clock=self.clock)
        self.producer = BlockProducer(self.path, seed=SEED, clock=self.clock)

    @asynccontextmanager
    async def connect(self, signer: Hotkey | None = None, *, deadline_s: float = 10.0) -> AsyncIterator[LocalChain]:
        chain = LocalChain.connect(self.path, keypair=signer, deadline_s=deadline_s)
        try:
            yield chain
        finally:
            await chain.close()

    async def register(self, signer: Hotkey, *, coldkey: str = COLD_ONE, stake: int = 0) -> int:
        async with self.connect() as chain:
            return await chain.register(signer.key_id, coldkey, stake=stake)

    async def advance(self, blocks: int = 1) -> int:
        """Make blocks; return the head's number."""
        return self.producer.produce(blocks).number

    def close(self) -> None:
        self.producer.close()


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a story to its end in an event loop of its own."""
    asyncio.run(story)


def start(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start a Python process that can import us; its standard output is a pipe."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
