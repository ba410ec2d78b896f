"""Change the state of a development chain: every rule by which it says no is here.

All functions write for ``block``, the one being made, inside a write transaction of the caller. What a
hotkey asks for is signed over the parent block, so that a signature is good for one block only.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any

from ralph.chain import state
from ralph.chain.consensus import MAX_WEIGHT, shares, upscale
from ralph.chain.refusals import Refusal
from ralph.chain.schema import STATE_TABLES, ChainParameters, read_meta
from ralph.errors import ChainRejected
from ralph.interfaces import Neuron
from ralph.protocol.canonical import digest, encode
from ralph.protocol.keys import verify_hotkey

EXTRINSIC_TAG = "recipe-net/local-chain/extrinsic/v1"
MAX_AMOUNT = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrinsic:
    """A call that a hotkey signs."""

    hotkey: str
    call: str
    body: Any
    """A value of the closed set of types of ``ralph.protocol.canonical``."""
    parent: bytes
    """Hash of the newest block; the call lands in the block after it or nowhere."""

    def digest(self) -> bytes:
        """Return what is signed."""
        return digest(EXTRINSIC_TAG, {"hotkey": self.hotkey, "call": self.call, "body": self.body, "parent": self.parent})


def authorise(db: sqlite3.Connection, extrinsic: Extrinsic, signature: bytes, block: int) -> None:
    """Verify that the hotkey signed this call for this block, and keep the proof."""
    (parent,) = db.execute("SELECT hash FROM blocks WHERE number = ?", (block - 1,)).fetchone()
    if extrinsic.parent != bytes(parent):
        raise ChainRejected(Refusal.STALE, f"{extrinsic.call} was signed for another block than {block}", retry_after_blocks=0)
    if not verify_hotkey(extrinsic.hotkey, extrinsic.digest(), signature):
        raise ChainRejected(Refusal.BAD_SIGNATURE, f"{extrinsic.call} is not signed by {extrinsic.hotkey}")
    db.execute(
        "INSERT INTO extrinsics(block, hotkey, call, body, parent, signature) VALUES (?, ?, ?, ?, ?, ?)",
        (block, extrinsic.hotkey, extrinsic.call, encode(extrinsic.body), extrinsic.parent, signature),
    )


def register(db: sqlite3.Connection, parameters: ChainParameters, block: int, *, hotkey: str, coldkey: str) -> int:
    """Give a hotkey a uid, evicting the neuron that earned least when all are taken; return the uid."""
    neurons = state.metagraph(db, parameters, block).neurons
    if any(neuron.hotkey == hotkey for neuron in neurons):
        raise ChainRejected(Refusal.ALREADY_REGISTERED, f"{hotkey} is registered already")
    uid = len(neurons)
    if uid >= parameters.max_uids:
        victim = _victim(db, parameters, block, neurons)
        uid = victim.uid
        db.execute("UPDATE registrations SET until = ? WHERE hotkey = ? AND until IS NULL", (block, victim.hotkey))
    db.execute("INSERT INTO registrations(uid, hotkey, coldkey, since) VALUES (?, ?, ?, ?)", (uid, hotkey, coldkey, block))
    return uid


def set_stake(db: sqlite3.Connection, block: int, *, hotkey: str, amount: int) -> None:
    """Set the stake of a hotkey: a development chain has a free faucet."""
    if not 0 <= amount <= MAX_AMOUNT:
        raise ValueError(f"stake {amount} is outside [0, 2**63)")
    db.execute("INSERT OR REPLACE INTO stakes VALUES (?, ?, ?)", (hotkey, block, amount))


def commit(db: sqlite3.Connection, parameters: ChainParameters, block: int, *, hotkey: str, payload: bytes) -> None:
    """Overwrite a hotkey's slot within its limits."""
    _neuron(db, parameters, block, hotkey, Refusal.COMMITTER_NOT_REGISTERED)
    if len(payload) > parameters.slot_bytes:
        raise ChainRejected(Refusal.TOO_MANY_BYTES, f"a slot takes {parameters.slot_bytes} bytes, not {len(payload)}")
    charge = max(parameters.slot_charge_floor, len(payload))
    used = state.charged_in_epoch(db, parameters, hotkey, block)
    if used + charge > parameters.slot_budget_bytes:
        raise ChainRejected(
            Refusal.SPACE_LIMIT,
            f"{charge} bytes more than the {used} used in this epoch pass its budget of {parameters.slot_budget_bytes}",
            retry_after_blocks=parameters.tempo - block % parameters.tempo,
        )
    db.execute(
        "INSERT INTO slots VALUES (?, ?, ?, ?) ON CONFLICT(hotkey, block)"
        " DO UPDATE SET payload = excluded.payload, charged = charged + excluded.charged",
        (hotkey, block, payload, charge),
    )


def set_weights(
    db: sqlite3.Connection, parameters: ChainParameters, block: int, *, hotkey: str, weights: dict[str, int], version_key: int
) -> None:
    """Set a validator's weights within its limits; they are stored with the largest at 65535."""
    neuron = _neuron(db, parameters, block, hotkey, Refusal.NOT_REGISTERED)
    if not neuron.validator_permit:
        raise ChainRejected(Refusal.NO_PERMIT, f"{hotkey} has stake {neuron.stake} and no validator permit")
    if version_key < parameters.weights_version_key:
        raise ChainRejected(Refusal.WEIGHTS_VERSION, f"version key {version_key}, the chain wants {parameters.weights_version_key}")
    wait = neuron.last_update + parameters.weights_rate_limit - block
    if wait > 0:
        raise ChainRejected(
            Refusal.WEIGHTS_TOO_FAST,
            f"last update in block {neuron.last_update}, one in {parameters.weights_rate_limit} blocks is allowed",
            retry_after_blocks=wait,
        )
    known = state.metagraph(db, parameters, block).by_hotkey()
    for target, weight in weights.items():
        if target not in known:
            raise ChainRejected(Refusal.WEIGHTS_UNKNOWN_UID, f"{target} is not registered")
        if not 0 <= weight <= MAX_WEIGHT:
            raise ChainRejected(Refusal.WEIGHTS_RANGE, f"weight {weight} of {target} is outside [0, {MAX_WEIGHT}]")
    stored = upscale(weights)
    if not stored:
        raise ChainRejected(Refusal.WEIGHTS_LENGTH, "no weight above zero")
    _check_unrevealed(db, parameters, block, hotkey)
    db.execute("INSERT OR REPLACE INTO weights VALUES (?, ?, ?, ?)", (hotkey, block, block + parameters.reveal_delay, encode(stored)))


def end_epoch(db: sqlite3.Connection, parameters: ChainParameters, block: int) -> None:
    """Pay the epoch's incentive. What falls to the subnet owner's hotkey is withheld, as on the real chain."""
    if block == 0 or block % parameters.tempo:
        return
    stakes = {neuron.hotkey: neuron.stake for neuron in state.metagraph(db, parameters, block).neurons if neuron.validator_permit}
    amount = parameters.emission_per_block * parameters.tempo * parameters.miner_percent // 100
    owner = owner_hotkey(db)
    for hotkey, earned in shares(stakes, state.weights(db, block), amount=amount).items():
        if hotkey != owner and earned > 0:
            db.execute("INSERT INTO emissions VALUES (?, ?, ?)", (hotkey, block, earned))


def revert(db: sqlite3.Connection, block: int) -> None:
    """Forget every change after ``block``, what waits for the next block included. The beacon goes on."""
    db.execute("DELETE FROM blocks WHERE number > ?", (block,))
    db.execute("DELETE FROM registrations WHERE since > ?", (block,))
    db.execute("UPDATE registrations SET until = NULL WHERE until > ?", (block,))
    for table in STATE_TABLES:
        db.execute(f"DELETE FROM {table} WHERE block > ?", (block,))  # noqa: S608 - our own table names


def owner_hotkey(db: sqlite3.Connection) -> str:
    """Return the subnet owner's hotkey."""
    return read_meta(db, "owner_hotkey").decode("ascii")


def _neuron(db: sqlite3.Connection, parameters: ChainParameters, block: int, hotkey: str, refusal: Refusal) -> Neuron:
    neuron = state.metagraph(db, parameters, block).by_hotkey().get(hotkey)
    if neuron is None:
        raise ChainRejected(refusal, f"{hotkey} is not registered on subnet {parameters.netuid}")
    return neuron


def _victim(db: sqlite3.Connection, parameters: ChainParameters, block: int, neurons: tuple[Neuron, ...]) -> Neuron:
    """Return who loses his uid: the least earned since registration, then the oldest; never the owner, never the young."""
    owner = owner_hotkey(db)
    old = [neuron for neuron in neurons if neuron.hotkey != owner and neuron.registered_at + parameters.immunity_blocks <= block]
    if not old:
        raise ChainRejected(Refusal.NO_UID, f"all {parameters.max_uids} uids are taken by immune neurons", retry_after_blocks=1)

    def earned(neuron: Neuron) -> int:
        query = "SELECT coalesce(sum(amount), 0) FROM emissions WHERE hotkey = ? AND block >= ?"
        return int(db.execute(query, (neuron.hotkey, neuron.registered_at)).fetchone()[0])

    return min(old, key=lambda neuron: (earned(neuron), neuron.registered_at, neuron.uid))


def _check_unrevealed(db: sqlite3.Connection, parameters: ChainParameters, block: int, hotkey: str) -> None:
    (waiting,) = db.execute("SELECT count(*) FROM weights WHERE hotkey = ? AND visible > ?", (hotkey, block)).fetchone()
    if waiting >= parameters.max_unrevealed:
        raise ChainRejected(Refusal.TOO_MANY_UNREVEALED, f"{waiting} settings of weights are not revealed yet", retry_after_blocks=1)
