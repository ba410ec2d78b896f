import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.train import wire

NAMES = st.text("abcxyz.0123", min_size=1, max_size=12)
TENSORS = st.lists(st.tuples(NAMES, st.binary(max_size=64)), max_size=5, unique_by=lambda row: row[0])


def reader(data: bytes):
    view, place = memoryview(bytearray(data)), 0

    def receive(size: int) -> memoryview:
        nonlocal place
        if place + size > len(view):
            raise EOFError
        place += size
        return view[place - size : place]

    return receive


def frame(rows: list[tuple[str, bytes]], header: dict[str, object]) -> bytes:
    return b"".join(wire.pack(wire.Kind.TENSORS, header, [wire.Tensor(name, "u8", (len(data),), data) for name, data in rows]))


@given(rows=TENSORS, number=st.integers(-(2**63), 2**64 - 1), text=st.text(max_size=20))
def test_a_frame_reads_back_as_it_was_written(rows: list[tuple[str, bytes]], number: int, text: str) -> None:
    read = wire.read(reader(frame(rows, {"number": number, "text": text})))
    assert read.kind is wire.Kind.TENSORS
    assert read.header == {"number": number, "text": text}
    assert [(tensor.name, bytes(tensor.data)) for tensor in read.tensors] == rows


@given(st.lists(st.sampled_from([0, 1, 9, wire.SMALL_BYTES, wire.SMALL_BYTES + 1]), max_size=8))
def test_small_buffers_are_put_together_and_large_ones_are_not_copied(sizes: list[int]) -> None:
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    joined = wire.joined(parts)
    assert b"".join(joined) == b"".join(parts)
    large = [part for part in parts if len(part) > wire.SMALL_BYTES]
    assert [part for part in joined if any(part is one for one in large)] == large
    assert len(joined) <= 2 * len(large) + 1


@given(rows=TENSORS, changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_frame_is_a_wire_error_or_another_frame(rows: list[tuple[str, bytes]], changes: list[tuple[int, int]]) -> None:
    data = bytearray(frame(rows, {"more": False}))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        read = wire.read(reader(bytes(data)), limit=4096)
    except (wire.WireError, EOFError):
        return
    assert all(len(tensor.data) == tensor.size_bytes for tensor in read.tensors)


@pytest.mark.parametrize("length", [0, 4, 2**32 - 1, 101])
def test_a_length_outside_the_limit_is_refused_before_anything_is_read(length: int) -> None:
    def receive(size: int) -> memoryview:
        assert size == 9, "nothing but the prefix may be asked for"
        return memoryview(length.to_bytes(4, "little") + bytes([100]) + (50).to_bytes(4, "little"))

    with pytest.raises(wire.WireError):
        wire.read(receive, limit=100)


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(["a", "u8", [-1]], id="negative"),
        pytest.param(["a", "u8", [2**40]], id="huge"),
        pytest.param(["a", "u8", [True]], id="truth value"),
        pytest.param(["a", "u8", [1] * 9], id="dimensions"),
        pytest.param(["a", "object", [1]], id="dtype"),
        pytest.param(["", "u8", [1]], id="empty name"),
        pytest.param(["a\n", "u8", [1]], id="newline"),
        pytest.param(["é", "u8", [1]], id="not ASCII"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(tensor: list[object]) -> None:
    header = cbor2.dumps({"tensors": [tensor]}, canonical=True)
    data = (5 + len(header) + 1).to_bytes(4, "little") + bytes([103]) + len(header).to_bytes(4, "little") + header + b"x"
    with pytest.raises(wire.WireError):
        wire.read(reader(data))


@given(sizes=st.lists(st.integers(0, 40), max_size=30))
def test_a_series_is_split_in_order_and_ends_once(sizes: list[int]) -> None:
    tensors = [wire.Tensor(f"t{number}", "u8", (size * 2**20,), b"") for number, size in enumerate(sizes)]
    parts = list(wire.split(tensors))
    assert [tensor for part, _ in parts for tensor in part] == tensors
    assert [more for _, more in parts] == [True] * (len(parts) - 1) + [False]
    assert all(len(part) == 1 or sum(tensor.size_bytes for tensor in part) <= wire.PART_BYTES for part, _ in parts)


def test_a_frame_holds_the_expected_tensor_or_is_an_error() -> None:
    read = wire.read(reader(frame([("a", b"12")], {})))
    assert bytes(read.tensor("a", "u8", (2,)).data) == b"12"
    for name, dtype, shape in (("b", "u8", (2,)), ("a", "f32", (2,)), ("a", "u8", (1, 2))):
        with pytest.raises(wire.WireError):
            read.tensor(name, dtype, shape)
