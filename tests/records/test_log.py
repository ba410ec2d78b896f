import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.errors import CorruptStateError
from ralph.protocol.merkle import EMPTY_ROOT, MAX_SIZE, leaf_hash, node_hash, verify_consistency, verify_inclusion
from ralph.records.log import MerkleLog

# The reference vectors of Certificate Transparency (RFC 6962): eight leaves, the roots of their prefixes, proofs.
LEAVES = [
    bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
N0_1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
N0_4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
N1_0 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
N1_1 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
N1_2 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
N1_3 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
N2_0 = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
N2_1 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
INCLUSION = [(0, 1, []), (0, 8, [N0_1, N1_1, N2_1]), (5, 8, [N0_4, N1_3, N2_0]), (2, 3, [N1_0]), (1, 5, [ROOTS[1].hex(), N1_1, N0_4])]
CONSISTENCY = [(1, 1, []), (1, 8, [N0_1, N1_1, N2_1]), (6, 8, [N1_2, N1_3, N2_0]), (2, 5, [N1_1, N0_4])]


def log_of(leaves: list[bytes], connection: sqlite3.Connection | None = None) -> MerkleLog:
    log = MerkleLog(connection)
    for index, leaf in enumerate(leaves):
        assert log.append(leaf) == index
    return log


def numbered(count: int) -> list[bytes]:
    return [b"leaf %d" % index for index in range(count)]


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = naive_split(len(leaves))
    return node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = naive_split(len(leaves))
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2, word for word."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = naive_split(len(leaves))
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def naive_split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def test_roots_are_those_of_the_reference_vectors() -> None:
    log = log_of(LEAVES)
    assert [log.root(size) for size in range(9)] == ROOTS
    assert log.root() == ROOTS[8]
    assert EMPTY_ROOT == MerkleLog().root() == ROOTS[0]


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_inclusion_proofs_are_those_of_the_reference_vectors(index: int, size: int, proof: list[str]) -> None:
    made = log_of(LEAVES).inclusion(index, size)
    assert [item.hex() for item in made] == proof
    assert verify_inclusion(leaf=LEAVES[index], index=index, size=size, proof=made, root=ROOTS[size])


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_consistency_proofs_are_those_of_the_reference_vectors(old: int, new: int, proof: list[str]) -> None:
    made = log_of(LEAVES).consistency(old, new)
    assert [item.hex() for item in made] == proof
    assert verify_consistency(old_size=old, old_root=ROOTS[old], new_size=new, new_root=ROOTS[new], proof=made)


def test_every_root_and_proof_up_to_forty_leaves_is_that_of_the_recursive_definition() -> None:
    leaves = numbered(40)
    log = log_of(leaves)
    roots = [naive_root(leaves[:size]) for size in range(41)]
    for size in range(41):
        assert log.root(size) == roots[size]
        for index in range(size):
            proof = log.inclusion(index, size)
            assert list(proof) == naive_path(index, leaves[:size])
            assert verify_inclusion(leaf=leaves[index], index=index, size=size, proof=proof, root=roots[size])
        for old in range(size + 1):
            proof = log.consistency(old, size)
            assert list(proof) == (naive_subproof(old, leaves[:size], True) if old else [])
            assert verify_consistency(old_size=old, old_root=roots[old], new_size=size, new_root=roots[size], proof=proof)


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=150), st.data())
def test_any_log_on_either_storage_agrees_with_the_recursive_definition(leaves: list[bytes], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(leaves)))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    with closing(sqlite3.connect(":memory:")) as connection:
        for log in (log_of(leaves), log_of(leaves, connection)):
            assert log.root(size) == naive_root(leaves[:size])
            assert list(log.inclusion(index, size)) == naive_path(index, leaves[:size])
            assert list(log.consistency(old, size)) == naive_subproof(old, leaves[:size], True)


def changed(data: bytes) -> list[bytes]:
    """Every version of ``data`` with one byte changed, and one shorter, longer and empty."""
    flips = [data[:i] + bytes([data[i] ^ bit]) + data[i + 1 :] for i in range(len(data)) for bit in (1, 128)]
    return [*flips, data[:-1], data + b"\0", b""]


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 8), (5, 8), (6, 7), (2, 3), (12, 13), (4, 13)])
def test_every_change_of_a_byte_breaks_an_inclusion_proof(index: int, size: int) -> None:
    leaves = numbered(size)
    log = log_of(leaves)
    leaf, root, proof = leaves[index], log.root(), list(log.inclusion(index))
    assert not any(verify_inclusion(leaf=other, index=index, size=size, proof=proof, root=root) for other in changed(leaf))
    assert not any(verify_inclusion(leaf=leaf, index=index, size=size, proof=proof, root=other) for other in changed(root))
    for at, item in enumerate(proof):
        for other in changed(item):
            assert not verify_inclusion(leaf=leaf, index=index, size=size, proof=[*proof[:at], other, *proof[at + 1 :]], root=root)
        assert not verify_inclusion(leaf=leaf, index=index, size=size, proof=[*proof[:at], *proof[at + 1 :]], root=root)
    assert not verify_inclusion(leaf=leaf, index=index, size=size, proof=[*proof, root], root=root)
    assert not any(verify_inclusion(leaf=leaf, index=other, size=size, proof=proof, root=root) for other in range(-1, 20) if other != index)


@pytest.mark.parametrize(("old", "new"), [(1, 8), (6, 8), (2, 5), (4, 8), (7, 13), (8, 13), (12, 13)])
def test_every_change_of_a_byte_breaks_a_consistency_proof(old: int, new: int) -> None:
    log = log_of(numbered(new))
    fields = {"old_root": log.root(old), "new_root": log.root(new)}
    proof = list(log.consistency(old, new))
    for name, root in fields.items():
        for other in changed(root):
            assert not verify_consistency(old_size=old, new_size=new, proof=proof, **{**fields, name: other})
    for at, item in enumerate(proof):
        for other in changed(item):
            assert not verify_consistency(old_size=old, new_size=new, proof=[*proof[:at], other, *proof[at + 1 :]], **fields)
        assert not verify_consistency(old_size=old, new_size=new, proof=[*proof[:at], *proof[at + 1 :]], **fields)
    assert not verify_consistency(old_size=old, new_size=new, proof=[*proof, fields["new_root"]], **fields)


def test_a_history_that_was_rewritten_has_no_consistency_proof() -> None:
    leaves = numbered(13)
    before = log_of(leaves[:9])
    for index in range(9):
        rewritten = log_of([*leaves[:index], b"another", *leaves[index + 1 :]])
        assert not verify_consistency(
            old_size=9, old_root=before.root(), new_size=13, new_root=rewritten.root(), proof=rewritten.consistency(9)
        )
    reordered = log_of([leaves[1], leaves[0], *leaves[2:]])
    assert not verify_consistency(
        old_size=9, old_root=before.root(), new_size=13, new_root=reordered.root(), proof=reordered.consistency(9)
    )


def test_a_log_that_shrank_is_not_consistent() -> None:
    log = log_of(numbered(9))
    assert not verify_consistency(old_size=9, old_root=log.root(9), new_size=8, new_root=log.root(8), proof=log.consistency(8, 9))


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    log = log_of(numbered(2))
    inner = leaf_hash(b"leaf 0") + leaf_hash(b"leaf 1")
    assert not verify_inclusion(leaf=inner, index=0, size=1, proof=(), root=log.root())


def test_an_empty_log_is_a_prefix_of_every_log_and_of_nothing_else_by_claim() -> None:
    log = log_of(numbered(3))
    assert verify_consistency(old_size=0, old_root=EMPTY_ROOT, new_size=3, new_root=log.root(), proof=())
    assert verify_consistency(old_size=0, old_root=EMPTY_ROOT, new_size=0, new_root=EMPTY_ROOT, proof=())
    assert not verify_consistency(old_size=0, old_root=log.root(1), new_size=3, new_root=log.root(), proof=())
    assert not verify_consistency(old_size=0, old_root=EMPTY_ROOT, new_size=0, new_root=log.root(), proof=())
    assert not verify_consistency(old_size=0, old_root=EMPTY_ROOT, new_size=3, new_root=log.root(), proof=(log.root(),))
    assert not verify_consistency(old_size=3, old_root=log.root(), new_size=3, new_root=log.root(2), proof=())


HASH = st.one_of(st.binary(min_size=32, max_size=32), st.binary(max_size=40))
NUMBER = st.one_of(st.integers(-2, 20), st.integers(-(2**70), 2**70))


@given(st.binary(max_size=40), NUMBER, NUMBER, st.lists(HASH, max_size=70), HASH)
def test_foreign_proofs_never_raise_and_never_verify(leaf: bytes, first: int, second: int, proof: list[bytes], root: bytes) -> None:
    forged = verify_inclusion(leaf=leaf, index=first, size=second, proof=proof, root=root)
    assert not forged or root == leaf_hash(leaf)
    assert not verify_consistency(old_size=first, old_root=root, new_size=second, new_root=root[::-1], proof=proof) or root in {
        EMPTY_ROOT,
        root[::-1],
    }


def test_sizes_beyond_the_largest_are_refused() -> None:
    proof = [b"x" * 32] * 63
    assert not verify_inclusion(leaf=b"", index=0, size=MAX_SIZE + 1, proof=proof, root=b"x" * 32)
    assert not verify_consistency(old_size=1, old_root=b"x" * 32, new_size=MAX_SIZE + 1, new_root=b"x" * 32, proof=proof)


def test_sizes_and_indices_out_of_range_are_refused() -> None:
    log = log_of(numbered(5))
    for call in (
        lambda: log.root(6),
        lambda: log.root(-1),
        lambda: log.inclusion(5),
        lambda: log.inclusion(-1),
        lambda: log.inclusion(3, 3),
    ):
        with pytest.raises(ValueError, match="in a log of"):
            call()
    for old, new in ((6, None), (-1, None), (4, 3), (1, 6)):
        with pytest.raises(ValueError, match="in a log of"):
            log.consistency(old, new)
    with pytest.raises(ValueError, match="in a log of"):
        MerkleLog().inclusion(0)


def test_a_log_on_disk_goes_on_after_it_was_closed(tmp_path: Path) -> None:
    leaves = numbered(11)
    for part in (leaves[:5], leaves[5:]):
        connection = sqlite3.connect(tmp_path / "log.sqlite")
        log = MerkleLog(connection)
        for leaf in part:
            log.append(leaf)
        connection.commit()
        root = log.root()
        connection.close()
    assert root == naive_root(leaves)


def test_an_append_that_is_rolled_back_leaves_no_trace() -> None:
    connection = sqlite3.connect(":memory:")
    log = log_of(numbered(7), connection)
    connection.commit()
    log.append(b"never happened")
    connection.rollback()
    assert (log.size, log.root()) == (7, naive_root(numbered(7)))
    log.append(b"leaf 7")
    assert log.root() == naive_root(numbered(8))
    connection.close()


@pytest.mark.parametrize(
    "damage", ["DELETE FROM merkle_node WHERE level = 1", "UPDATE merkle_node SET hash = x'00'", "UPDATE merkle_node SET hash = 'text'"]
)
def test_damaged_nodes_stop_the_process_instead_of_giving_another_root(damage: str) -> None:
    connection = sqlite3.connect(":memory:")
    log = log_of(numbered(7), connection)
    connection.execute(damage)
    with pytest.raises(CorruptStateError, match="Merkle log"):
        log.root()
    with pytest.raises(CorruptStateError, match="Merkle log"):
        log.append(b"next")
    assert log.size == 7
    connection.close()
