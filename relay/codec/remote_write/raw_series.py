"""Series as they came, for a sink that speaks remote write too: nothing interpreted, nothing lost.

Rules:

* Labels are what :mod:`relay.codec.remote_write.v1` calls a key: label fields of 1.0 as received.
  2.0's symbols are written out the same way, so that both versions give the same series.
* Values are the eight bytes that came, so that a stale marker keeps its payload. Histograms are
  their messages: both versions have the same fields, but for 2.0's start_timestamp (17).
* Schema -53 (custom buckets) has no place in 1.0 (remote write 1.0, ``custom_values``: "senders
  must not use"); :func:`histogram_for_v1` says so, and the caller counts it.
* ``created_timestamp``, which senders had before 2.0-rc.4, becomes the start of every sample and
  histogram that has none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from relay.codec.protobuf import (
    BYTES,
    FIELDS_MAX,
    FIXED64,
    VARINT,
    field_bytes,
    iter_fields,
    read_varint,
    signed64,
    varint,
    zigzag32,
)
from relay.codec.remote_write import v1, v2
from relay.codec.remote_write.exemplar import EXEMPLAR_FIELDS_MAX, read_label
from relay.codec.remote_write.native_histogram import PARTS_MAX, SCHEMA_CUSTOM
from relay.codec.remote_write.strict_messages import strict_label
from relay.codec.remote_write.v2 import Metadata2, Sample2

LABELS_BYTES_MAX = 1 << 20
"""Labels of one series or exemplar of 2.0, written out; the pipeline allows far fewer."""

_LABEL_TAG = b"\x0a"
_TEXT_TAG, _VALUE_TAG = 0x0A, 0x12  # TimeSeries.labels and Label.name; Label.value
_SHORT_FIELD = 130  # a label field below it has lengths of one byte each
_SCHEMA_FIELD, _START_FIELD = 4, 17  # of Histogram
_START_TAG = b"\x88\x01"
_ZERO = bytes(8)


class RawExemplar(NamedTuple):
    """An exemplar; ``labels`` are label fields of 1.0, ``value`` the eight bytes of a double."""

    labels: bytes
    value: bytes
    time_ms: int


class RawSeries(NamedTuple):
    """One series of one request.

    ``samples`` are (value, time in ms, start in ms or 0), ``histograms`` Histogram messages with
    2.0's fields; ``metadata`` is what 2.0 says beside the series, None for 1.0.
    """

    labels: bytes
    samples: Sequence[Sample2] = ()
    histograms: Sequence[bytes] = ()
    exemplars: Sequence[RawExemplar] = ()
    metadata: Metadata2 | None = None

    @property
    def is_empty(self) -> bool:
        """True if there is nothing but labels, and perhaps metadata."""
        return not (self.samples or self.histograms or self.exemplars)

    @property
    def points(self) -> int:
        """Number of samples and histograms."""
        return len(self.samples) + len(self.histograms)


def read_v1(data: bytes) -> tuple[list[RawSeries], list[v1.Metadata]]:
    """Read the series and the metadata of a decompressed ``prometheus.WriteRequest``, in order.

    Raises DecodeError and TooLargeError.
    """
    series: list[RawSeries] = []
    metadata: list[v1.Metadata] = []
    for field, start, stop in v1.top_level(data):
        if field == v1.METADATA_FIELD:
            metadata.append(v1.parse_metadata(data, start, stop))
            continue
        parts = v1.parse_series(data, start, stop)
        series.append(
            RawSeries(
                parts.key,
                [(value, time_ms, 0) for value, time_ms in parts.samples],
                [data[begin:end] for begin, end in parts.histograms],
                [exemplar_v1(data, begin, end) for begin, end in parts.exemplars],
            )
        )
    return series, metadata


def read_v2(data: bytes) -> list[RawSeries]:
    """Read the series of a decompressed ``io.prometheus.write.v2.Request``, in order.

    Raises DecodeError, TooLargeError, and SeriesFault for references that point nowhere.
    """
    symbols, spans = v2.parse_request(data)
    return [_series_v2(data, start, stop, symbols) for start, stop in spans]


def histogram_for_v1(message: bytes) -> bytes | None:
    """Return a Histogram of 2.0 as 1.0 may carry it: without a start; None for custom buckets.

    Raises DecodeError.
    """
    kept = bytearray()
    schema = 0
    for number, wire_type, tag_at, payload, end in _histogram_fields(message):
        if number == _SCHEMA_FIELD and wire_type == VARINT:
            schema = zigzag32(read_varint(message, payload, end)[0])
        if number != _START_FIELD:
            kept += message[tag_at:end]
    if schema == SCHEMA_CUSTOM:
        return None
    return message if len(kept) == len(message) else bytes(kept)


def label_fields(labels: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (whole field, name, value) of each label of a key. Raises DecodeError."""
    pos = 0
    end = len(labels)
    while pos + 5 < end:
        # Both texts short, as nearly all are: a fifth of the cost of the general way below.
        value_at = pos + 6 + labels[pos + 3]
        stop = pos + 2 + labels[pos + 1]
        if not (
            value_at <= stop <= end
            and stop - pos < _SHORT_FIELD
            and labels[pos] == labels[pos + 2] == _TEXT_TAG
            and labels[value_at - 2] == _VALUE_TAG
            and labels[value_at - 1] == stop - value_at
        ):
            break
        yield labels[pos:stop], labels[pos + 4 : value_at - 2], labels[value_at:stop]
        pos = stop
    for number, wire_type, tag_at, start, stop in iter_fields(labels, pos, end):
        if number != 1 or wire_type != BYTES:
            continue
        yield labels[tag_at:stop], *read_label(labels, start, stop)


def exemplar_v1(data: bytes, start: int, stop: int) -> RawExemplar:
    """Read the Exemplar message of 1.0 at ``data[start:stop]``. Raises DecodeError."""
    labels = bytearray()
    value = _ZERO
    time_ms = 0
    for number, wire_type, _, payload, end in iter_fields(
        data, start, stop, fields_max=EXEMPLAR_FIELDS_MAX
    ):
        if number == 1 and wire_type == BYTES:
            labels += field_bytes(_LABEL_TAG, strict_label(data[payload:end]))
        elif number == 2 and wire_type == FIXED64:
            value = data[payload:end]
        elif number == 3 and wire_type == VARINT:
            time_ms = signed64(read_varint(data, payload, end)[0])
    return RawExemplar(bytes(labels), value, time_ms)


def _series_v2(data: bytes, start: int, stop: int, symbols: v2.Symbols) -> RawSeries:
    parts = v2.parse_series(data, start, stop)
    created_ms = parts.created_ms
    metadata = None
    if parts.metadata is not None:
        metadata = v2.parse_metadata(data, *parts.metadata, symbols)
    return RawSeries(
        symbols.key(parts.refs, bytes_max=LABELS_BYTES_MAX),
        [(value, time_ms, begin or created_ms) for value, time_ms, begin in parts.samples],
        [with_start(data[begin:end], created_ms) for begin, end in parts.histograms],
        [exemplar_v2(data, begin, end, symbols) for begin, end in parts.exemplars],
        metadata,
    )


def exemplar_v2(data: bytes, start: int, stop: int, symbols: v2.Symbols) -> RawExemplar:
    """Read the Exemplar message of 2.0 at ``data[start:stop]``.

    Raises DecodeError, and SeriesFault for references that point nowhere.
    """
    refs: list[int] = []
    value = _ZERO
    time_ms = 0
    for number, wire_type, _, payload, end in iter_fields(
        data, start, stop, fields_max=v2.REFS_MAX
    ):
        if number == 1 and wire_type == BYTES:
            pos = payload
            while pos < end:
                ref, pos = read_varint(data, pos, end)
                refs.append(ref & 0xFFFFFFFF)
        elif number == 1 and wire_type == VARINT:
            refs.append(read_varint(data, payload, end)[0] & 0xFFFFFFFF)
        elif number == 2 and wire_type == FIXED64:
            value = data[payload:end]
        elif number == 3 and wire_type == VARINT:
            time_ms = signed64(read_varint(data, payload, end)[0])
    return RawExemplar(symbols.key(refs, bytes_max=LABELS_BYTES_MAX), value, time_ms)


def with_start(message: bytes, created_ms: int) -> bytes:
    """Return a Histogram message with this start, unless it has one of its own."""
    if not created_ms:
        return message
    for number, wire_type, _, payload, end in _histogram_fields(message):
        if number == _START_FIELD and wire_type == VARINT and read_varint(message, payload, end)[0]:
            return message
    return message + _START_TAG + varint(created_ms & 0xFFFFFFFFFFFFFFFF)


def _histogram_fields(message: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    return iter_fields(message, 0, len(message), fields_max=FIELDS_MAX + PARTS_MAX)
