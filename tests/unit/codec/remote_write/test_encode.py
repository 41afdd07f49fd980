"""Remote write out: what one can say by hand; the rest is in the property tests."""

from __future__ import annotations

import struct

import pytest

from relay.codec.remote_write.encode import request_headers
from relay.codec.remote_write.external_labels import ExternalLabels
from relay.codec.remote_write.raw_series import (
    RawExemplar,
    RawSeries,
    histogram_for_v1,
    label_fields,
    read_v1,
    read_v2,
)
from relay.codec.remote_write.split import split_in_two
from relay.codec.remote_write.v1 import Metadata, WriteProtocol, label_key, parse_labels
from relay.codec.remote_write.v2 import Metadata2
from relay.runtime.errors import DecodeError
from tests.kit.remote_write import prompb
from tests.kit.remote_write.careful_encoder import encode_requests, family_of, split_below

V1: WriteProtocol = "remote_write_v1"
V2: WriteProtocol = "remote_write_v2"
TIME_MS = 1_700_000_000_123
STALE = struct.pack("<Q", 0x7FF0000000000002)
ONE = struct.pack("<d", 1.0)
UNBOUNDED = 1 << 30
UP = label_key([("__name__", "up"), ("job", "api")])


def test_headers_of_1_0() -> None:
    assert request_headers(V1) == {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }


def test_headers_of_2_0() -> None:
    assert request_headers(V2) == {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "X-Prometheus-Remote-Write-Version": "2.0.0",
    }


def test_what_senders_write_leaves_byte_for_byte() -> None:
    """Zeros are left out, as vmagent and Prometheus do; labels keep their order and bytes."""
    series = RawSeries(
        label_key([("job", "api"), ("__name__", "up")]),
        [(ONE, TIME_MS, 0), (bytes(8), TIME_MS, 0), (STALE, TIME_MS, 0)],
    )
    official = prompb.RawWriteRequest()
    added = official.timeseries.add()
    added.labels.add(name=b"job", value=b"api")
    added.labels.add(name=b"__name__", value=b"up")
    for value in (ONE, bytes(8), STALE):
        added.samples.add(value=int.from_bytes(value, "little"), timestamp=TIME_MS)
    (encoded,) = encode_requests([series], protocol=V1, bytes_max=UNBOUNDED)
    assert encoded.data == official.SerializeToString()
    assert encoded.points == 3


def test_a_negative_zero_is_not_left_out() -> None:
    minus = struct.pack("<d", -0.0)
    for protocol in (V1, V2):
        (encoded,) = encode_requests(
            [RawSeries(UP, [(minus, TIME_MS, 0)])], protocol=protocol, bytes_max=UNBOUNDED
        )
        read = read_v1(encoded.data)[0] if protocol == V1 else read_v2(encoded.data)
        assert read[0].samples == [(minus, TIME_MS, 0)]


def test_symbols_stand_once_and_begin_with_the_empty_one() -> None:
    series = [RawSeries(UP, [(ONE, TIME_MS + n, 0)]) for n in range(3)]
    (encoded,) = encode_requests(series, protocol=V2, bytes_max=UNBOUNDED)
    request = prompb.RequestV2.FromString(encoded.data)
    assert list(request.symbols) == ["", "__name__", "up", "job", "api"]
    assert [list(one.labels_refs) for one in request.timeseries] == [[1, 2, 3, 4]] * 3


def test_custom_buckets_have_no_form_in_1_0_and_are_counted() -> None:
    custom = prompb.HistogramV2(schema=-53, count_int=1, custom_values=[1.0], timestamp=TIME_MS)
    usual = prompb.HistogramV2(schema=3, count_int=1, timestamp=TIME_MS, start_timestamp=5)
    messages = [custom.SerializeToString(), usual.SerializeToString()]
    (encoded,) = encode_requests(
        [RawSeries(UP, histograms=messages)], protocol=V1, bytes_max=UNBOUNDED
    )
    assert (encoded.points, encoded.unexpressed) == (1, 1)
    (sent,) = prompb.WriteRequest.FromString(encoded.data).timeseries[0].histograms
    assert sent == prompb.Histogram(schema=3, count_int=1, timestamp=TIME_MS)
    assert histogram_for_v1(messages[0]) is None


def test_a_histogram_that_is_no_protobuf_is_refused() -> None:
    with pytest.raises(DecodeError):
        histogram_for_v1(b"\x08")


def test_exemplars_wait_for_the_next_point_in_2_0() -> None:
    exemplar = RawExemplar(label_key([("trace_id", "1")]), ONE, TIME_MS)
    down = label_key([("__name__", "down")])
    encoded = encode_requests(
        [
            RawSeries(UP, exemplars=[exemplar]),
            RawSeries(down, exemplars=[exemplar]),
            RawSeries(UP, [(ONE, TIME_MS, 0)]),
        ],
        protocol=V2,
        bytes_max=UNBOUNDED,
    )
    assert [(one.points, one.lone_exemplars) for one in encoded] == [(1, 0), (0, 1)]
    assert not encoded[1].data
    (series,) = read_v2(encoded[0].data)
    assert series.exemplars == [exemplar]


@pytest.mark.parametrize(
    ("name", "metric_type", "family"),
    [
        ("http_seconds_bucket", 3, "http_seconds"),
        ("http_seconds_count", 3, "http_seconds"),
        ("http_seconds_gcount", 3, "http_seconds_gcount"),
        ("http_seconds_gcount", 4, "http_seconds"),
        ("rpc_sum", 5, "rpc"),
        ("rpc_bucket", 5, "rpc_bucket"),
        ("requests_total", 1, "requests_total"),
        ("items_count", 2, "items_count"),
    ],
)
def test_the_family_of_a_series_depends_on_its_type(
    name: str, metric_type: int, family: str
) -> None:
    assert family_of(label_key([("__name__", name)]), metric_type) == family.encode()


def test_metadata_beside_series_becomes_that_of_families_once() -> None:
    about = Metadata2(3, "Latency.", "seconds")
    series = [
        RawSeries(label_key([("__name__", name)]), [(ONE, TIME_MS, 0)], metadata=about)
        for name in ("http_seconds_bucket", "http_seconds_sum", "http_seconds_count")
    ]
    (encoded,) = encode_requests(series, protocol=V1, bytes_max=UNBOUNDED)
    read, metadata = read_v1(encoded.data)
    assert len(read) == 3
    assert metadata == [Metadata(3, "http_seconds", "Latency.", "seconds")]


def test_metadata_alone_is_a_request_without_points() -> None:
    about = Metadata(1, "requests_total", "Requests.", "", account=(7, 0))
    (encoded,) = encode_requests([], [about], protocol=V1, bytes_max=UNBOUNDED)
    assert encoded.points == 0
    assert read_v1(encoded.data) == ([], [about._replace(account=None)])


def test_external_labels_are_sorted_in_and_never_override() -> None:
    added = ExternalLabels({"zone": "a", "job": "other", "Cluster": "c", "empty": ""})
    labels = label_key([("job", "api"), ("__name__", "up"), ("zone", "")])
    assert added.added_to(labels) == label_key(
        [("Cluster", "c"), ("__name__", "up"), ("job", "api"), ("zone", "a")]
    )
    assert parse_labels(added.added_to(labels), labels_max=9)


def test_without_external_labels_the_key_is_the_same_object() -> None:
    assert not ExternalLabels({})
    assert ExternalLabels({}).added_to(UP) is UP


@pytest.mark.parametrize("protocol", [V1, V2])
def test_a_split_is_near_the_middle_by_bytes(protocol: WriteProtocol) -> None:
    series = [
        RawSeries(label_key([("__name__", f"m{n}"), ("text", "x" * size)]), [(ONE, TIME_MS, 0)])
        for n, size in enumerate([600, 10, 10, 10, 10, 10])
    ]
    (whole,) = encode_requests(series, protocol=protocol, bytes_max=UNBOUNDED)
    halves = split_in_two(whole.data, protocol)
    assert halves is not None
    points = [half.points for half in halves]
    # 2.0 cuts by what series take beside the symbols, which are shared.
    assert points == ([1, 5] if protocol == V1 else [3, 3])


@pytest.mark.parametrize("protocol", [V1, V2])
def test_a_single_point_is_never_cut(protocol: WriteProtocol) -> None:
    (whole,) = encode_requests([RawSeries(UP, [(ONE, TIME_MS, 0)])], protocol=protocol, bytes_max=1)
    assert split_in_two(whole.data, protocol) is None
    assert split_below(whole.data, protocol, 1) == [(whole.data, whole.points)]


@pytest.mark.parametrize("protocol", [V1, V2])
def test_requests_are_filled_up_to_the_limit(protocol: WriteProtocol) -> None:
    series = [RawSeries(UP, [(ONE, TIME_MS + n, 0)]) for n in range(100)]
    (whole,) = encode_requests(series, protocol=protocol, bytes_max=UNBOUNDED)
    limit = len(whole.data) // 3
    parts = encode_requests(series, protocol=protocol, bytes_max=limit)
    assert [len(part.data) <= limit for part in parts] == [True] * len(parts)
    assert sum(part.points for part in parts) == 100
    assert len(parts) == 4


@pytest.mark.parametrize("protocol", [V1, V2])
def test_an_empty_request_cannot_be_cut(protocol: WriteProtocol) -> None:
    assert split_in_two(b"", protocol) is None
    assert encode_requests([], protocol=protocol, bytes_max=9) == []


def test_a_reference_to_nowhere_is_no_request_of_ours() -> None:
    request = prompb.RequestV2(symbols=["", "a"])
    for _ in range(2):
        request.timeseries.add(labels_refs=[1, 2]).samples.add(timestamp=TIME_MS)
    with pytest.raises(DecodeError, match="a reference beyond the 2 symbols"):
        split_in_two(request.SerializeToString(), V2)


@pytest.mark.parametrize("size", [1, 60, 113, 114, 115, 116, 130, 300])
def test_labels_of_any_size_and_shape_are_read(size: int) -> None:
    usual = label_key([("a", "v" * size), ("b", ""), ("", "c")])
    unusual = b"\x0a\x07\x12\x01x\x0a\x02ab" + b"\x0a\x00" + b"\x12\x01z"  # value first; none
    read = [(name, value) for _, name, value in label_fields(usual + unusual + usual)]
    of_usual = [(b"a", b"v" * size), (b"b", b""), (b"", b"c")]
    assert read == [*of_usual, (b"ab", b"x"), (b"", b""), *of_usual]
    fields = [field for field, _, _ in label_fields(usual)]
    assert b"".join(fields) == usual


def test_a_split_comes_to_an_end_where_the_last_of_metadata_has_all_points() -> None:
    """Whatever stands where, no half is empty."""
    series = encode_requests(
        [RawSeries(UP, [(ONE, TIME_MS, 0), (ONE, TIME_MS + 1, 0)])], protocol=V1, bytes_max=1 << 30
    )[0].data
    metadata = encode_requests(
        [], [Metadata(1, "up", "h" * 99, "")], protocol=V1, bytes_max=1 << 30
    )[0].data
    for body in (metadata + metadata + series, series + metadata, metadata + series + metadata):
        pieces = split_below(body, V1, 1)
        assert sum(piece.points for piece in pieces) == 2
        assert all(piece.data for piece in pieces)


def test_labels_that_are_cut_off_are_refused() -> None:
    key = label_key([("name", "value"), ("a", "b")])
    for end in range(1, len(key)):
        if end != 15:  # the end of the first
            with pytest.raises(DecodeError):
                list(label_fields(key[:end]))
