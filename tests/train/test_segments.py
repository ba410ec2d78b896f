import hashlib

from hypothesis import given
from hypothesis import strategies as st

from ralph.protocol.merkle import tree_hash
from ralph.train import segments, wire
from ralph.train.safetensors_header import TensorLimits
from ralph.train.segments import MemoryStates

LIMITS = TensorLimits(numbers=1000, size_bytes=8000)
# The tree of the certificate transparency test data: https://github.com/google/certificate-transparency, MerkleTreeTest
LEAVES = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"\x40\x41\x42\x43", bytes(range(0x50, 0x58)), bytes(range(0x60, 0x70))]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_tree_is_that_of_rfc_6962() -> None:
    assert [tree_hash(LEAVES[: count + 1]).hex() for count in range(8)] == ROOTS
    assert tree_hash([]) == hashlib.sha256(b"").digest()


def test_a_root_binds_the_steps_to_the_states() -> None:
    digests = [bytes([number]) * 32 for number in range(3)]
    root = segments.root((0, 2, 4), digests)
    assert root != segments.root((0, 2, 5), digests)
    assert root != segments.root((0, 2, 4), [digests[0], digests[2], digests[1]])
    assert root != segments.root((0, 2), digests[:2])


@given(st.lists(st.tuples(st.text("abc.", min_size=1, max_size=5), st.binary(max_size=40)), max_size=6, unique_by=lambda row: row[0]))
def test_a_kept_state_gives_back_its_tensors(rows: list[tuple[str, bytes]]) -> None:
    tensors = [wire.Tensor(name, "u8", (len(data),), data) for name, data in rows]
    states = MemoryStates()
    digest = segments.commit(3, tensors, states)
    (boundary,) = states.boundaries
    assert (boundary.step, boundary.digest) == (3, digest)
    assert digest == hashlib.sha256(boundary.data).digest() == segments.commit(3, list(reversed(tensors)))
    assert {tensor.name: bytes(tensor.data) for tensor in boundary.tensors(LIMITS)} == dict(rows)
