"""Canonical encoding: one encoding for each value, nothing else accepted."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.errors import UntrustedInputError
from ralph.protocol import canonical
from ralph.protocol.announcement import Hypothesis

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_decodes_to_the_same_value(value):
    data = canonical.encode(value)
    assert canonical.decode(data, limit=len(data)) == value


@given(st.binary(max_size=200))
def test_foreign_bytes_give_a_value_with_that_encoding_or_a_typed_refusal(data):
    try:
        value = canonical.decode(data, limit=200)
    except UntrustedInputError as error:
        assert error.code == "INT-SCHEMA"
    else:
        assert canonical.encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("1800"),  # 0 in two bytes
        bytes.fromhex("9f01ff"),  # list of indefinite length
        bytes.fromhex("a2616101616102"),  # the same key twice
        bytes.fromhex("a2616201616101"),  # keys out of order
        bytes.fromhex("f93c00"),  # a float
        bytes.fromhex("c000"),  # a tag
        bytes.fromhex("0000"),  # trailing bytes
        bytes.fromhex("a10102"),  # a key that is no text
        bytes.fromhex("81" * 100 + "00"),  # nested too deep
    ],
)
def test_every_other_encoding_is_refused(data):
    with pytest.raises(UntrustedInputError, match="INT-SCHEMA"):
        canonical.decode(data, limit=1000)


def test_size_is_checked_before_anything_is_parsed():
    with pytest.raises(UntrustedInputError, match="INT-SIZE"):
        canonical.decode(bytes(11), limit=10)


@pytest.mark.parametrize("value", [1.5, (1, 2), {1: 2}, {1, 2}, 2**64, -(2**64) - 1, object()])
def test_types_outside_the_closed_set_cannot_be_encoded(value):
    with pytest.raises(TypeError):
        canonical.encode(value)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65535, 65536])
def test_bytes_have_the_digest_of_any_other_value(size):
    data = bytes(range(256)) * 257
    assert canonical.bytes_digest("a/b", memoryview(data)[:size]) == canonical.digest("a/b", data[:size])


def test_the_head_of_a_long_byte_string_has_its_length_in_four_or_eight_bytes():
    assert canonical._bytes_head(2**32 - 1).hex() == "5affffffff"
    assert canonical._bytes_head(2**32).hex() == "5b0000000100000000"


def test_an_envelope_is_the_preimage_of_its_digest():
    assert hashlib.sha256(canonical.envelope("a/b", [1])).digest() == canonical.digest("a/b", [1])


def test_domains_separate_equal_values():
    assert canonical.digest("a", {"x": 1}) != canonical.digest("b", {"x": 1})


def test_an_envelope_of_another_domain_is_refused():
    with pytest.raises(UntrustedInputError, match="tag"):
        canonical.open_envelope("a", canonical.envelope("b", 1), limit=100)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_travel_as_the_shortest_decimal_of_the_same_float(number):
    assert float(canonical.real_text(number)) == number


HYPOTHESIS = Hypothesis(change="c", mechanism="m", predicted_gain_bpb=0.1, predicted_low_bpb=-0.5, predicted_high_bpb=1e-9, falsifier="f")


def test_a_structure_survives_its_own_bytes():
    assert Hypothesis.from_bytes(HYPOTHESIS.to_bytes(), limit=1000) == HYPOTHESIS


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("change"),
        lambda value: value.update(unknown="x"),
        lambda value: value.update(predicted_gain_bpb="0.10"),
        lambda value: value.update(predicted_gain_bpb=1),
        lambda value: value.update(predicted_gain_bpb="nan"),
        lambda value: value.update(predicted_gain_bpb="Infinity"),
        lambda value: value.update(change=b"bytes"),
        lambda value: value.update(change="x" * 2001),
    ],
)
def test_missing_unknown_or_differently_spelled_fields_are_refused(change):
    value = HYPOTHESIS.value()
    change(value)
    with pytest.raises(UntrustedInputError, match="INT-SCHEMA"):
        Hypothesis.from_value(value)
