"""The careful remote-write decoder, rule by rule."""

from __future__ import annotations

import struct

import pytest

from relay.codec.protobuf import field_bytes, iter_fields, varint
from relay.codec.remote_write.v1 import (
    ELEMENTS_MAX,
    FaultReason,
    Labels,
    Metadata,
    SeriesFault,
    SeriesParts,
    parse_labels,
    parse_metadata,
    parse_series,
    top_level,
)
from relay.runtime.errors import DecodeError, TooLargeError, WireError
from tests.kit.remote_write import prompb

ONE = struct.pack("<d", 1.0)
ZERO = bytes(8)


def label(name: bytes, value: bytes) -> bytes:
    """A TimeSeries.labels field."""
    return field_bytes(b"\x0a", field_bytes(b"\x0a", name) + field_bytes(b"\x12", value))


def sample(payload: bytes) -> bytes:
    """A TimeSeries.samples field."""
    return field_bytes(b"\x12", payload)


NAME = label(b"__name__", b"up")
JOB = label(b"job", b"node")
VALUE = b"\x09" + ONE
TIME = b"\x10" + varint(1_700_000_000_123)


def first_series(data: bytes) -> SeriesParts:
    return parse_series(data, 0, len(data))


def labels(key: bytes, *, labels_max: int = 100, bytes_max: int = 10_000) -> Labels:
    return parse_labels(key, labels_max=labels_max, bytes_max=bytes_max)


def fault(key: bytes, *, labels_max: int = 100, bytes_max: int = 10_000) -> SeriesFault:
    with pytest.raises(SeriesFault) as caught:
        labels(key, labels_max=labels_max, bytes_max=bytes_max)
    return caught.value


# Fields


def test_fields_come_with_their_places() -> None:
    data = b"??" + b"\x08\x96\x01" + b"\x12\x02hi" + b"\x19" + ONE + b"\x25abcd" + b"??"
    fields = list(iter_fields(data, 2, len(data) - 2))
    assert fields == [(1, 0, 2, 3, 5), (2, 2, 5, 7, 9), (3, 1, 9, 10, 18), (4, 5, 18, 19, 23)]


def test_a_message_of_no_bytes_has_no_fields() -> None:
    assert list(iter_fields(b"abc", 1, 1)) == []


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"\x02\x00", "field number 0", 0),
        (b"\x80\x00", "field number 0", 0),
        (b"\x12\x00\x0b", "wire type 3", 3),
        (b"\x0c", "wire type 4", 1),
        (b"\x0e", "wire type 6", 1),
        (b"\x0f", "wire type 7", 1),
        (b"\x80", "truncated varint", 0),
        (b"\x08", "truncated varint", 1),
        (b"\x08" + b"\xff" * 11, "varint longer than ten bytes", 1),
        (b"\x12", "truncated varint", 1),
        (b"\x12\x05abcd", "length 5 runs past the end of its message", 1),
        (b"\x12" + b"\xff" * 9 + b"\x01", "length 18446744073709551615 runs past", 1),
        (b"\x09" + b"\x00" * 7, "truncated fixed-size field", 1),
        (b"\x0d" + b"\x00" * 3, "truncated fixed-size field", 1),
        (b"\xff\xff\xff\xff\x1f\x00", "field tag over 32 bits", 0),
        (b"\x88\x80\x80\x80\x80\x00\x00", "field tag over 32 bits", 0),
    ],
)
def test_what_is_not_protobuf_is_refused_with_its_offset(
    data: bytes, message: str, offset: int
) -> None:
    with pytest.raises(DecodeError, match=message) as caught:
        list(iter_fields(data, 0, len(data)))
    assert caught.value.offset == offset


def test_a_field_may_not_reach_beyond_its_message() -> None:
    with pytest.raises(DecodeError, match="runs past"):
        list(iter_fields(b"\x12\x04abcd", 0, 5))


# WriteRequest


def test_top_level_lists_series_and_metadata_in_order() -> None:
    data = (
        field_bytes(b"\x0a", NAME) + b"\x10\x05" + field_bytes(b"\x1a", b"\x08\x01") + b"\x0a\x00"
    )
    entries = top_level(data)
    assert [number for number, _, _ in entries] == [1, 3, 1]
    assert data[entries[0][1] : entries[0][2]] == NAME
    assert data[entries[1][1] : entries[1][2]] == b"\x08\x01"
    assert entries[2][1] == entries[2][2] == len(data)


def test_top_level_of_nothing_is_empty() -> None:
    assert top_level(b"") == []


def test_series_under_another_wire_type_are_unknown_fields() -> None:
    assert top_level(b"\x08\x01\x19" + ZERO) == []


def test_entries_and_samples_are_bounded() -> None:
    data = b"\x0a\x00" * 4
    assert len(top_level(data, entries_max=4)) == 4
    with pytest.raises(TooLargeError, match="over 3 series and metadata"):
        top_level(data, entries_max=3)
    data = sample(b"") * 4
    assert len(parse_series(data, 0, len(data), samples_max=4).samples) == 4
    with pytest.raises(TooLargeError, match="over 3 samples"):
        parse_series(data, 0, len(data), samples_max=3)
    assert ELEMENTS_MAX >= 100_000


# TimeSeries


def test_a_series_in_the_usual_order() -> None:
    parts = first_series(NAME + JOB + sample(VALUE + TIME))
    assert parts == SeriesParts(NAME + JOB, [(ONE, 1_700_000_000_123)], [], [])


def test_a_series_inside_a_body() -> None:
    data = b"\xff\xff" + NAME + sample(VALUE + TIME) + b"\xff\xff"
    assert parse_series(data, 2, len(data) - 2).key == NAME


@pytest.mark.parametrize(
    "data",
    [
        sample(VALUE + TIME) + NAME + JOB,
        NAME + sample(VALUE + TIME) + JOB,
        NAME + b"\x28\x01" + JOB + sample(VALUE + TIME),
        # The same tag, number 1 and wire type 2, in two bytes instead of one.
        b"\x8a\x00" + NAME[1:] + JOB + sample(VALUE + TIME),
        NAME + b"\x8a\x00" + JOB[1:] + sample(VALUE + TIME),
    ],
)
def test_labels_are_found_wherever_they_are(data: bytes) -> None:
    assert first_series(data) == SeriesParts(NAME + JOB, [(ONE, 1_700_000_000_123)], [], [])


@pytest.mark.parametrize(
    ("payload", "value", "timestamp_ms"),
    [
        (b"", ZERO, 0),
        (VALUE, ONE, 0),
        (TIME, ZERO, 1_700_000_000_123),
        (TIME + VALUE, ONE, 1_700_000_000_123),
        (b"\x09" + ZERO + VALUE + b"\x10\x01" + TIME, ONE, 1_700_000_000_123),  # the last one wins
        (b"\x10" + b"\xff" * 9 + b"\x01", ZERO, -1),
        (b"\x10" + varint(1 << 63), ZERO, -(1 << 63)),
        (b"\x10" + varint((1 << 63) - 1), ZERO, (1 << 63) - 1),
        (b"\x10\x81\x00", ZERO, 1),  # longer than need be
        (VALUE + b"\x18\x07" + TIME, ONE, 1_700_000_000_123),  # unknown field 3
        (b"\x08\x01" + VALUE, ONE, 0),  # a value as varint is an unknown field
        (b"\x11" + ONE + VALUE, ONE, 0),  # so is a time as fixed64
    ],
)
def test_samples(payload: bytes, value: bytes, timestamp_ms: int) -> None:
    assert first_series(sample(payload)).samples == [(value, timestamp_ms)]


def test_many_samples_keep_their_order() -> None:
    data = NAME + sample(b"\x10\x03") + sample(b"\x10\x01") + sample(b"\x10\x02")
    assert [time for _, time in first_series(data).samples] == [3, 1, 2]


def test_exemplars_and_histograms_are_cut_out() -> None:
    data = NAME + field_bytes(b"\x1a", b"any") + field_bytes(b"\x22", b"thing") * 2
    parts = first_series(data)
    assert [data[start:stop] for start, stop in parts.exemplars] == [b"any"]
    assert [data[start:stop] for start, stop in parts.histograms] == [b"thing"] * 2


def test_known_fields_under_another_wire_type_are_unknown_fields() -> None:
    data = NAME + b"\x08\x01" + b"\x10\x01" + b"\x19" + ZERO + b"\x25abcd"
    assert first_series(data) == SeriesParts(NAME, [], [], [])


@pytest.mark.parametrize("payload", [b"\x09\x00", b"\x10", b"\x13", b"\x00\x00"])
def test_a_sample_that_is_not_protobuf_is_refused(payload: bytes) -> None:
    data = NAME + sample(payload)
    with pytest.raises(DecodeError) as caught:
        first_series(data)
    assert caught.value.offset >= len(NAME) + 2


# Labels


def test_labels_are_sorted_and_empty_values_are_left_out() -> None:
    key = label(b"z", b"1") + NAME + label(b"empty", b"") + JOB
    assert labels(key) == [("__name__", "up"), ("job", "node"), ("z", "1")]


def test_any_utf8_is_a_name_or_a_value() -> None:
    key = label(b"job name", "é\n".encode()) + label(b"__name__", "resource.ß".encode())
    assert labels(key) == [("__name__", "resource.ß"), ("job name", "é\n")]


def test_names_sort_by_code_point() -> None:
    astral, private = "\U00010000", "\uffff"  # UTF-16 would have them the other way round
    key = NAME + label(astral.encode(), b"1") + label(private.encode(), b"2")
    assert labels(key)[1:] == [(private, "2"), (astral, "1")]


def test_a_label_message_may_hold_more_than_it_should() -> None:
    inside = (
        field_bytes(b"\x12", b"first")
        + field_bytes(b"\x0a", b"job")
        + b"\x18\x01"
        + b"\x08\x01"
        + field_bytes(b"\x12", b"last")
    )
    assert labels(NAME + field_bytes(b"\x0a", inside)) == [("__name__", "up"), ("job", "last")]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (b"", "missing_name"),
        (JOB, "missing_name"),
        (label(b"__name__", b"") + JOB, "missing_name"),
        (NAME + JOB + NAME, "duplicate_label"),
        (NAME + JOB + label(b"job", b""), "duplicate_label"),
        (NAME + label(b"", b"x"), "empty_label_name"),
        (NAME + b"\x0a\x00", "empty_label_name"),
        (NAME + label(b"job", b"\xff"), "invalid_utf8"),
        (NAME + label(b"\xc0\x80", b"x"), "invalid_utf8"),
        (label(b"__name__", b"\xed\xa0\x80"), "invalid_utf8"),
        # The first reason in this order: empty name, duplicate, UTF-8, missing name.
        (label(b"", b"x") + JOB + JOB, "empty_label_name"),
        (JOB + JOB + label(b"x", b"\xff"), "duplicate_label"),
        (label(b"x", b"\xff"), "invalid_utf8"),
    ],
)
def test_label_faults(key: bytes, reason: FaultReason) -> None:
    assert fault(key).reason == reason


def test_labels_are_limited_in_number_and_bytes() -> None:
    key = NAME + JOB + label(b"empty", b"")
    assert len(labels(key, labels_max=3, bytes_max=len(key))) == 2
    assert fault(key, labels_max=2).reason == "too_many_labels"
    assert fault(key, bytes_max=len(key) - 1).reason == "too_large"
    assert len(parse_labels(key, labels_max=3)) == 2


def test_a_fault_is_the_senders_and_short() -> None:
    error = fault(NAME + label(b"\xff" * 5000, b"x"))
    assert isinstance(error, WireError)
    assert not isinstance(error, DecodeError)
    assert len(str(error)) < 1000
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "key",
    [
        NAME + b"\x0a\x01\x0a",
        NAME + b"\x0a\x05",
        NAME + b"\x12\x00",
        NAME + b"\x08\x01",
        b"\x0a\x02\x0a\x00" + b"\x0a\x01\x0b",  # found even behind an empty name
    ],
)
def test_a_key_that_is_not_labels_costs_the_request(key: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        labels(key)
    assert caught.value.offset > 0


# Metadata


def metadata(data: bytes) -> Metadata:
    return parse_metadata(data, 0, len(data))


def test_metadata() -> None:
    message = prompb.MetricMetadata(
        type=1, metric_family_name="http_requests", help="Requests, é", unit="seconds"
    )
    expected = Metadata(1, "http_requests", "Requests, é", "seconds")
    assert metadata(message.SerializeToString()) == expected


def test_metadata_of_nothing_is_unknown() -> None:
    assert metadata(b"") == Metadata(0, "", "", "")


@pytest.mark.parametrize(
    ("fields", "account"),
    [
        (b"", None),
        (b"\x58\x2a\x60\x07", (42, 7)),
        (b"\x58\x2a", (42, 0)),
        (b"\x60\x07", (0, 7)),
        (b"\x58\x2a\x58\x2b", (43, 0)),
        (b"\x5a\x01a", None),
    ],
)
def test_victoriametrics_marks_whose_metadata_is(
    fields: bytes, account: tuple[int, int] | None
) -> None:
    data = b"\x08\x02" + field_bytes(b"\x12", b"up") + fields
    assert metadata(data) == Metadata(2, "up", "", "", account)


def test_the_last_metadata_field_wins() -> None:
    data = b"\x08\x02\x08\x01" + field_bytes(b"\x12", b"a") + field_bytes(b"\x12", b"b")
    assert metadata(data) == Metadata(1, "b", "", "")


def test_invalid_utf8_in_metadata_costs_nothing_else() -> None:
    data = field_bytes(b"\x12", b"up") + field_bytes(b"\x22", b"caf\xe9")
    assert metadata(data) == Metadata(0, "up", "caf�", "")


@pytest.mark.parametrize("data", [b"\x08", b"\x12\x02a", b"\x0b"])
def test_metadata_that_is_not_protobuf_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        metadata(data)
