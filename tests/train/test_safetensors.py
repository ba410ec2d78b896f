import json
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from ralph.errors import UntrustedInputError
from ralph.train import finite, wire
from ralph.train import safetensors as ours
from ralph.train.safetensors_header import MAX_HEADER_BYTES, TensorLimits, parse

LIMITS = TensorLimits(numbers=1000, size_bytes=4000)
ARRAYS = {"b": np.arange(6, dtype="<f4").reshape(2, 3), "a": np.array(7, dtype="<i8"), "none": np.zeros((0, 4), dtype="<f8")}
NAMES = {"<f4": "f32", "<i8": "i64", "<f8": "f64"}
TENSORS = [wire.Tensor(name, NAMES[array.dtype.str], array.shape, array.tobytes()) for name, array in ARRAYS.items()]


def file_of(header: Any, body: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(start: int = 0, stop: int = 4, shape: Any = (1,), dtype: str = "F32", **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop], **more}


def refused(data: bytes, limits: TensorLimits = LIMITS) -> str:
    with pytest.raises(UntrustedInputError) as refusal:
        parse(data, limits)
    return refusal.value.code


def test_the_public_library_reads_what_we_write() -> None:
    loaded = safetensors.numpy.load(ours.dump(TENSORS))
    assert all(np.array_equal(loaded[name], array) and loaded[name].dtype == array.dtype for name, array in ARRAYS.items())


def test_we_read_what_the_public_library_writes() -> None:
    parsed = parse(safetensors.numpy.save(ARRAYS), LIMITS)
    assert {tensor.name: (tensor.dtype, tensor.shape, bytes(tensor.data)) for tensor in parsed} == {
        tensor.name: (tensor.dtype, tensor.shape, tensor.data) for tensor in TENSORS
    }


def test_the_order_of_tensors_does_not_change_the_file() -> None:
    assert ours.dump(TENSORS) == ours.dump(TENSORS[::-1])


EMPTY = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
HOSTILE = {
    "nothing": b"",
    "a header longer than the file": file_of(b"{}", length=3),
    "a header over a mebibyte": file_of(b" " * (MAX_HEADER_BYTES + 1)),
    "a header of 2**63 bytes": file_of(b"{}", length=2**63),
    "a list": file_of(b"[]"),
    "leading space": file_of(b" {}"),
    "no JSON": file_of(b"{'a'}"),
    "no UTF-8": file_of(b"\xff\xfe"),
    "deep nesting": file_of(b'{"a":' * 100_000),
    "a number of 5000 digits": file_of(b'{"a":' + b"9" * 5000 + b"}"),
    "NaN": file_of(b'{"a":NaN}'),
    "metadata": file_of({"__metadata__": {"format": "pt"}}),
    "a key that occurs twice": file_of(b'{"a":' + EMPTY + b',"a":' + EMPTY + b"}"),
    "a field that occurs twice": file_of(b'{"a":{"dtype":"F32","shape":[9],"shape":[0],"data_offsets":[0,0]}}'),
    "an unknown field": file_of({"a": entry(stride=0)}, bytes(4)),
    "an unknown dtype": file_of({"a": entry(dtype="C64", stop=8)}, bytes(8)),
    "a stride-0 giant": file_of({"a": entry(shape=(2**38,))}, bytes(4)),
    "a shape that overflows": file_of({"a": entry(shape=(2**39, 2**39, 0), stop=0)}, b""),
    "nine dimensions": file_of({"a": entry(shape=(1,) * 9)}, bytes(4)),
    "a negative size": file_of({"a": entry(shape=(-1,))}, bytes(4)),
    "a fraction": file_of({"a": entry(shape=(1.0,))}, bytes(4)),
    "a truth value": file_of({"a": entry(shape=(True,))}, bytes(4)),
    "a gap": file_of({"a": entry(4, 8)}, bytes(8)),
    "an overlap": file_of({"a": entry(), "b": entry()}, bytes(4)),
    "bytes behind the last tensor": file_of({"a": entry()}, bytes(5)),
    "a body that is too short": file_of({"a": entry()}, bytes(3)),
    "an empty name": file_of({"": entry()}, bytes(4)),
    "a name that steers terminals": file_of({"\x1b[2J": entry()}, bytes(4)),
    "half a surrogate pair": file_of(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_with(name: str) -> None:
    assert refused(HOSTILE[name]) == ("INT-SIZE" if len(HOSTILE[name]) > MAX_HEADER_BYTES + 4008 else "INT-SCHEMA")


def test_too_many_numbers_are_too_many_parameters() -> None:
    data = ours.dump([wire.Tensor("a", "u8", (1001,), bytes(1001))])
    assert refused(data) == "RUN-PARAMS"


def test_too_many_tensors_are_refused() -> None:
    assert refused(ours.dump(TENSORS), TensorLimits(tensors=2, numbers=100, size_bytes=1000)) == "INT-SCHEMA"


def test_a_file_over_its_size_is_not_parsed() -> None:
    assert refused(bytes(MAX_HEADER_BYTES + 4009)) == "INT-SIZE"


@given(data=st.data())
def test_no_bytes_raise_anything_but_a_refusal(data: st.DataObject) -> None:
    good = bytearray(ours.dump(TENSORS))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = parse(bytes(good), LIMITS)
    except UntrustedInputError:
        return
    assert sum(len(tensor.data) for tensor in parsed) == sum(tensor.size_bytes for tensor in parsed) <= LIMITS.size_bytes


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_found_in_every_type(dtype: str, bad: float) -> None:
    values = np.array([1.0, -3.0, bad])
    arrays = {
        "f16": values.astype("<f2"),
        "f32": values.astype("<f4"),
        "f64": values,
        "bf16": (values.astype("<f4").view("<u4") >> 16).astype("<u2"),
    }
    data = arrays[dtype].tobytes()
    finite.check([wire.Tensor("good", dtype, (2,), data[: 2 * wire.ITEM_BYTES[dtype]])])
    with pytest.raises(UntrustedInputError, match="RUN-NAN"):
        finite.check([wire.Tensor("bad", dtype, (3,), data)])


def test_whole_numbers_are_always_finite() -> None:
    finite.check([wire.Tensor("counter", "i64", (1,), b"\xff" * 8)])
