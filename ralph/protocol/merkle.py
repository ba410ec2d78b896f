"""The Merkle tree hash of RFC 6962 section 2.1 (RFC 9162 section 2.1.1), as a pure function of the leaves."""

import hashlib
from collections.abc import Sequence


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """Return the root over ``leaves`` in their order."""
    if len(leaves) <= 1:
        return hashlib.sha256(b"\x00" + leaves[0] if leaves else b"").digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()
