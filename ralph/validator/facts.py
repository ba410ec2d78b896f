"""What the chain says about a round, read once at finalised blocks and archived as events at once."""

from dataclasses import dataclass

from ralph.chain.waiting import reach, read_beacon
from ralph.errors import CorruptStateError
from ralph.gates.announced import Entrant, entrants
from ralph.interfaces import Chain, Metagraph, Neuron
from ralph.protocol.canonical import decode, encode
from ralph.protocol.lineage import Throne
from ralph.protocol.record import BeaconRow
from ralph.protocol.rounds import Window
from ralph.protocol.rules import Rules
from ralph.records.events import EventTable

MAX_EVENT_BYTES = 64 * 1024 * 1024
MAX_BEACON_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Chain facts of rounds, from the event table or, the first time, from the chain."""

    chain: Chain
    events: EventTable
    rules: Rules

    async def announced(self, window: Window, throne: Throne) -> tuple[Entrant, ...]:
        """Return who takes part: the slots in the state of block A. Round 0 has no announcements."""
        key = f"{window.index}/announce"
        payload = self.events.get("slots", key)
        if payload is None:
            await reach(self.chain, window.announce_end)
            slots = await self.chain.commitments(window.announce_end) if window.index > 0 else {}
            metagraph = await self.chain.snapshot(window.announce_end)
            rows = {
                neuron.hotkey: [slots[neuron.hotkey], neuron.coldkey, neuron.registered_at]
                for neuron in metagraph.neurons
                if neuron.hotkey in slots
            }
            payload = encode(rows)
            self.events.append("slots", key, payload)
        rows = decode(payload, limit=MAX_EVENT_BYTES)
        neurons = tuple(_neuron(hotkey, row[1], row[2]) for hotkey, row in rows.items())
        metagraph = Metagraph(block=window.announce_end, neurons=neurons)
        return entrants({hotkey: row[0] for hotkey, row in rows.items()}, metagraph, throne, self.rules)

    async def submitted(self, window: Window) -> dict[str, bytes]:
        """Return hotkey -> slot in the state of block S."""
        key = f"{window.index}/submit"
        payload = self.events.get("slots", key)
        if payload is None:
            await reach(self.chain, window.submit_end)
            payload = encode(await self.chain.commitments(window.submit_end))
            self.events.append("slots", key, payload)
        slots: dict[str, bytes] = decode(payload, limit=MAX_EVENT_BYTES)
        return slots

    async def beacon(self, name: str, window: Window) -> BeaconRow:
        """Return B1 or B2 of a round."""
        key = f"{window.index}/{name}"
        payload = self.events.get("beacon", key)
        if payload is None:
            row = await read_beacon(self.chain, name, window.beacon_one if name == "B1" else window.beacon_two)
            payload = row.to_bytes()
            self.events.append("beacon", key, payload)
        return BeaconRow.from_bytes(payload, limit=MAX_BEACON_BYTES)

    def past_beacon(self, name: str, index: int) -> bytes:
        """Return the value of a beacon of an earlier round. Raises CorruptStateError when it was never archived."""
        payload = self.events.get("beacon", f"{index}/{name}")
        if payload is None:
            raise CorruptStateError(f"beacon {name} of round {index} is not in the event table")
        return BeaconRow.from_bytes(payload, limit=MAX_BEACON_BYTES).beacon


def _neuron(hotkey: str, coldkey: str, registered_at: int) -> Neuron:
    return Neuron(
        uid=0, hotkey=hotkey, coldkey=coldkey, stake=0, validator_permit=False, last_update=0, registered_at=registered_at, incentive=0
    )
