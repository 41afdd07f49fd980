"""Cut a remote-write request of our own so that no series has two entries in one piece.

Rules:

* The first piece has the first entry of each series, the next one the second, and so on; the last
  one has all that are left. Entries keep their order.
* Entries without a point, which are exemplars and metadata, go with the first piece.
* Pieces of 2.0 have all symbols, so that references stay as they are.
"""

from __future__ import annotations

from relay.codec.protobuf import BYTES, iter_fields
from relay.codec.remote_write import v2
from relay.codec.remote_write.cut import entries_of
from relay.codec.remote_write.encode import Encoded
from relay.codec.remote_write.v1 import WriteProtocol


def cut_in_rounds(data: bytes, protocol: WriteProtocol, rounds_max: int) -> list[Encoded]:
    """Cut a request in at most ``rounds_max`` pieces. Raises DecodeError."""
    is_v2 = protocol == "remote_write_v2"
    head = _symbols_v2(data) if is_v2 else b""
    pieces: list[list[bytes]] = [[]]
    points = [0]
    seen: dict[bytes, int] = {}
    for identity, entry, count in entries_of(data, is_v2):
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


def _symbols_v2(data: bytes) -> bytes:
    return b"".join(
        data[tag_at:stop]
        for number, wire_type, tag_at, _, stop in iter_fields(data, 0, len(data))
        if wire_type == BYTES and number == v2.SYMBOLS_FIELD
    )
