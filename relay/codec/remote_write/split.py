"""Cut an encoded remote-write request in two, for endpoints that find it too large.

Rules:

* For requests of our own (:mod:`relay.codec.remote_write.encode`): whatever stands in one half does
  not stand in the other, and everything keeps its order.
* The cut is where the halves' encoded bytes are nearest to each other. What is said of one series
  is cut only where nothing else is in the request.
* 1.0 is cut as bytes. In 2.0 references are written anew, because each half needs the symbols that
  it names, and those alone: with all of them no half would ever be small enough.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from relay.codec.protobuf import BYTES, field_bytes, iter_fields, read_varint, varint
from relay.codec.remote_write import v1, v2
from relay.codec.remote_write.encode import Encoded, encode_requests, halves_of
from relay.codec.remote_write.raw_series import RawSeries, read_v1, read_v2
from relay.codec.remote_write.v1 import WriteProtocol
from relay.runtime.errors import DecodeError

_LABEL_TAG, _SAMPLE_TAG = 0x0A, 0x12  # TimeSeries 1 and 2 of 1.0
_REFS_FIELD, _SAMPLES_FIELD, _HISTOGRAMS_FIELD = 1, 2, 3  # TimeSeries of 2.0
_EXEMPLARS_FIELD, _METADATA_FIELD = 4, 5
_TEXT_FIELDS = (3, 4)  # Metadata.help_ref and unit_ref
_REFS_TAG, _EXEMPLARS_TAG, _METADATA_TAG = b"\x0a", b"\x22", b"\x2a"
_SYMBOL_TAG, _SERIES_TAG = b"\x22", b"\x2a"  # Request 4 and 5
_UNBOUNDED = 1 << 62


def count_points(data: bytes, protocol: WriteProtocol) -> int:
    """Count the samples and histograms of a request. Raises DecodeError."""
    if protocol == "remote_write_v1":
        return sum(_entry_points(data, entry) for entry in v1.top_level(data))
    return sum(_points_v2(data, start, stop) for start, stop in v2.parse_request(data)[1])


def split_in_two(data: bytes, protocol: WriteProtocol) -> tuple[Encoded, Encoded] | None:
    """Cut a request; None where it holds one point, exemplar or piece of metadata alone.

    Raises DecodeError for bytes that are no such request.
    """
    return _split_v1(data) if protocol == "remote_write_v1" else _split_v2(data)


def split_below(data: bytes, protocol: WriteProtocol, bytes_max: int) -> list[Encoded]:
    """Cut a request until no piece exceeds ``bytes_max`` encoded bytes or can be cut; keep order.

    Raises DecodeError.
    """
    done: list[Encoded] = []
    left = [Encoded(data, count_points(data, protocol))]
    while left:
        piece = left.pop()
        halves = split_in_two(piece.data, protocol) if len(piece.data) > bytes_max else None
        if halves is None:
            done.append(piece)
        else:
            left += reversed(halves)
    return done


def _split_v1(data: bytes) -> tuple[Encoded, Encoded] | None:
    entries = v1.top_level(data)
    if not entries:
        return None
    if len(entries) == 1:
        return _split_series(data) if entries[0][0] == v1.SERIES_FIELD else None
    points = list(accumulate(_entry_points(data, entry) for entry in entries))
    cut = _nearest_to_half([stop for _, _, stop in entries])
    if points[-1] > 1 and points[cut - 1] in (0, points[-1]):
        # Metadata and exemplars weigh most; what has no point cannot be sent in a request alone.
        cut = bisect_left(points, min(max(1, points[cut - 1]), points[-1] - 1)) + 1
        # All points may be in the last entry, which is cut once it stands alone.
        cut = min(cut, len(entries) - 1)
    at = entries[cut - 1][2]
    return Encoded(data[:at], points[cut - 1]), Encoded(data[at:], points[-1] - points[cut - 1])


def _entry_points(data: bytes, entry: tuple[int, int, int]) -> int:
    field, start, stop = entry
    return _points_v1(data, start, stop) if field == v1.SERIES_FIELD else 0


def _split_series(data: bytes) -> tuple[Encoded, Encoded] | None:
    """Cut a request of 1.0 with one series."""
    halves = halves_of(read_v1(data)[0][0], "remote_write_v1")
    if halves is None:
        return None
    first, second = (_whole([half], "remote_write_v1") for half in halves)
    return first, second


def _split_v2(data: bytes) -> tuple[Encoded, Encoded] | None:
    symbols: list[bytes] = []
    series: list[tuple[int, int]] = []
    for number, wire_type, _, start, stop in iter_fields(data, 0, len(data)):
        if wire_type == BYTES and number == v2.SYMBOLS_FIELD:
            symbols.append(data[start:stop])
        elif wire_type == BYTES and number == v2.SERIES_FIELD:
            series.append((start, stop))
    if not series:
        return None
    if len(series) == 1:
        halves = halves_of(read_v2(data)[0], "remote_write_v2")
        if halves is None:
            return None
        return _whole([halves[0]], "remote_write_v2"), _whole([halves[1]], "remote_write_v2")
    cut = _nearest_to_half(list(accumulate(stop - start for start, stop in series)))
    return _part(data, symbols, series[:cut]), _part(data, symbols, series[cut:])


def _part(data: bytes, symbols: list[bytes], series: list[tuple[int, int]]) -> Encoded:
    """A request of 2.0 with some of the series of another."""
    renumbered = _Renumbered(symbols)
    messages: list[bytes] = []
    points = 0
    for start, stop in series:
        fields: list[bytes] = []
        for number, wire_type, tag_at, payload, end in iter_fields(data, start, stop):
            if wire_type != BYTES:
                fields.append(data[tag_at:end])
            elif number == _REFS_FIELD:
                fields.append(field_bytes(_REFS_TAG, renumbered.packed(data[payload:end])))
            elif number == _EXEMPLARS_FIELD:
                message = renumbered.exemplar(data, payload, end)
                fields.append(field_bytes(_EXEMPLARS_TAG, message))
            elif number == _METADATA_FIELD:
                fields.append(field_bytes(_METADATA_TAG, renumbered.metadata(data, payload, end)))
            else:
                points += number in (_SAMPLES_FIELD, _HISTOGRAMS_FIELD)
                fields.append(data[tag_at:end])
        messages.append(field_bytes(_SERIES_TAG, b"".join(fields)))
    return Encoded(b"".join((*renumbered.fields, *messages)), points)


class _Renumbered:
    """The symbols of a part, by their numbers in the whole; ``fields`` are theirs in the part."""

    __slots__ = ("_encoded", "_symbols", "fields")

    def __init__(self, symbols: list[bytes]) -> None:
        self._symbols = symbols
        # By number in the whole, the number in the part as it is written; b"": not yet there.
        self._encoded = [b""] * max(1, len(symbols))
        self._encoded[0] = varint(0)
        self.fields = [field_bytes(_SYMBOL_TAG, b"")]

    def packed(self, refs: bytes) -> bytes:
        """Packed references. Raises DecodeError."""
        numbers: list[int] = []
        pos = 0
        end = len(refs)
        while pos < end:
            byte = refs[pos]
            if byte < 128:
                numbers.append(byte)
                pos += 1
            else:
                number, pos = read_varint(refs, pos, end)
                numbers.append(number)
        try:
            encoded = [self._encoded[number] for number in numbers]
        except IndexError:
            raise DecodeError(f"a reference beyond the {len(self._symbols)} symbols") from None
        if b"" in encoded:
            encoded = [self._encoded[number] or self._add(number) for number in numbers]
        return b"".join(encoded)

    def exemplar(self, data: bytes, start: int, stop: int) -> bytes:
        """An Exemplar message. Raises DecodeError."""
        fields = []
        for number, wire_type, tag_at, payload, end in iter_fields(data, start, stop):
            if number == _REFS_FIELD and wire_type == BYTES:
                fields.append(field_bytes(_REFS_TAG, self.packed(data[payload:end])))
            else:
                fields.append(data[tag_at:end])
        return b"".join(fields)

    def metadata(self, data: bytes, start: int, stop: int) -> bytes:
        """A Metadata message. Raises DecodeError."""
        fields = []
        for number, _, tag_at, payload, end in iter_fields(data, start, stop):
            fields.append(data[tag_at:payload] if number in _TEXT_FIELDS else data[tag_at:end])
            if number in _TEXT_FIELDS:
                fields.append(self.packed(data[payload:end]))
        return b"".join(fields)

    def _add(self, number: int) -> bytes:
        if not self._encoded[number]:
            self._encoded[number] = varint(len(self.fields))
            self.fields.append(field_bytes(_SYMBOL_TAG, self._symbols[number]))
        return self._encoded[number]


def _nearest_to_half(ends: list[int]) -> int:
    """Return the number of entries, of at least two, in the first half; ``ends``: their ends."""
    above = bisect_left(ends, ends[-1] / 2, hi=len(ends) - 1)  # ends[above] is at half or behind
    if above and ends[-1] - ends[above - 1] < ends[above]:
        above -= 1
    return min(above + 1, len(ends) - 1)


def _whole(series: list[RawSeries], protocol: WriteProtocol) -> Encoded:
    (encoded,) = encode_requests(series, protocol=protocol, bytes_max=_UNBOUNDED)
    return encoded


def _points_v1(data: bytes, start: int, stop: int) -> int:
    pos = start
    try:
        # Short labels and one short sample, which nearly all series have: a fifth of the price.
        while data[pos] == _LABEL_TAG and data[pos + 1] < 128:
            pos += 2 + data[pos + 1]
        if data[pos] == _SAMPLE_TAG and pos + 2 + data[pos + 1] == stop and data[pos + 1] < 128:
            return 1
    except IndexError:
        pass  # behind the last entry
    parts = v1.parse_series(data, start, stop)
    return len(parts.samples) + len(parts.histograms)


def _points_v2(data: bytes, start: int, stop: int) -> int:
    parts = v2.parse_series(data, start, stop)
    return len(parts.samples) + len(parts.histograms)
