"""Cutting requests of remote write: symbols of a half, damaged bytes, and time on the loop."""

from __future__ import annotations

import struct

import pytest

from relay.codec.protobuf import field_bytes
from relay.codec.remote_write.cut import Request2, scan_v1
from relay.codec.remote_write.raw_series import RawExemplar, RawSeries, read_v2
from relay.codec.remote_write.rounds import cut_in_rounds
from relay.codec.remote_write.split import split_in_two
from relay.codec.remote_write.v1 import WriteProtocol, label_key
from relay.codec.remote_write.v2 import Metadata2
from relay.runtime.errors import DecodeError
from tests.kit.remote_write.careful_encoder import count_points, encode_requests, split_below
from tests.own_time import HELD_S_MAX, LeastTime, slowness

T0_MS = 1_700_000_000_000
LOOP_S_MAX = 0.025
"""Half of what an event loop may be held, for machines that are slower."""


def series(*names: str, value: float = 1.0, time_ms: int = T0_MS) -> RawSeries:
    """A series with these labels, an exemplar with the first of them, and metadata."""
    key = label_key((name, f"value of {name}") for name in names)
    exemplar = RawExemplar(label_key([(names[0], "x")]), struct.pack("<d", 0.5), time_ms)
    sample = struct.pack("<d", value), time_ms, 0
    return RawSeries(key, [sample], exemplars=[exemplar], metadata=Metadata2(1, "help", names[-1]))


def encoded(all_series: list[RawSeries], protocol: WriteProtocol) -> bytes:
    (one,) = encode_requests(all_series, protocol=protocol, bytes_max=1 << 40)
    return one.data


def test_references_that_would_grow_in_a_half_do_not() -> None:
    """The first symbol of the whole is needed last in the second half, behind 300 others."""
    first = [series("early", f"of_{n:03}") for n in range(100)]
    second = [series(f"late_{n:03}") for n in range(150)] + [series("early") for _ in range(50)]
    data = encoded(first + second, "remote_write_v2")
    pieces = split_below(data, "remote_write_v2", len(data) // 8)
    assert len(pieces) >= 8
    assert [one for piece in pieces for one in read_v2(piece.data)] == read_v2(data)
    assert sum(piece.points for piece in pieces) == 300
    assert count_points(data, "remote_write_v2") == 300


@pytest.mark.parametrize("protocol", ["remote_write_v1", "remote_write_v2"])
def test_damaged_requests_are_refused_wherever_they_are_cut_off(protocol: WriteProtocol) -> None:
    data = encoded([series("a", "b"), series("a", "c")], protocol)
    known = 0
    for end in range(1, len(data)):
        try:
            count_points(data[:end], protocol)
            split_in_two(data[:end], protocol)
        except DecodeError:
            continue
        known += 1
    assert known <= 12, "only between two entries is it a request"


def test_references_and_sizes_beyond_a_request_are_refused() -> None:
    one = field_bytes(b"\x2a", field_bytes(b"\x0a", b"\x07\x07"))
    request = Request2(field_bytes(b"\x22", b"") + one + one)
    with pytest.raises(DecodeError, match="beyond the 1 symbols"):
        request.part([0])
    for data in (b"\x0a\xff", b"\x0a\x80", b"\x0b\x00", b"\x09\x00", b"\xff" * 11):
        with pytest.raises(DecodeError):
            scan_v1(data)
        with pytest.raises(DecodeError):
            Request2(data)


@pytest.mark.parametrize("protocol", ["remote_write_v1", "remote_write_v2"])
def test_the_largest_batch_is_cut_without_holding_the_loop(protocol: WriteProtocol) -> None:
    names = tuple(f"label_{n}" for n in range(12))
    data = encoded([series(*names, value=float(n)) for n in range(10_000)], protocol)
    least = LeastTime()
    for _ in range(5):
        with least.attempt():
            halves = split_in_two(data, protocol)
        assert halves is not None
        assert halves[0].points == halves[1].points == 5_000
    assert least.s < LOOP_S_MAX * slowness()


@pytest.mark.parametrize("protocol", ["remote_write_v1", "remote_write_v2"])
def test_the_largest_batch_is_cut_in_rounds_without_holding_the_loop(
    protocol: WriteProtocol,
) -> None:
    names = tuple(f"label_{n}" for n in range(25))
    data = encoded([series(*names, value=float(n)) for n in range(10_000)], protocol)
    least = LeastTime()
    for _ in range(5):
        with least.attempt():
            rounds = cut_in_rounds(data, protocol, 16)
        assert sum(one.points for one in rounds) == 10_000
        assert len(rounds) == 16
    assert least.s < HELD_S_MAX * slowness()
