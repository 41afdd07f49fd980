"""Decode remote write 1.0: the validating decoder, for new series and unusual encodings.

* Any input gives values, :class:`~relay.runtime.errors.DecodeError` (not protobuf),
  :class:`~relay.runtime.errors.TooLargeError` (a list over its bound) or :class:`SeriesFault` (one
  unusable series). No recursion; every loop consumes input.
* Schema (prometheus/prometheus, ``prompb/{remote,types}.proto``): ``WriteRequest`` {1 timeseries, 3
  metadata}, ``TimeSeries`` {1 labels, 2 samples, 3 exemplars, 4 histograms}, ``Label`` {1 name, 2
  value}, ``Sample`` {1 double value, 2 int64 timestamp in ms}, ``MetricMetadata`` {1 type, 2
  metric_family_name, 4 help, 5 unit}, and VictoriaMetrics' {11 AccountID, 12 ProjectID}.
* Fields may come in any order, unknown ones are skipped; of a repeated singular field the last wins
  (protobuf.dev, "Last One Wins"). No repeated field here is a scalar, so none is packed.
* A known field with another wire type is unknown, as in Google's parsers. Groups are refused.
* Invalid UTF-8 costs only its series: strings stay bytes until :func:`parse_labels`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

from relay.codec.protobuf import (
    BYTES,
    FIELDS_MAX,
    FIXED64,
    VARINT,
    field_bytes,
    iter_fields,
    read_varint,
    signed64,
)
from relay.runtime.errors import DecodeError, TooLargeError, WireError

WriteProtocol: TypeAlias = str
"""Name of the message that a body is: ``remote_write_v1``, ``remote_write_v2``, or of another
decoder of the pipeline."""

Labels = list[tuple[str, str]]
"""(name, value) pairs, sorted by name, names unique, neither empty."""

FaultReason = Literal[
    "duplicate_label",
    "empty_label_name",
    "invalid_utf8",
    "missing_name",
    "symbol_refs",
    "too_large",
    "too_many_labels",
]

SERIES_FIELD, METADATA_FIELD = 1, 3
"""WriteRequest fields that :func:`top_level` reports."""

SERIES_TAG = 0x0A
"""Tag of a series, as its one-byte encoding."""

ELEMENTS_MAX = 500_000
"""Most entries of one request: 50 times vmagent's largest block. An empty message takes two bytes
of body but over a hundred as a Python object; without a bound a body of 32 MiB could take
gigabytes."""

SAMPLES_MAX = 50_000
"""Most samples of one series in a request: five times vmagent's largest block."""

SERIES_FIELDS_MAX = 200_000
"""Most fields of one series, of any kind."""

STEP = 256
"""Fields between two calls of ``pause``: some hundred microseconds."""

Pause = Callable[[], None]
"""Called regularly while parsing long messages, to yield to other work; may raise."""


def no_pause() -> None:
    """Do nothing; for callers that need not yield."""


_NAME_LABEL = b"__name__"
_LABEL_TAG = b"\x0a"
_VALUE_TAG = b"\x12"
_LABEL_TAG_BYTE = 0x0A
_SERIES_TAG_BYTE = 0x0A
_ZERO_VALUE = bytes(8)
_QUOTE_CHARS_MAX = 80
_SCAN_STEP = 4096  # entries between two pauses, 0.1 µs each


class SeriesFault(WireError):  # noqa: N818 - a fault is data to count, the request goes on
    """Report one unusable series; the rest of its request is valid. ``reason`` is for counting."""

    def __init__(self, reason: FaultReason, message: str) -> None:
        self.reason: FaultReason = reason
        super().__init__(message)


class SeriesParts(NamedTuple):
    """Parts of a TimeSeries message, not interpreted."""

    key: bytes
    """Label fields, tag 0x0a each, in wire order: the series' identity; input of parse_labels."""
    samples: list[tuple[bytes, int]]
    """(value as eight little-endian bytes, timestamp in ms), in wire order."""
    exemplars: list[tuple[int, int]]
    """(start, stop) of each Exemplar message."""
    histograms: list[tuple[int, int]]
    """(start, stop) of each Histogram message."""


class Spans:
    """(start, stop) of many messages: freed at once, which takes 40 ms for 500,000 tuples."""

    __slots__ = ("_starts", "_stops")

    def __init__(self) -> None:
        self._starts = array("q")
        self._stops = array("q")

    def append(self, start: int, stop: int) -> None:
        """Append a message."""
        self._starts.append(start)
        self._stops.append(stop)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    def __repr__(self) -> str:
        return f"<Spans of {len(self)} messages>"


class Metadata(NamedTuple):
    """One MetricMetadata message; ``type`` is the enum's number, 0 (unknown) if absent.

    ``account`` is VictoriaMetrics' (AccountID, ProjectID), None if it has neither.
    """

    type: int
    family: str
    help: str
    unit: str
    account: tuple[int, int] | None = None


def top_level(
    data: bytes, *, entries_max: int = ELEMENTS_MAX, pause: Pause = no_pause
) -> list[tuple[int, int, int]]:
    """List (field, start, stop) of every series and metadata message of a WriteRequest, in order.

    Other fields are skipped. Raise DecodeError, and TooLargeError for more than ``entries_max``.
    """
    return list(iter_top_level(data, entries_max=entries_max, pause=pause))


def iter_top_level(
    data: bytes, *, entries_max: int = ELEMENTS_MAX, pause: Pause = no_pause
) -> Iterator[tuple[int, int, int]]:
    """Yield what :func:`top_level` lists, and raise like it when it gets there."""
    entries = 0
    left = STEP
    for number, wire_type, _, start, stop in iter_fields(data, 0, len(data)):
        left -= 1
        if not left:
            left = STEP
            pause()
        if wire_type == BYTES and number in (SERIES_FIELD, METADATA_FIELD):
            if entries >= entries_max:
                raise TooLargeError(f"over {entries_max} series and metadata in one request")
            entries += 1
            yield number, start, stop


def metadata_spans(
    data: bytes, *, entries_max: int = ELEMENTS_MAX, pause: Pause = no_pause
) -> Spans:
    """Return the extents of all metadata messages of a WriteRequest.

    Same results and errors as :func:`top_level`, but faster.
    """
    count = pos = 0
    end = len(data)
    try:
        # Skip series in canonical encoding, usually the whole body.
        while data[pos] == _SERIES_TAG_BYTE and count < entries_max:
            size = data[pos + 1]
            if size > 127:
                high = data[pos + 2]
                if high > 127:
                    break
                size += (high << 7) - 127  # minus the flag bit, plus one byte of length
            if pos + 2 + size > end:
                break
            pos += 2 + size
            count += 1
            if not count % _SCAN_STEP:
                pause()
    except IndexError:
        pass  # at the end, or inside a length, which the loop below reports
    spans = Spans()
    left = STEP
    for number, wire_type, _, start, stop in iter_fields(data, pos, end):
        left -= 1
        if not left:
            left = STEP
            pause()
        if wire_type == BYTES and number in (SERIES_FIELD, METADATA_FIELD):
            if count >= entries_max:
                raise TooLargeError(f"over {entries_max} series and metadata in one request")
            count += 1
            if number == METADATA_FIELD:
                spans.append(start, stop)
    return spans


def parse_series(
    data: bytes,
    start: int,
    stop: int,
    *,
    samples_max: int = SAMPLES_MAX,
    pause: Pause = no_pause,
) -> SeriesParts:
    """Split the TimeSeries message at ``data[start:stop]`` into its parts.

    Labels are only cut out; :func:`parse_labels` decodes them. Raise DecodeError, and TooLargeError
    for more than ``samples_max`` samples.
    """
    key = b""
    key_start = key_stop = start  # extent of the label fields while they are contiguous
    scattered: bytearray | None = None  # their copy, once they are not
    samples: list[tuple[bytes, int]] = []
    exemplars: list[tuple[int, int]] = []
    histograms: list[tuple[int, int]] = []
    left = STEP
    fields = iter_fields(data, start, stop, fields_max=max(SERIES_FIELDS_MAX, samples_max))
    for number, wire_type, tag_at, payload, end in fields:
        left -= 1
        if not left:
            left = STEP
            pause()
        if wire_type != BYTES:
            continue
        if number == 1:
            if scattered is None and data[tag_at] == _LABEL_TAG_BYTE:
                if key_start == key_stop:
                    key_start = key_stop = tag_at
                if key_stop == tag_at:
                    key_stop = end
                    continue
            if scattered is None:
                scattered = bytearray(data[key_start:key_stop])
            scattered += field_bytes(_LABEL_TAG, data[payload:end])
        elif number == 2:
            if len(samples) >= samples_max:
                raise TooLargeError(f"over {samples_max} samples in one series")
            samples.append(_parse_sample(data, payload, end))
        elif number in (3, 4):
            parts = exemplars if number == 3 else histograms
            if len(parts) >= samples_max:
                raise TooLargeError(f"over {samples_max} exemplars or histograms in one series")
            parts.append((payload, end))
    key = data[key_start:key_stop] if scattered is None else bytes(scattered)
    return SeriesParts(key, samples, exemplars, histograms)


def _parse_sample(data: bytes, start: int, stop: int) -> tuple[bytes, int]:
    """Parse a Sample; proto3 omits zeros, so an absent field is zero."""
    value8 = _ZERO_VALUE
    timestamp_ms = 0
    for number, wire_type, _, payload, end in iter_fields(data, start, stop, fields_max=FIELDS_MAX):
        if number == 1 and wire_type == FIXED64:
            value8 = data[payload:end]
        elif number == 2 and wire_type == VARINT:
            timestamp_ms = signed64(read_varint(data, payload, end)[0])
    return value8, timestamp_ms


def parse_labels(key: bytes, *, labels_max: int, bytes_max: int | None = None) -> Labels:
    """Decode a series' key, a concatenation of TimeSeries.labels fields, to its sorted labels.

    A label with an empty value is dropped: it equals no label (RW1, "Labels"). Raise SeriesFault
    for the first of: more than ``bytes_max`` bytes, more than ``labels_max`` labels (empty ones
    count), an empty name, a repeated name, invalid UTF-8, a missing or empty ``__name__``. Raise
    DecodeError (offset from the key's start) for bytes that are not protobuf; it costs the whole
    request. Without ``bytes_max`` the caller must have checked the key's length.
    """
    if bytes_max is not None and len(key) > bytes_max:
        raise SeriesFault("too_large", f"labels of {len(key)} bytes, over the limit of {bytes_max}")
    pairs: list[tuple[bytes, bytes]] = []
    for number, wire_type, _, start, stop in iter_fields(key, 0, len(key)):
        if number != 1 or wire_type != BYTES:
            raise DecodeError("a series' key holds label fields only", offset=start)
        if len(pairs) >= labels_max:
            raise SeriesFault("too_many_labels", f"over {labels_max} labels")
        pairs.append(_parse_label(key, start, stop))
    pairs.sort()
    return _checked(pairs)


def label_key(labels: Iterable[tuple[str, str]]) -> bytes:
    """Encode labels, in this order, as a series' key in canonical form."""
    fields = []
    for name, value in labels:
        label = field_bytes(_LABEL_TAG, name.encode()) + field_bytes(_VALUE_TAG, value.encode())
        fields.append(field_bytes(_LABEL_TAG, label))
    return b"".join(fields)


def _parse_label(data: bytes, start: int, stop: int) -> tuple[bytes, bytes]:
    name = value = b""
    for number, wire_type, _, payload, end in iter_fields(data, start, stop, fields_max=FIELDS_MAX):
        if wire_type != BYTES:
            continue
        if number == 1:
            name = data[payload:end]
        elif number == 2:
            value = data[payload:end]
    return name, value


def _checked(pairs: list[tuple[bytes, bytes]]) -> Labels:
    """Validate pairs sorted by name; UTF-8 sorts like the text it encodes."""
    if pairs and not pairs[0][0]:
        raise SeriesFault("empty_label_name", "a label has no name")
    for (name, _), (following, _) in pairwise(pairs):
        if name == following:
            raise SeriesFault("duplicate_label", f"label {_quoted(name)} is given twice")
    labels: Labels = []
    named = False
    for name, value in pairs:
        try:
            if value:
                labels.append((name.decode(), value.decode()))
        except UnicodeDecodeError:
            raise SeriesFault("invalid_utf8", f"label {_quoted(name)} is not valid UTF-8") from None
        named = named or bool(value and name == _NAME_LABEL)
    if not named:
        raise SeriesFault("missing_name", "no __name__ label")
    return labels


def _quoted(name: bytes) -> str:
    """Quote a sender's bytes for an error message: bounded and printable."""
    return ascii(name[:_QUOTE_CHARS_MAX].decode(errors="replace"))


def parse_metadata(data: bytes, start: int, stop: int) -> Metadata:
    """Decode the MetricMetadata message at ``data[start:stop]``. Raise DecodeError.

    Invalid UTF-8 becomes U+FFFD: help texts must not fail a request, and a family with such a name
    matches no accepted series.
    """
    kind = 0
    texts = {2: b"", 4: b"", 5: b""}
    account: dict[int, int] = {}
    for number, wire_type, _, payload, end in iter_fields(data, start, stop, fields_max=FIELDS_MAX):
        if number == 1 and wire_type == VARINT:
            low = read_varint(data, payload, end)[0] & 0xFFFFFFFF
            kind = low - (1 << 32) if low >= 1 << 31 else low  # an enum is an int32
        elif wire_type == BYTES and number in texts:
            texts[number] = data[payload:end]
        elif number in (11, 12) and wire_type == VARINT:
            account[number] = read_varint(data, payload, end)[0] & 0xFFFFFFFF
    family, help_text, unit = (text.decode(errors="replace") for text in texts.values())
    marked = (account.get(11, 0), account.get(12, 0)) if account else None
    return Metadata(kind, family, help_text, unit, marked)
