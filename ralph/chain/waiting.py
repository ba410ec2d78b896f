"""Wait for finalised blocks, and read beacons from them."""

import asyncio

from ralph.interfaces import Chain, Head
from ralph.protocol.record import BeaconRow
from ralph.protocol.seeds import beacon

POLL_S = 0.05


async def reach(chain: Chain, block: int, *, poll_s: float = POLL_S) -> Head:
    """Return the head once ``block`` is final; tells a barrier-driven chain that we need nothing before it."""
    while True:
        head = await chain.head()
        if head.finalised >= block:
            return head
        await chain.allow(block + head.number - head.finalised)
        await asyncio.sleep(poll_s)


async def read_beacon(chain: Chain, name: str, block: int) -> BeaconRow:
    """Return a round's beacon: the hash of a final block with the first drand round after it."""
    await reach(chain, block)
    while (drand := await chain.drand_after(block)) is None:
        await asyncio.sleep(POLL_S)
    block_hash = await chain.block_hash(block)
    return BeaconRow.from_value(
        {
            "name": name,
            "block": block,
            "block_hash": block_hash,
            "drand_round": drand.number,
            "drand_signature": drand.signature,
            "beacon": beacon(block_hash=block_hash, drand_signature=drand.signature),
        }
    )
