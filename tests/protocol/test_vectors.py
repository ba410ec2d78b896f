"""Golden vectors: every wire format gives the bytes that it gave when its version was frozen."""

import json
from pathlib import Path

import pytest

from scripts.make_vectors import structures, vectors

EXPECTED = json.loads((Path(__file__).parents[1] / "vectors" / "protocol.json").read_text())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_format_is_what_its_version_froze(name):
    assert vectors()[name] == EXPECTED[name]


def test_no_format_is_without_a_vector():
    assert set(vectors()) == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(structures()))
def test_frozen_bytes_parse_to_the_value_that_made_them(name):
    one = structures()[name]
    data = bytes.fromhex(EXPECTED[name]["bytes"])
    assert type(one).from_bytes(data, limit=len(data)) == one
