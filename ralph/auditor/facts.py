"""What the chain says about one validator and its rounds, read once at finalised blocks.

Nothing here believes the validator: slots, hashes, beacons, registrations and weights are the chain's own.
The chain must answer for old blocks (on a real network: an archive node).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ralph.interfaces import Chain, DrandRound, Metagraph
from ralph.protocol.rounds import Window


class Witness(Chain, Protocol):
    """A chain whose beacon can be verified."""

    async def beacon_round(self, number: int) -> DrandRound | None: ...
    async def beacon_public_key(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotChange:
    """A value that appeared in the validator's slot."""

    block: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSetting:
    """Weights as they could be seen when they took effect."""

    block: int
    vector: dict[str, int]
    registered: tuple[frozenset[str], ...]
    """Hotkeys registered at the blocks at which the author may have looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeaconFacts:
    """What a beacon must be made of."""

    block: int
    block_hash: bytes
    drand: DrandRound | None
    previous_signature: bytes | None
    """Signature of the drand round before; None when the chain does not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFacts:
    """What the chain says about one round."""

    window: Window
    announced: dict[str, bytes] = field(repr=False)
    """hotkey -> slot in the state of block A; empty in round 0, which has no announcements."""
    metagraph: Metagraph = field(repr=False)
    """At block A."""
    submitted: dict[str, bytes] = field(repr=False)
    """hotkey -> slot in the state of block S."""
    beacons: dict[str, BeaconFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorFacts:
    """What the chain says about the validator."""

    genesis: bytes
    head: int
    """Newest finalised block: nothing later was looked at."""
    hotkey: str
    owner: str
    slots: tuple[SlotChange, ...]
    settings: tuple[WeightSetting, ...]
    beacon_public_key: bytes
    permitted: dict[int, bool]
    """Block of a slot change -> whether the hotkey had a validator permit."""


async def read_validator(chain: Witness, hotkey: str, *, reveal_delay: int = 0) -> ValidatorFacts:
    """Read the history of a validator's slot and weights.

    Args:
        chain: Read only.
        hotkey: The validator.
        reveal_delay: Blocks until weights that were set can be seen on this chain.

    Raises:
        ChainUnavailable: The chain does not answer, or not for these blocks.
    """
    head = (await chain.head()).finalised
    changes: list[SlotChange] = []
    permitted: dict[int, bool] = {}
    for block in range(head + 1):
        payload = (await chain.commitments(block)).get(hotkey)
        if payload is not None and (not changes or changes[-1].payload != payload):
            changes.append(SlotChange(block=block, payload=payload))
            neuron = (await chain.snapshot(block)).by_hotkey().get(hotkey)
            permitted[block] = neuron is not None and neuron.validator_permit
    return ValidatorFacts(
        genesis=await chain.block_hash(0),
        head=head,
        hotkey=hotkey,
        owner=await chain.owner_hotkey(),
        slots=tuple(changes),
        settings=await _settings(chain, hotkey, head, reveal_delay),
        beacon_public_key=await chain.beacon_public_key(),
        permitted=permitted,
    )


async def read_round(chain: Witness, window: Window) -> RoundFacts:
    """Read what the chain says about a round whose blocks are all final."""
    return RoundFacts(
        window=window,
        announced=await chain.commitments(window.announce_end) if window.index > 0 else {},
        metagraph=await chain.snapshot(window.announce_end),
        submitted=await chain.commitments(window.submit_end),
        beacons={"B1": await _beacon(chain, window.beacon_one), "B2": await _beacon(chain, window.beacon_two)},
    )


async def _beacon(chain: Witness, block: int) -> BeaconFacts:
    drand = await chain.drand_after(block)
    before = await chain.beacon_round(drand.number - 1) if drand is not None and drand.number > 0 else None
    previous = b"" if drand is not None and drand.number == 0 else before.signature if before is not None else None
    return BeaconFacts(block=block, block_hash=await chain.block_hash(block), drand=drand, previous_signature=previous)


async def _settings(chain: Witness, hotkey: str, head: int, reveal_delay: int) -> tuple[WeightSetting, ...]:
    """Return every setting of weights that can be seen by ``head``, found by walking back along the last updates."""
    found: list[WeightSetting] = []
    block = head
    while block >= 0:
        neuron = (await chain.snapshot(block)).by_hotkey().get(hotkey)
        if neuron is None:
            break
        at = neuron.last_update
        if at + reveal_delay <= head:
            vector = (await chain.weights(at + reveal_delay)).get(hotkey)
            if vector:
                looked = {max(0, at - age) for age in range(3)}
                found.append(WeightSetting(block=at, vector=vector, registered=await _registered(chain, looked)))
        if at <= neuron.registered_at:
            break
        block = at - 1
    return tuple(reversed(found))


async def _registered(chain: Witness, blocks: Iterable[int]) -> tuple[frozenset[str], ...]:
    sets = [frozenset((await chain.snapshot(block)).by_hotkey()) for block in sorted(blocks)]
    return tuple(dict.fromkeys(sets))
