"""What only the author of a development chain can make: block hashes and beacon rounds.

Both are functions of a secret seed and a number, so a chain made again from its seed has the same
hashes and the same beacon, whatever people write into it. The seed stays in the author's memory; the
chain's file holds the public key with which anybody can verify the beacon.

What this does **not** promise: that whoever knows the seed cannot foresee it. It is for development.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ralph.errors import ConfigurationError
from ralph.interfaces import DrandRound
from ralph.protocol.canonical import digest
from ralph.protocol.keys import verify_record_key

BLOCK_TAG = "recipe-net/local-chain/block/v1"
BEACON_KEY_TAG = "recipe-net/local-chain/beacon-key/v1"
BEACON_ROUND_TAG = "recipe-net/local-chain/beacon-round/v1"
SEED_BYTES = 32


class Author:
    """Makes block hashes and beacon rounds from a 32-byte seed."""

    __slots__ = ("_key", "_seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ConfigurationError(f"the seed of a development chain has {SEED_BYTES} bytes, not {len(seed)}")
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(digest(BEACON_KEY_TAG, {"seed": seed}))

    @property
    def beacon_public_key(self) -> bytes:
        """Return the ed25519 key under which the beacon's rounds verify."""
        return self._key.public_key().public_bytes_raw()

    def block_hash(self, *, number: int, parent: bytes, fork: int) -> bytes:
        """Return a block's hash. ``fork`` counts the reorganisations so far."""
        return digest(BLOCK_TAG, {"seed": self._seed, "number": number, "parent": parent, "fork": fork})

    def beacon_round(self, *, number: int, previous: bytes) -> bytes:
        """Return the signature of a beacon round over its number and the round before it."""
        return self._key.sign(_round_digest(number, previous))


def verify_round(public: bytes, previous: bytes, current: DrandRound) -> bool:
    """Return whether a round follows the one whose signature is ``previous`` (empty before round 0)."""
    return verify_record_key(public, _round_digest(current.number, previous), current.signature)


def _round_digest(number: int, previous: bytes) -> bytes:
    return digest(BEACON_ROUND_TAG, {"round": number, "previous": previous})
