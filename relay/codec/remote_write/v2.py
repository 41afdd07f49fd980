"""Decode remote write 2.0, ``io.prometheus.write.v2.Request``.

* Errors and bounds are those of :mod:`relay.codec.remote_write.v1`.
* Schema (prometheus/prometheus, ``prompb/io/prometheus/write/v2/types.proto``): ``Request`` {4
  symbols, 5 timeseries}, ``TimeSeries`` {1 labels_refs, 2 samples, 3 histograms, 4 exemplars, 5
  metadata, 6 created_timestamp}, ``Sample`` {1 value, 2 timestamp, 3 start_timestamp}, ``Exemplar``
  {1 labels_refs, 2 value, 3 timestamp}, ``Metadata`` {1 type, 3 help_ref, 4 unit_ref}. Senders
  before 2.0-rc.4 use field 6 instead of start_timestamp.
* Labels are re-encoded as in remote write 1.0, so that a series has one key in both versions.
* ``symbols[0]`` should be "" and is ignored: a help or unit of reference 0 is absent.
* References that are odd in number or out of range are a fault of their series alone.
* ``labels_refs`` may be packed or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from relay.codec.otlp.data_points import Exemplar
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
from relay.codec.remote_write.exemplar import make_exemplar
from relay.codec.remote_write.v1 import (
    ELEMENTS_MAX,
    SAMPLES_MAX,
    SERIES_FIELDS_MAX,
    STEP,
    Pause,
    SeriesFault,
    Spans,
    no_pause,
)
from relay.runtime.errors import DecodeError, TooLargeError

SYMBOLS_FIELD, SERIES_FIELD = 4, 5

REFS_MAX = 4_096
"""Most references of one series or exemplar; the pipeline allows far fewer labels."""

FIELDS_BYTES_MAX = 16 * 1024 * 1024
"""Most bytes of encoded labels cached per request; Prometheus' largest request needs about 100
kB."""

FIELD_BYTES_MAX = 1024
"""Longest encoded label that is cached, in bytes: it keeps a key of :data:`REFS_MAX` references
below 2 MiB."""

_LABEL_TAG = b"\x0a"
_NAME_TAG, _VALUE_TAG = b"\x0a", b"\x12"
_ZERO = bytes(8)
_REF_BYTES_MAX = 10  # of a varint
_REFS_TAG, _SAMPLES_TAG, _METADATA_TAG = 0x0A, 0x12, 0x2A  # TimeSeries 1, 2, 5
_SAMPLE_VALUE_TAG, _SAMPLE_TIME_TAG = 0x09, 0x10  # Sample 1, fixed64, and 2, varint

Span = tuple[int, int]
Sample2 = tuple[bytes, int, int]
"""(value as eight little-endian bytes, timestamp in ms, start in ms or 0)."""


class Metadata2(NamedTuple):
    """Metadata of a series; ``type`` is the enum's number, the same as in 1.0."""

    type: int
    help: str
    unit: str


class SeriesParts2(NamedTuple):
    """Parts of a TimeSeries message. ``created_ms`` is its field 6, 0 if absent."""

    refs: list[int]
    samples: list[Sample2]
    histograms: list[Span]
    exemplars: list[Span]
    metadata: Span | None
    created_ms: int


class Symbols:
    """Symbol table of one request."""

    __slots__ = ("_fields", "_fields_bytes", "_table", "declared")

    def __init__(self, table: list[bytes]) -> None:
        self._table = table
        self._fields: dict[tuple[int, int], bytes] = {}
        self._fields_bytes = 0
        self.declared: dict[bytes, Any] = {}
        """Cache for the caller: parsed metadata by its encoding, which the series of a metric
        repeat."""

    def key(self, refs: Sequence[int], *, bytes_max: int) -> bytes:
        """Return a series' key: its labels as remote write 1.0 encodes them.

        Raise SeriesFault for invalid references, and for labels of over ``bytes_max`` bytes: a few
        references may expand to any amount of text.
        """
        if len(refs) % 2:
            raise SeriesFault("symbol_refs", f"{len(refs)} label references, an odd number")
        parts = list(map(self._fields.get, zip(refs[::2], refs[1::2], strict=True)))
        if None in parts:
            self._write_missing(refs, parts, bytes_max)
        # Every cached field is small, so the join is bounded before it is measured.
        key = b"".join(parts)  # type: ignore[arg-type]  # none is missing now
        if len(key) > bytes_max:
            raise SeriesFault("too_large", f"labels of over {bytes_max} bytes")
        return key

    def _write_missing(
        self, refs: Sequence[int], parts: list[bytes | None], bytes_max: int
    ) -> None:
        """Encode the labels that this request has not used before."""
        size = 0
        for place, part in enumerate(parts):
            if part is not None:
                continue
            pair = refs[2 * place], refs[2 * place + 1]
            name, value = map(self._at, pair)
            if len(name) + len(value) > bytes_max:
                raise SeriesFault("too_large", f"a label of over {bytes_max} bytes")
            label = field_bytes(_NAME_TAG, name) + field_bytes(_VALUE_TAG, value)
            field = parts[place] = field_bytes(_LABEL_TAG, label)
            self._keep(pair, field)
            size += len(field)
            if size > bytes_max:
                raise SeriesFault("too_large", f"labels of over {bytes_max} bytes")

    def _keep(self, pair: tuple[int, int], field: bytes) -> None:
        self._fields_bytes += len(field)
        if len(field) <= FIELD_BYTES_MAX and self._fields_bytes <= FIELDS_BYTES_MAX:
            self._fields[pair] = field

    def number(self, symbol: bytes) -> int | None:
        """Return the reference of a string; None if the request does not have it."""
        try:
            return self._table.index(symbol)
        except ValueError:
            return None

    def text(self, ref: int) -> str:
        """Return a help text or unit; invalid UTF-8 becomes U+FFFD, an invalid reference ""."""
        return self._table[ref].decode(errors="replace") if 0 < ref < len(self._table) else ""

    def exemplar(self, data: bytes, start: int, stop: int) -> Exemplar | None:
        """Decode the Exemplar message at ``data[start:stop]``; None if it is unusable.

        Raise DecodeError if it is not protobuf.
        """
        refs: list[int] = []
        value = _ZERO
        time_ms = 0
        for number, wire_type, _, payload, end in iter_fields(
            data, start, stop, fields_max=REFS_MAX
        ):
            if number == 1:
                _read_refs(refs, data, wire_type, payload, end)
            elif number == 2 and wire_type == FIXED64:
                value = data[payload:end]
            elif number == 3 and wire_type == VARINT:
                time_ms = signed64(read_varint(data, payload, end)[0])
        if len(refs) % 2:
            return None
        try:
            labels = [
                (self._at(name), self._at(text))
                for name, text in zip(refs[::2], refs[1::2], strict=True)
            ]
        except SeriesFault:
            return None
        return make_exemplar(labels, value, time_ms)

    def _at(self, ref: int) -> bytes:
        if ref >= len(self._table):
            raise SeriesFault(
                "symbol_refs", f"a reference to symbol {ref}, of {len(self._table)} there are"
            )
        return self._table[ref]


def parse_request(
    data: bytes, *, entries_max: int = ELEMENTS_MAX, pause: Pause = no_pause
) -> tuple[Symbols, Spans]:
    """Return the symbols and the extents of all series; they may come in any order.

    Raise DecodeError, and TooLargeError for more than ``entries_max`` of both together.
    """
    symbols: list[bytes] = []
    series = Spans()
    left = STEP
    fields = iter_fields(data, 0, len(data), fields_max=2 * entries_max)
    for number, wire_type, _, start, stop in fields:
        left -= 1
        if not left:
            left = STEP
            pause()
        if wire_type != BYTES or number not in (SYMBOLS_FIELD, SERIES_FIELD):
            continue
        if len(symbols) + len(series) >= entries_max:
            while symbols:
                del symbols[-STEP:]
                pause()
            raise TooLargeError(f"over {entries_max} symbols and series in one request")
        if number == SYMBOLS_FIELD:
            symbols.append(data[start:stop])
        else:
            series.append(start, stop)
    return Symbols(symbols), series


def parse_series(
    data: bytes,
    start: int,
    stop: int,
    *,
    entries_max: int = SAMPLES_MAX,
    pause: Pause = no_pause,
) -> SeriesParts2:
    """Split the TimeSeries message at ``data[start:stop]`` into its parts.

    Raise DecodeError, and TooLargeError for more than ``entries_max`` samples, histograms and
    exemplars.
    """
    common = _parse_common_series(data, start, stop)
    if common is not None:
        return common
    parts = SeriesParts2([], [], [], [], None, 0)
    metadata: Span | None = None
    created_ms = 0
    left = STEP
    fields = iter_fields(data, start, stop, fields_max=max(SERIES_FIELDS_MAX, entries_max))
    for number, wire_type, _, payload, end in fields:
        left -= 1
        if not left:
            left = STEP
            pause()
        if number == 1:
            _read_refs(parts.refs, data, wire_type, payload, end)
        elif number == 6 and wire_type == VARINT:
            created_ms = signed64(read_varint(data, payload, end)[0])
        elif wire_type != BYTES:
            continue
        elif number == 2:
            parts.samples.append(_sample(data, payload, end))
        elif number == 3:
            parts.histograms.append((payload, end))
        elif number == 4:
            parts.exemplars.append((payload, end))
        elif number == 5:
            metadata = payload, end
        if len(parts.samples) + len(parts.histograms) + len(parts.exemplars) > entries_max:
            raise TooLargeError(
                f"over {entries_max} samples, histograms and exemplars in one series"
            )
    return parts._replace(metadata=metadata, created_ms=created_ms)


def _parse_common_series(data: bytes, start: int, stop: int) -> SeriesParts2 | None:
    """Parse a short series of packed references, one sample and optional metadata.

    Return None for any other: the caller then uses the validating path.
    """
    try:
        samples_at = start + 2 + data[start + 1]
        sample = samples_at + 2
        metadata_at = sample + data[samples_at + 1]
        if (
            data[start] != _REFS_TAG
            or data[samples_at] != _SAMPLES_TAG
            or max(data[start + 1], data[samples_at + 1]) > 127
        ):
            return None
        metadata: Span | None = None
        if metadata_at != stop:
            metadata = metadata_at + 2, stop
            if (
                data[metadata_at] != _METADATA_TAG
                or metadata_at + 2 + data[metadata_at + 1] != stop
            ):
                return None
        value = _ZERO
        if data[sample] == _SAMPLE_VALUE_TAG:
            value = data[sample + 1 : sample + 9]
            sample += 9
        if data[sample] != _SAMPLE_TIME_TAG:
            return None
        time_ms, after = read_varint(data, sample + 1, metadata_at)
    except (IndexError, DecodeError):
        return None
    if after != metadata_at:
        return None
    refs: list[int] = []
    _read_packed(refs, data, start + 2, samples_at)
    return SeriesParts2(refs, [(value, signed64(time_ms), 0)], [], [], metadata, 0)


def parse_metadata(data: bytes, start: int, stop: int, symbols: Symbols) -> Metadata2:
    """Decode the Metadata message at ``data[start:stop]``. Raise DecodeError."""
    kind = help_ref = unit_ref = 0
    for number, wire_type, _, payload, end in iter_fields(data, start, stop, fields_max=FIELDS_MAX):
        if wire_type != VARINT:
            continue
        value = read_varint(data, payload, end)[0]
        if number == 1:
            kind = value & 0xFFFFFFFF
        elif number == 3:
            help_ref = value & 0xFFFFFFFF
        elif number == 4:
            unit_ref = value & 0xFFFFFFFF
    return Metadata2(kind, symbols.text(help_ref), symbols.text(unit_ref))


def _read_refs(refs: list[int], data: bytes, wire_type: int, start: int, stop: int) -> None:
    """Append the references of one field, packed or single."""
    if wire_type == BYTES:
        if stop - start > _REF_BYTES_MAX * REFS_MAX:
            raise DecodeError(f"over {REFS_MAX} label references", offset=start)
        _read_packed(refs, data, start, stop)
    elif wire_type == VARINT:
        refs.append(read_varint(data, start, stop)[0] & 0xFFFFFFFF)
    if len(refs) > REFS_MAX:
        # A SeriesFault would require keeping them until the series' end.
        raise DecodeError(f"over {REFS_MAX} label references", offset=start)


def _read_packed(refs: list[int], data: bytes, start: int, stop: int) -> None:
    found: list[int] = []
    low = -1
    for byte in data[start:stop]:
        if low < 0:
            if byte < 128:
                found.append(byte)
            else:
                low = byte & 127
        elif byte < 128:
            found.append(low | byte << 7)
            low = -1
        else:
            break
    if low < 0:
        refs += found
        return
    pos = start
    while pos < stop:
        value, pos = read_varint(data, pos, stop)
        refs.append(value & 0xFFFFFFFF)


def _sample(data: bytes, start: int, stop: int) -> Sample2:
    value8 = _ZERO
    timestamp_ms = start_ms = 0
    for number, wire_type, _, payload, end in iter_fields(data, start, stop, fields_max=FIELDS_MAX):
        if number == 1 and wire_type == FIXED64:
            value8 = data[payload:end]
        elif number == 2 and wire_type == VARINT:
            timestamp_ms = signed64(read_varint(data, payload, end)[0])
        elif number == 3 and wire_type == VARINT:
            start_ms = signed64(read_varint(data, payload, end)[0])
    return value8, timestamp_ms, start_ms
