"""Read the state of a development chain at a block.

Every function answers for one block, which may be the one being made (head + 1); whoever asks for
somebody else checks first that the block exists.
"""

import sqlite3

from ralph.chain.schema import ChainParameters
from ralph.interfaces import Metagraph, Neuron
from ralph.protocol.canonical import decode

MAX_VECTOR_BYTES = 1 << 20

_NEURONS = """
SELECT r.uid, r.hotkey, r.coldkey, r.since,
    coalesce((SELECT amount FROM stakes s WHERE s.hotkey = r.hotkey AND s.block <= :block ORDER BY s.block DESC LIMIT 1), 0),
    max(r.since, coalesce((SELECT max(block) FROM weights w WHERE w.hotkey = r.hotkey AND w.block <= :block), 0)),
    coalesce((SELECT sum(amount) FROM emissions e WHERE e.hotkey = r.hotkey AND e.block <= :block), 0)
FROM registrations r WHERE r.since <= :block AND (r.until IS NULL OR r.until > :block) ORDER BY r.uid
"""
_SLOTS = """
SELECT hotkey, payload FROM slots s WHERE block = (SELECT max(block) FROM slots t WHERE t.hotkey = s.hotkey AND t.block <= :block)
"""
_WEIGHTS = """
SELECT w.hotkey, w.block, w.vector FROM weights w WHERE w.block =
    (SELECT max(block) FROM weights v WHERE v.hotkey = w.hotkey AND v.visible <= :block AND v.block <= :block)
"""


def metagraph(db: sqlite3.Connection, parameters: ChainParameters, block: int) -> Metagraph:
    """Return all registered hotkeys; a validator permit goes to the largest stakes."""
    rows = db.execute(_NEURONS, {"block": block}).fetchall()
    staked = sorted((row for row in rows if row[4] >= parameters.permit_stake), key=lambda row: (-row[4], row[0]))
    permitted = {row[1] for row in staked[: parameters.max_validators]}
    neurons = tuple(
        Neuron(
            uid=uid,
            hotkey=hotkey,
            coldkey=coldkey,
            stake=stake,
            validator_permit=hotkey in permitted,
            last_update=last_update,
            registered_at=since,
            incentive=incentive,
        )
        for uid, hotkey, coldkey, since, stake, last_update, incentive in rows
    )
    return Metagraph(block=block, neurons=neurons)


def slots(db: sqlite3.Connection, block: int) -> dict[str, bytes]:
    """Return hotkey -> what it committed last, also of hotkeys that have been evicted since."""
    return {hotkey: bytes(payload) for hotkey, payload in db.execute(_SLOTS, {"block": block})}


def waits(db: sqlite3.Connection, block: int, hotkey: str, payload: bytes) -> bool:
    """Return whether this payload already stands in the hotkey's slot for a block that is not made yet."""
    row = db.execute("SELECT payload FROM slots WHERE hotkey = ? AND block = ?", (hotkey, block)).fetchone()
    return row is not None and bytes(row[0]) == payload


def weights(db: sqlite3.Connection, block: int) -> dict[str, dict[str, int]]:
    """Return validator -> hotkey -> weight, as far as revealed.

    A vector speaks about uids as they were when it was set: what it says about hotkeys that came
    later, or came back, is void, and so is the whole vector once its author was evicted.
    """
    since = {hotkey: int(number) for hotkey, number in db.execute(_SINCE, {"block": block})}
    result: dict[str, dict[str, int]] = {}
    for validator, set_at, vector in db.execute(_WEIGHTS, {"block": block}):
        if validator in since and since[validator] <= set_at:
            row: dict[str, int] = decode(bytes(vector), limit=MAX_VECTOR_BYTES)
            result[validator] = {hotkey: weight for hotkey, weight in row.items() if hotkey in since and since[hotkey] <= set_at}
    return result


_SINCE = "SELECT hotkey, since FROM registrations WHERE since <= :block AND (until IS NULL OR until > :block)"


def charged_in_epoch(db: sqlite3.Connection, parameters: ChainParameters, hotkey: str, block: int) -> int:
    """Return how many bytes of its slot budget a hotkey has used in the epoch of ``block``."""
    start = block - block % parameters.tempo
    (used,) = db.execute("SELECT coalesce(sum(charged), 0) FROM slots WHERE hotkey = ? AND block >= ?", (hotkey, start)).fetchone()
    return int(used)
