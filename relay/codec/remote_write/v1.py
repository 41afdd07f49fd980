"""Remote write 1.0 in: the careful decoder, for every series on first sight and every odd shape.

Rules:

* Sans-IO and total: any bytes give values, :class:`~relay.runtime.errors.DecodeError` (the request
  is not protobuf), :class:`~relay.runtime.errors.TooLargeError` (more elements than a bounded list
  may hold) or
  :class:`SeriesFault` (this series alone is unusable). Nothing recurses; every loop consumes input.
* Schema: ``prometheus.WriteRequest`` {1 timeseries, 3 metadata}, ``TimeSeries`` {1 labels, 2
  samples, 3 exemplars, 4 histograms}, ``Label`` {1 name, 2 value}, ``Sample`` {1 double value, 2
  int64 timestamp in ms}, ``MetricMetadata`` {1 type, 2 metric_family_name, 4 help, 5 unit}
  (prometheus/prometheus, ``prompb/{remote,types}.proto``), and VictoriaMetrics' {11 AccountID, 12
  ProjectID}. Exemplars and histograms are cut out;
  :mod:`relay.codec.remote_write.exemplar` and :mod:`relay.codec.remote_write.native_histogram`
  look inside.
* Fields may come in any order and unknown ones are skipped. Of a repeated singular field the last
  wins (protobuf.dev, "Last One Wins"). None of the repeated fields read here is a scalar, so packed
  encoding does not arise.
* A known field number with a wire type that is not its own is an unknown field, as in Google's
  parsers; Prometheus' gogoproto code refuses it. Groups are refused, where Google's parsers skip
  them: proto3 has none and skipping them takes a stack.
* Protobuf says that one string of invalid UTF-8 spoils the whole message. Here it costs its series
  alone, so strings are carried as bytes until :func:`parse_labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Literal, NamedTuple

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

WriteProtocol = Literal["remote_write_v1", "remote_write_v2"]
"""Which message a body is; also the label of ``relay_received_samples_total``."""

Labels = list[tuple[str, str]]
"""(name, value) pairs, sorted by name, names unique and not empty, values not empty."""

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
"""The tag of a series, in the one byte that senders write."""

ELEMENTS_MAX = 500_000
"""Entries of one request: 50 times vmagent's largest block.

An empty message takes two bytes of body and over a hundred as a Python object, so without a bound
a 32 MiB body would cost gigabytes.
"""

SAMPLES_MAX = 50_000
"""Samples of one series in a request: five times vmagent's largest block."""

SERIES_FIELDS_MAX = 200_000
"""Fields of one series, of whatever kind."""

STEP = 256
"""Fields between two pauses: some hundred microseconds."""

Pause = Callable[[], None]
"""Called over and over where a message may be long, so that others have a turn; it may raise."""


def no_pause() -> None:
    """For callers whom nothing waits for."""


_NAME_LABEL = b"__name__"
_LABEL_TAG = b"\x0a"
_VALUE_TAG = b"\x12"
_LABEL_TAG_BYTE = 0x0A
_SERIES_TAG_BYTE = 0x0A
_ZERO_VALUE = bytes(8)
_QUOTE_CHARS_MAX = 80
_SCAN_STEP = 4096  # entries of a tenth of a microsecond


class SeriesFault(WireError):  # noqa: N818 - a fault is data to count, the request goes on
    """One series cannot be used, the rest of its request can; ``reason`` is for counting."""

    def __init__(self, reason: FaultReason, message: str) -> None:
        self.reason: FaultReason = reason
        super().__init__(message)


class SeriesParts(NamedTuple):
    """A TimeSeries message taken apart, nothing in it interpreted yet."""

    key: bytes
    """Its label fields, tag 0x0a each, in wire order: what identifies it; see parse_labels."""
    samples: list[tuple[bytes, int]]
    """(value as eight little-endian bytes, timestamp in ms), in wire order."""
    exemplars: list[tuple[int, int]]
    """(start, stop) of each Exemplar message."""
    histograms: list[tuple[int, int]]
    """(start, stop) of each Histogram message."""


class Metadata(NamedTuple):
    """One MetricMetadata message; ``type`` is the enum's number, 0 (unknown) where absent.

    ``account`` is VictoriaMetrics' AccountID and ProjectID, None where it has neither.
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

    Other fields are skipped. Raises DecodeError, and TooLargeError for more than ``entries_max``.
    """
    entries: list[tuple[int, int, int]] = []
    left = STEP
    for number, wire_type, _, start, stop in iter_fields(data, 0, len(data)):
        left -= 1
        if not left:
            left = STEP
            pause()
        if wire_type == BYTES and number in (SERIES_FIELD, METADATA_FIELD):
            if len(entries) >= entries_max:
                raise TooLargeError(f"over {entries_max} series and metadata in one request")
            entries.append((number, start, stop))
    return entries


def metadata_spans(
    data: bytes, *, entries_max: int = ELEMENTS_MAX, pause: Pause = no_pause
) -> list[tuple[int, int]]:
    """List (start, stop) of every metadata message of a WriteRequest: what :func:`top_level` says
    of them, and with its errors, at a fraction of the price."""
    count = pos = 0
    end = len(data)
    try:
        # Series as senders write them, which nearly always is all there is.
        while data[pos] == _SERIES_TAG_BYTE and count < entries_max:
            size = data[pos + 1]
            if size > 127:
                high = data[pos + 2]
                if high > 127:
                    break
                size += (high << 7) - 127  # and one byte more of length
            if pos + 2 + size > end:
                break
            pos += 2 + size
            count += 1
            if not count % _SCAN_STEP:
                pause()
    except IndexError:
        pass  # at the end, or within a length, which is found once more
    spans = []
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
                spans.append((start, stop))
    return spans


def parse_series(
    data: bytes,
    start: int,
    stop: int,
    *,
    samples_max: int = SAMPLES_MAX,
    pause: Pause = no_pause,
) -> SeriesParts:
    """Take the TimeSeries message at ``data[start:stop]`` apart.

    Labels are only cut out; :func:`parse_labels` looks inside. Raises DecodeError, and
    TooLargeError for more than ``samples_max`` samples.
    """
    key = b""
    key_start = key_stop = start  # the label fields seen so far, while they are one slice
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
    """Read a Sample; proto3 leaves zeros out, so what is absent is zero."""
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

    A label with an empty value is the same as no label (RW1, "Labels") and left out. Raises
    SeriesFault, for the first of: more than ``bytes_max`` bytes, more than ``labels_max`` labels
    (empty ones count), an empty name, a name given twice (whatever its values), invalid UTF-8, no
    or an empty ``__name__``. Within the limits, bytes that are not protobuf are found first and
    raise DecodeError (its offset counts from the key's start), which costs the request. Without
    ``bytes_max`` the caller has checked the key's length.
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
    """A series' key with these labels in this order, as senders write them."""
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
    """Apply the content rules to pairs sorted by name; UTF-8 sorts like the text it encodes."""
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
    """A sender's bytes for an error message: bounded, printable."""
    return ascii(name[:_QUOTE_CHARS_MAX].decode(errors="replace"))


def parse_metadata(data: bytes, start: int, stop: int) -> Metadata:
    """Decode the MetricMetadata message at ``data[start:stop]``. Raises DecodeError.

    Bytes that are not UTF-8 become U+FFFD: text for people is no reason to refuse a request, and a
    family spoilt that way names no series that we accept.
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
