"""The Merkle tree of RFC 6962 section 2.1 (RFC 9162 section 2.1): root and the two kinds of proof.

The two ``verify`` functions are pure and take foreign data: they answer False to anything malformed. Whoever makes
proofs keeps the nodes, see ``ralph.records.log``.
"""

import hashlib
from collections.abc import Sequence

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1
"""What SQLite's integers hold."""

EMPTY_ROOT = hashlib.sha256(b"").digest()


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """Return the root over ``leaves`` in their order."""
    if len(leaves) <= 1:
        return leaf_hash(leaves[0]) if leaves else EMPTY_ROOT
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(tree_hash(leaves[:split]), tree_hash(leaves[split:]))


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def verify_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether ``proof`` shows that ``leaf`` is at ``index`` of the log of ``size`` with ``root`` (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size <= MAX_SIZE or not _hashes(proof):
        return False
    position, last, computed = index, size - 1, leaf_hash(leaf)
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            position, last = _up_to_right_child(position, last)
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and computed == root


def verify_consistency(*, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether ``proof`` shows that the old log is a prefix of the new one (RFC 9162 section 2.1.4.2)."""
    if not 0 <= old_size <= new_size <= MAX_SIZE or not _hashes((*proof, old_root, new_root)):
        return False
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT and (new_size > 0 or new_root == EMPTY_ROOT)
    if old_size == new_size:
        return not proof and old_root == new_root
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        return False
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_computed = new_computed = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old_computed, new_computed = node_hash(sibling, old_computed), node_hash(sibling, new_computed)
            position, last = _up_to_right_child(position, last)
        else:
            new_computed = node_hash(new_computed, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and old_computed == old_root and new_computed == new_root


def _up_to_right_child(position: int, last: int) -> tuple[int, int]:
    """Skip the levels at which the node at the ragged edge has no sibling."""
    while position and not position & 1:
        position, last = position >> 1, last >> 1
    return position, last


def _hashes(values: Sequence[bytes]) -> bool:
    return all(isinstance(value, bytes) and len(value) == HASH_BYTES for value in values)
