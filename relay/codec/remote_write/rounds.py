"""Cut a remote-write request of our own so that no series has two entries in one piece.

Rules:

* The first piece has the first entry of each series, the next one the second, and so on; the last
  one has all that are left. Entries keep their order.
* Entries without a point, which are exemplars and metadata, go with the first piece.
* Pieces of 2.0 have all symbols, so that references stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from relay.codec.protobuf import BYTES, iter_fields, read_varint
from relay.codec.remote_write import v1, v2
from relay.codec.remote_write.encode import Encoded
from relay.codec.remote_write.v1 import WriteProtocol

_FIRST_TAG = 0x0A  # of labels in 1.0 and of references in 2.0, which come first in our own
_SAMPLE_TAG = 0x12
_METADATA = b""
"""The identity of an entry of metadata; no series of our own is without labels."""

_Entry = tuple[bytes, bytes, int]
"""Identity of its series, the entry with tag and length, its points."""
_Parse = Callable[[bytes, int, int], v1.SeriesParts | v2.SeriesParts2]


def cut_in_rounds(data: bytes, protocol: WriteProtocol, rounds_max: int) -> list[Encoded]:
    """Cut a request in at most ``rounds_max`` pieces. Raises DecodeError."""
    if protocol == "remote_write_v1":
        head, entries = b"", _entries_v1(data)
    else:
        head, entries = _symbols_v2(data), _entries_v2(data)
    pieces: list[list[bytes]] = [[]]
    points = [0]
    seen: dict[bytes, int] = {}
    for identity, entry, count in entries:
        at = 0
        if count:
            at = seen[identity] = min(seen.get(identity, -1) + 1, rounds_max - 1)
        if at == len(pieces):
            pieces.append([head])
            points.append(0)
        pieces[at].append(entry)
        points[at] += count
    pieces[0].insert(0, head)
    return [Encoded(b"".join(piece), count) for piece, count in zip(pieces, points, strict=True)]


def _entries_v1(data: bytes) -> Iterator[_Entry]:
    for number, wire_type, tag_at, start, stop in iter_fields(data, 0, len(data)):
        if wire_type != BYTES or number not in (v1.SERIES_FIELD, v1.METADATA_FIELD):
            continue
        if number == v1.METADATA_FIELD:
            yield _METADATA, data[tag_at:stop], 0
            continue
        yield _entry(data, tag_at, start, stop, v1.parse_series)


def _identity_end(data: bytes, pos: int, stop: int) -> int:
    """Return the end of the labels, or of the references, from ``pos`` on."""
    while pos < stop and data[pos] == _FIRST_TAG:
        size = data[pos + 1]
        if size < 128:
            pos += 2 + size
        else:
            size, pos = read_varint(data, pos + 1, stop)
            pos += size
    return pos


def _is_one_sample(data: bytes, pos: int, stop: int) -> bool:
    """Tell whether a sample, and nothing else, is at ``pos``, as in nearly all series."""
    return pos + 2 <= stop and data[pos] == _SAMPLE_TAG and pos + 2 + data[pos + 1] == stop


def _symbols_v2(data: bytes) -> bytes:
    return b"".join(
        data[tag_at:stop]
        for number, wire_type, tag_at, _, stop in iter_fields(data, 0, len(data))
        if wire_type == BYTES and number == v2.SYMBOLS_FIELD
    )


def _entries_v2(data: bytes) -> Iterator[_Entry]:
    for number, wire_type, tag_at, start, stop in iter_fields(data, 0, len(data)):
        if wire_type != BYTES or number != v2.SERIES_FIELD:
            continue
        yield _entry(data, tag_at, start, stop, v2.parse_series)


def _entry(data: bytes, tag_at: int, start: int, stop: int, parse: _Parse) -> _Entry:
    identity_end = _identity_end(data, start, stop)
    count = 1
    if not _is_one_sample(data, identity_end, stop):
        parts = parse(data, start, stop)
        count = len(parts.samples) + len(parts.histograms)
    return data[start:identity_end], data[tag_at:stop], count
