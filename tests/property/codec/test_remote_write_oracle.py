"""The careful decoder against the official protobuf classes.

Where they differ, on purpose:

* Groups: official parsers skip them, we refuse them (proto3 has none).
* Lengths: official parsers refuse a length written in more bytes than a 32-bit number needs, we
  read it, like any varint.

Exemplars and histograms are only cut out, and invalid UTF-8 costs one series, so the oracle here is
:class:`tests.kit.remote_write.prompb.RawWriteRequest`, which has all of these as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError as OfficialDecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from relay.codec.protobuf import BYTES, field_bytes, iter_fields, varint
from relay.codec.remote_write.v1 import (
    METADATA_FIELD,
    SeriesFault,
    metadata_spans,
    parse_labels,
    parse_metadata,
    parse_series,
    top_level,
)
from relay.runtime.errors import DecodeError, TooLargeError
from tests.kit.examples import examples
from tests.kit.remote_write import prompb

STALE_BITS = 0x7FF0000000000002
SPECIAL_BITS = [
    STALE_BITS,
    0x7FF8000000000001,  # Prometheus' ordinary NaN
    0xFFF8000000000000,
    0x7FF0000000000000,  # infinities
    0xFFF0000000000000,
    0x8000000000000000,  # -0.0
    1,
]

texts = st.text(max_size=8)
loose_bytes = texts.map(str.encode) | st.binary(max_size=8) | st.sampled_from([b"", b"__name__"])
value_bits = st.sampled_from(SPECIAL_BITS) | st.integers(0, 2**64 - 1)
int64s = st.integers(-(2**63), 2**63 - 1) | st.integers(1_600_000_000_000, 1_900_000_000_000)
uint32s = st.integers(0, 2**32 - 1)
int32s = st.integers(-(2**31), 2**31 - 1) | st.integers(0, 7)

raw_labels = st.builds(prompb.RawLabel, name=loose_bytes, value=loose_bytes)
raw_samples = st.builds(prompb.RawSample, value=value_bits, timestamp=int64s)
raw_series = st.builds(
    prompb.RawTimeSeries,
    labels=st.lists(raw_labels, max_size=5),
    samples=st.lists(raw_samples, max_size=4),
    exemplars=st.lists(st.binary(max_size=6), max_size=2),
    histograms=st.lists(st.binary(max_size=6), max_size=2),
)
raw_metadata = st.builds(
    prompb.RawMetricMetadata,
    type=int32s,
    metric_family_name=loose_bytes,
    help=loose_bytes,
    unit=loose_bytes,
    account_id=st.integers(0, 2**32 - 1),
    project_id=st.integers(0, 2**32 - 1),
)
raw_requests = st.builds(
    prompb.RawWriteRequest,
    timeseries=st.lists(raw_series, max_size=4),
    metadata=st.lists(raw_metadata, max_size=3),
)

LABELS_MAX = 1000

# No deadline and no speed check: a busy machine is not a fault of the code.
usual = examples(60)


def decode(body: bytes) -> tuple[list[Any], list[Any]]:
    """Everything our decoder says about a body; a series' labels are a list or a fault's reason."""
    series: list[Any] = []
    metadata: list[Any] = []
    for number, start, stop in top_level(body):
        if number == 3:
            found = parse_metadata(body, start, stop)
            # The official class does not tell a number that is 0 from one that is absent.
            metadata.append((*found[:4], None if found.account == (0, 0) else found.account))
            continue
        parts = parse_series(body, start, stop)
        labels: Any
        try:
            labels = parse_labels(parts.key, labels_max=LABELS_MAX)
        except SeriesFault as fault:
            labels = fault.reason
        exemplars = [body[start:stop] for start, stop in parts.exemplars]
        histograms = [body[start:stop] for start, stop in parts.histograms]
        series.append((labels, parts.samples, exemplars, histograms))
    return series, metadata


def expected_labels(labels: Any) -> list[tuple[str, str]] | str:
    """The content rules once more, said the slow way."""
    names = [label.name for label in labels]
    if b"" in names:
        return "empty_label_name"
    if len(set(names)) < len(names):
        return "duplicate_label"
    try:
        pairs = [(label.name.decode(), label.value.decode()) for label in labels if label.value]
    except UnicodeDecodeError:
        return "invalid_utf8"
    if "__name__" not in dict(pairs):
        return "missing_name"
    return sorted(pairs)


def expected(message: Any) -> tuple[list[Any], list[Any]]:
    """What :func:`decode` must say of a message that the oracle holds."""
    series = [
        (
            expected_labels(item.labels),
            [(sample.value.to_bytes(8, "little"), sample.timestamp) for sample in item.samples],
            list(item.exemplars),
            list(item.histograms),
        )
        for item in message.timeseries
    ]
    metadata = [
        (
            item.type,
            item.metric_family_name.decode(errors="replace"),
            item.help.decode(errors="replace"),
            item.unit.decode(errors="replace"),
            account if any(account := (item.account_id, item.project_id)) else None,
        )
        for item in message.metadata
    ]
    return series, metadata


@usual
@given(raw_requests)
def test_what_the_official_classes_encode_is_decoded_equal(message: Any) -> None:
    assert decode(message.SerializeToString()) == expected(message)


strict_requests = st.builds(
    prompb.WriteRequest,
    timeseries=st.lists(
        st.builds(
            prompb.TimeSeries,
            labels=st.lists(st.builds(prompb.Label, name=texts, value=texts), max_size=4),
            samples=st.lists(
                st.builds(prompb.Sample, value=st.floats(), timestamp=int64s), max_size=3
            ),
            exemplars=st.lists(
                st.builds(prompb.Exemplar, value=st.floats(), timestamp=int64s), max_size=2
            ),
            histograms=st.lists(
                st.builds(
                    prompb.Histogram,
                    count_int=st.integers(0, 2**64 - 1),
                    schema=int32s,
                    positive_spans=st.lists(
                        st.builds(
                            prompb.BucketSpan, offset=int32s, length=st.integers(0, 2**32 - 1)
                        ),
                        max_size=2,
                    ),
                    positive_deltas=st.lists(int64s, max_size=3),
                    custom_values=st.lists(st.floats(), max_size=3),
                ),
                max_size=2,
            ),
        ),
        max_size=3,
    ),
    metadata=st.lists(
        st.builds(prompb.MetricMetadata, type=int32s, metric_family_name=texts, help=texts),
        max_size=2,
    ),
)


@usual
@given(strict_requests)
def test_the_complete_schema_is_decoded_equal(message: Any) -> None:
    series, metadata = decode(message.SerializeToString())
    for ours, theirs in zip(series, message.timeseries, strict=True):
        assert ours[1] == [(struct.pack("<d", s.value), s.timestamp) for s in theirs.samples]
        assert ours[2] == [exemplar.SerializeToString() for exemplar in theirs.exemplars]
        assert ours[3] == [histogram.SerializeToString() for histogram in theirs.histograms]
    assert metadata == [
        (item.type, item.metric_family_name, item.help, item.unit, None)
        for item in message.metadata
    ]


# Shapes that no encoder writes but every decoder must read: fields in any order, unknown fields and
# known numbers under foreign wire types in between, numbers longer than need be.


@st.composite
def long_varints(draw: st.DrawFn, values: st.SearchStrategy[int], bytes_max: int) -> bytes:
    encoded = bytearray(varint(draw(values)))
    while len(encoded) < bytes_max and draw(st.booleans()):
        encoded[-1] |= 0x80
        encoded.append(0)
    return bytes(encoded)


def tags(number: int, wire_type: int) -> st.SearchStrategy[bytes]:
    return long_varints(st.just(number << 3 | wire_type), 5)


@st.composite
def delimited(draw: st.DrawFn, number: int, payloads: st.SearchStrategy[bytes]) -> bytes:
    payload = draw(payloads)
    return draw(tags(number, 2)) + draw(long_varints(st.just(len(payload)), 5)) + payload


@st.composite
def unknown_fields(draw: st.DrawFn, known: tuple[int, ...]) -> bytes:
    """A field that the message does not have, or has under another wire type."""
    wire_type = draw(st.sampled_from([0, 1, 2, 5]))
    if wire_type == 2:
        number = draw(st.integers(1, 2**29 - 1).filter(lambda n: n not in known))
        return draw(delimited(number, st.binary(max_size=4)))
    # The known fields are all length-delimited, but for those that the callers leave out of this.
    number = draw(st.integers(16, 2**29 - 1) | st.sampled_from(known))
    if wire_type == 0:
        return draw(tags(number, 0)) + draw(long_varints(st.integers(0, 2**64 - 1), 10))
    size = 8 if wire_type == 1 else 4
    return draw(tags(number, wire_type)) + draw(st.binary(min_size=size, max_size=size))


def messages(*fields: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(st.one_of(*fields), max_size=6).map(b"".join)


odd_labels = messages(delimited(1, loose_bytes), delimited(2, loose_bytes), unknown_fields((1, 2)))
odd_samples = messages(
    st.builds(bytes.__add__, tags(1, 1), st.binary(min_size=8, max_size=8)),
    st.builds(bytes.__add__, tags(2, 0), long_varints(st.integers(0, 2**64 - 1), 10)),
    delimited(1, st.binary(max_size=3)),
    delimited(3, st.binary(max_size=3)),
)
odd_series = messages(
    delimited(1, odd_labels),
    delimited(1, odd_labels),
    delimited(2, odd_samples),
    delimited(3, st.binary(max_size=3)),
    delimited(4, st.binary(max_size=3)),
    unknown_fields((1, 2, 3, 4)),
)
odd_metadata = messages(
    st.builds(bytes.__add__, tags(1, 0), long_varints(st.integers(0, 2**64 - 1), 10)),
    delimited(2, loose_bytes),
    delimited(4, loose_bytes),
    delimited(5, loose_bytes),
    unknown_fields((2, 4, 5)),
)
odd_requests = messages(
    delimited(1, odd_series), delimited(3, odd_metadata), unknown_fields((1, 3))
)


@usual
@given(odd_requests)
def test_odd_shapes_mean_what_the_official_parser_says(body: bytes) -> None:
    assert decode(body) == expected(prompb.RawWriteRequest.FromString(body))


@usual
@given(odd_series)
def test_a_key_is_the_label_fields_and_nothing_else(body: bytes) -> None:
    key = parse_series(body, 0, len(body)).key
    official = prompb.RawTimeSeries.FromString(body)
    assert prompb.RawTimeSeries.FromString(key).labels == official.labels
    for number, wire_type, tag_at, _, _ in iter_fields(key, 0, len(key)):
        assert (number, wire_type, key[tag_at]) == (1, BYTES, 0x0A)


# Damage


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(raw_requests).SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        match draw(st.integers(0, 3)):
            case 0:
                body[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                body[at:at] = draw(st.binary(min_size=1, max_size=3))
            case 2:
                del body[at : at + draw(st.integers(1, 3))]
            case _:
                del body[at:]
    return bytes(body)


Schema = dict[int, "Schema"]
"""The messages inside a message, by field number."""

WRITE_REQUEST: Schema = {1: {1: {}, 2: {}}, 3: {}}


def shorten_lengths(message: bytes, schema: Schema) -> bytes:
    """Write a sound message again, its lengths in as few bytes as they need."""
    out = b""
    for number, wire_type, tag_at, payload, end in iter_fields(message, 0, len(message)):
        if wire_type != BYTES:
            out += message[tag_at:end]
            continue
        content = message[payload:end]
        if number in schema:
            content = shorten_lengths(content, schema[number])
        out += field_bytes(varint(number << 3 | BYTES), content)
    return out


def official(body: bytes) -> Any | None:
    try:
        return prompb.RawWriteRequest.FromString(body)
    except OfficialDecodeError:
        return None


@usual
@given(damaged() | st.binary(max_size=60))
@example(b"\x0b\x0c")  # a group
@example(b"\x0a\x80\x80\x80\x80\x80\x00")  # a length in six bytes
@example(b"\x0a\x0b" + b"\x12\x09\x10" + b"\xff" * 7 + b"\x7f")
@example(b"\x08" + b"\xff" * 9 + b"\x7f")  # ten bytes, more than 64 bits
@example(b"\xf8\xff\xff\xff\x0f\x00")  # the largest field number
@example(b"\xf8\xff\xff\xff\x1f\x00")
def test_damaged_bodies_are_accepted_and_refused_like_officially(body: bytes) -> None:
    message = official(body)
    try:
        ours = decode(body)
    except DecodeError as error:
        refusal = error
    else:
        if message is None:
            message = official(shorten_lengths(body, WRITE_REQUEST))
        assert message is not None, "officially refused"
        assert ours == expected(message)
        return
    assert 0 <= refusal.offset <= len(body)
    assert message is None or "wire type 3" in str(refusal)


@usual
@given(st.binary(max_size=200))
def test_arbitrary_bytes_end_in_a_value_or_in_a_named_error(data: bytes) -> None:
    readers: list[Callable[[], object]] = [
        lambda: list(iter_fields(data, 0, len(data))),
        lambda: top_level(data),
        lambda: parse_series(data, 0, len(data)),
        lambda: parse_labels(data, labels_max=5, bytes_max=100),
        lambda: parse_metadata(data, 0, len(data)),
    ]
    for read in readers:
        try:
            read()
        except (DecodeError, SeriesFault):
            continue


def _metadata(read: Callable[[bytes, int], object], data: bytes, entries_max: int) -> object:
    try:
        return read(data, entries_max)
    except (DecodeError, TooLargeError) as error:
        return type(error), str(error)


def _listed_metadata(data: bytes, entries_max: int) -> list[tuple[int, int]]:
    entries = top_level(data, entries_max=entries_max)
    return [(start, stop) for number, start, stop in entries if number == METADATA_FIELD]


def _found_metadata(data: bytes, entries_max: int) -> list[tuple[int, int]]:
    return list(metadata_spans(data, entries_max=entries_max))


@usual
@given(
    st.lists(
        st.sampled_from(
            [b"\x0a\x00", b"\x0a\x01a", b"\x0a\xac\x02" + b"s" * 300, b"\x1a\x02mm", b"\x10\x01"]
        ),
        max_size=8,
    ).map(b"".join),
    st.binary(max_size=4),
    st.integers(0, 9),
)
def test_metadata_is_found_as_the_careful_listing_finds_it(
    body: bytes, tail: bytes, entries_max: int
) -> None:
    for data in (body, body[: -1 - len(tail)], body + tail, body + b"\x0a\xff" + tail):
        found = _metadata(_found_metadata, data, entries_max)
        assert found == _metadata(_listed_metadata, data, entries_max)


@usual
@given(st.binary(max_size=30), st.data())
def test_a_decoder_stays_inside_its_slice(data: bytes, draw: st.DataObject) -> None:
    """The same bytes in the middle of others decode to the same, or fail the same way."""
    before = draw.draw(st.binary(max_size=5))
    behind = draw.draw(st.binary(max_size=5))
    whole = before + data + behind
    span = (len(before), len(before) + len(data))
    for read in (parse_series, parse_metadata):
        outcomes: list[Any] = []
        for body, start, stop in ((data, 0, len(data)), (whole, *span)):
            try:
                outcomes.append(read(body, start, stop))
            except DecodeError as error:
                outcomes.append(error.offset - start)
        assert outcomes[0] == outcomes[1]
