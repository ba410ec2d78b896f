"""Best-fit packing on lengths alone: what holds for any documents, and the cases at the edge."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.data.packing import PATIENCE, POOL, POOL_PART, Packer, Piece

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any)


def permuted(lengths: list[int], seed: int) -> Packer:
    """A packer over passes that are shuffled by an ordinary generator."""
    return Packer(np.array(lengths, np.uint32), lambda number: np.random.default_rng([seed, number]).permutation(len(lengths)))


def as_they_stand(lengths: list[int]) -> Packer:
    return Packer(np.array(lengths, np.uint32), lambda _: np.arange(len(lengths)))


def width_of(pieces: list[Piece]) -> int:
    return sum(1 + piece.tokens for piece in pieces)


@given(lengths=LENGTHS, width=st.integers(2, 50), rows=st.integers(1, 80), seed=st.integers(0, 3))
def test_a_row_is_full_of_pieces_or_ends_with_one_bos(lengths: list[int], width: int, rows: int, seed: int) -> None:
    packer = permuted(lengths, seed)
    for pieces in (packer.row(width) for _ in range(rows)):
        assert width_of(pieces) in (width, width - 1)
        assert all(piece.tokens >= 1 for piece in pieces)
        assert all(piece.start + piece.tokens <= lengths[piece.document] for piece in pieces)
        if width_of(pieces) < width:  # the BOS at the end is a true end of a document
            assert pieces[-1].start + pieces[-1].tokens == lengths[pieces[-1].document]


def copies_of(packer: Packer, widths: list[int]) -> dict[int, list[int]]:
    """Document -> how far each copy of it that was begun has come; a piece must go on exactly where a copy stopped."""
    ends: dict[int, list[int]] = defaultdict(list)
    for piece in (piece for width in widths for piece in packer.row(width)):
        copies = ends[piece.document]
        if piece.start == 0:
            copies.append(0)
        copies[copies.index(piece.start)] += piece.tokens
    return ends


def check_passes(lengths: list[int], ends: dict[int, list[int]]) -> None:
    """A pass is drawn once the one before it has been drawn whole, and no more than the pool is outstanding of those."""
    documents = [document for document, tokens in enumerate(lengths) if tokens]
    assert ends.keys() <= set(documents)
    drawn_whole = max(len(copies) for copies in ends.values()) - 1
    finished = [ends[document].count(lengths[document]) for document in documents]
    pool = min(POOL, max(1, len(documents) // POOL_PART))
    assert sum(max(0, drawn_whole - count) for count in finished) <= pool
    assert sum(end < lengths[document] for document, copies in ends.items() for end in copies) <= pool


@given(lengths=LENGTHS, widths=st.lists(st.integers(2, 50), min_size=1, max_size=80), seed=st.integers(0, 3))
def test_the_pieces_of_a_document_give_it_back_once_a_pass_whatever_the_widths(lengths: list[int], widths: list[int], seed: int) -> None:
    check_passes(lengths, copies_of(permuted(lengths, seed), widths))


def test_only_a_pool_of_pieces_is_outstanding_after_many_passes() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 1000).tolist()
    ends = copies_of(permuted(lengths, 1), [65] * 8000)
    assert sum(map(sum, ends.values())) > 4 * sum(lengths)
    check_passes(lengths, ends)


@given(lengths=LENGTHS, width=st.integers(2, 50))
def test_the_same_documents_are_packed_the_same_and_another_order_is_packed_otherwise(lengths: list[int], width: int) -> None:
    one, two = permuted(lengths, 1), permuted(lengths, 1)
    assert [one.row(width) for _ in range(20)] == [two.row(width) for _ in range(20)]


def test_two_orders_are_packed_differently() -> None:
    lengths = list(range(1, 200))
    one, two = permuted(lengths, 1), permuted(lengths, 2)
    assert [one.row(65) for _ in range(20)] != [two.row(65) for _ in range(20)]


def test_the_longest_piece_that_fits_goes_first_and_the_longest_of_all_is_cropped() -> None:
    packer = as_they_stand([9, 4, 5, 30, *[25] * 12])  # the pool holds four
    assert packer.row(12) == [Piece(0, 0, 9), Piece(3, 0, 1)]  # 10 of 12 places, then nothing fits into two: the 30 is cropped
    assert packer.row(12) == [Piece(2, 0, 5), Piece(1, 0, 4)]
    assert packer.row(12) == [Piece(3, 1, 11)]


def test_a_source_smaller_than_the_pool_is_packed_in_another_order_by_another_seed() -> None:
    """A pool of all documents would be emptied by length."""
    lengths = list(range(20, 120))
    assert permuted(lengths, 1).row(17) != permuted(lengths, 2).row(17)


def test_of_equal_pieces_the_older_goes_first() -> None:
    packer = as_they_stand([3, 3, 3])
    assert [piece.document for _ in range(6) for piece in packer.row(4)] == [0, 1, 2, 0, 1, 2]


def test_a_piece_that_never_fits_best_begins_a_row_when_it_has_waited_long_enough() -> None:
    packer = as_they_stand([*[30] * 300, 1])  # rows of 31 places are filled by one document of 30
    rows = [packer.row(31) for _ in range(1200)]
    at = next(number for number, pieces in enumerate(rows) if pieces[0].document == 300)
    assert 300 < at <= 300 + (PATIENCE + 1) * POOL


def test_one_place_left_holds_the_bos_that_ends_a_document() -> None:
    assert as_they_stand([3]).row(5) == [Piece(0, 0, 3)]


def test_rows_of_one_token_serve_every_token_in_its_turn() -> None:
    packer = as_they_stand([2, 1])
    served = [packer.row(2) for _ in range(6)]
    assert all(len(pieces) == 1 and pieces[0].tokens == 1 for pieces in served)
    assert sorted(piece for pieces in served for piece in pieces)[::2] == [Piece(0, 0, 1), Piece(0, 1, 1), Piece(1, 0, 1)]


def test_a_document_longer_than_many_rows_is_served_piece_by_piece() -> None:
    packer = as_they_stand([1000])
    served = [piece for _ in range(100) for piece in packer.row(11)]
    assert served == [Piece(0, start, 10) for start in range(0, 1000, 10)]


def test_a_small_source_is_not_served_from_many_passes_at_once() -> None:
    packer = as_they_stand([10, 1])
    documents = [piece.document for _ in range(10) for piece in packer.row(13)]
    assert documents == [0, 1] * 10


def test_empty_documents_are_passed_over() -> None:
    assert as_they_stand([0, 3, 0]).row(8) == [Piece(1, 0, 3), Piece(1, 0, 3)]


def test_documents_without_any_token_are_refused() -> None:
    with pytest.raises(ValueError, match="no token"):
        as_they_stand([0, 0])
