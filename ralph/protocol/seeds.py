"""Seeds and nonces from public randomness that did not exist when a patch was committed.

Nobody can shop for seeds: a seed depends on the beacon, the track, the round, its purpose, the rung
and an index, and on nothing that a contender chooses, so all contenders and the king share it.
"""

from typing import Any

from ralph.protocol.canonical import digest

BEACON_TAG = "recipe-net/beacon/v1"
NONCE_TAG = "recipe-net/nonce/v1"
SEED_TAG = "recipe-net/seed/v1"
DRAW_TAG = "recipe-net/draw/v1"


def beacon(*, block_hash: bytes, drand_signature: bytes) -> bytes:
    """Combine a block hash with a later drand signature: a block author alone cannot grind it."""
    return digest(BEACON_TAG, {"block_hash": block_hash, "drand": drand_signature})


def nonce(*, beacon_one: bytes, announcement: bytes, hotkey: str) -> bytes:
    """Return the value that binds a run to its announcement."""
    return digest(NONCE_TAG, {"beacon": beacon_one, "announcement": announcement, "hotkey": hotkey})


def seed(*, beacon: bytes, track: str, round_index: int, purpose: str, rung: str, index: int) -> int:
    """Return one training seed in [0, 2**64)."""
    preimage: dict[str, Any] = {"beacon": beacon, "track": track, "round": round_index, "purpose": purpose, "rung": rung, "i": index}
    return int.from_bytes(digest(SEED_TAG, preimage)[:8], "little")


def draw(*, beacon: bytes, purpose: str, subject: bytes) -> bytes:
    """Return 32 public random bytes for ``purpose`` about ``subject`` (queue order, audits)."""
    return digest(DRAW_TAG, {"beacon": beacon, "purpose": purpose, "subject": subject})
