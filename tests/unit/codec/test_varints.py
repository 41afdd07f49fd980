"""Varints are those of the official library, where tables end as well."""

from __future__ import annotations

import pytest
from google.protobuf.internal.encoder import _VarintBytes

from relay.codec.protobuf import read_varint, varint

EDGES = [edge + step for edge in (0, 1 << 7, 1 << 11, 1 << 14, 1 << 21, 1 << 63) for step in (0, 1)]


@pytest.mark.parametrize("value", [*EDGES, *(edge - 1 for edge in EDGES[2:]), (1 << 64) - 1])
def test_a_varint_is_that_of_the_library(value: int) -> None:
    encoded = varint(value)
    assert encoded == _VarintBytes(value)
    assert read_varint(encoded, 0, len(encoded)) == (value, len(encoded))
