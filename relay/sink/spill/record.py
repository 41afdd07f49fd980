"""The queue's record: an encoded request as a frame, and the names of segments. Pure.

The frame is that of :mod:`relay.storage.log.frame`, its body the request's. Meta: low (i64),
created at (float64, Unix s), points, bytes before compression, failed attempts (u32 each), shards
of the sink (u16), coding and number of splits (u8 each). The coding is a number for kind of sink
and compression (:mod:`relay.sink.kinds`). Start-up reads metas only; the checksum of a body is
verified when it is read to be sent.

``low`` is a position of the ingest journal: when the record was written, its shard had nothing
older that was in memory only. A replay may begin at the highest low that is found, unless the
number of shards changed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from relay.sink.kinds import coding_number, coding_of
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.storage.log.frame import (
    Damage,
    Read,
    check_format,
    encode_frame_head,
    read_header,
    read_headers,
)

SEGMENT_KIND = b"RELAYQUE"

_META = struct.Struct("<qdIIIHBB")
_NAME = re.compile(r"([0-9]{1,4})-([0-9]{1,12})\.seg")


@dataclass(frozen=True, slots=True)
class Stored:
    """The meta of a record and the bounds of its frame in the segment."""

    low: int
    shards: int
    created_at: float
    points: int
    body_bytes: int
    start: int
    end: int


def segment_name(shard: int, number: int) -> str:
    """Return the file name of a shard's segment."""
    return f"{shard}-{number}.seg"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """Return shard and number; None if the file is no segment."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def encode_record_head(payload: EncodedRequest, low: int, shards: int) -> bytes:
    """Encode all of a record but its body; the module defines ``low``."""
    meta = _META.pack(
        low,
        payload.created_at,
        payload.points,
        payload.encoded_bytes,
        payload.attempts,
        shards,
        coding_number(payload.kind, payload.encoding),
        payload.depth,
    )
    return encode_frame_head(meta, payload.body)


def read_index(read: Read, size: int) -> Iterator[Stored | Damage]:
    """Yield the records of a segment of ``size`` bytes and the damage between them.

    Bodies are not read. Raises FormatError.
    """
    start = check_format(read, SEGMENT_KIND)
    for item in read_headers(read, start, size, is_valid=_is_valid):
        if isinstance(item, Damage):
            yield item
            continue
        low, created_at, points, _, _, shards, _, _ = _META.unpack(item.meta)
        yield Stored(low, shards, created_at, points, item.body_bytes, item.start, item.end)


def read_payload(read: Read, offset: int, size: int, *, shard: int) -> EncodedRequest | None:
    """Read the request whose frame begins at ``offset``; None if it is damaged."""
    header = read_header(read, offset, size)
    if header is None or not _is_valid(header.meta):
        return None
    body = read(header.body_start, header.body_bytes)
    if not header.matches(body):
        return None
    _, created_at, points, encoded_bytes, attempts, _, coding, depth = _META.unpack(header.meta)
    found = coding_of(coding)
    assert found is not None, "a sound record"
    kind, compression = found
    return EncodedRequest(
        body=body,
        encoding=compression,
        points=points,
        encoded_bytes=encoded_bytes,
        position=STORED,
        shard=shard,
        created_at=created_at,
        attempts=attempts,
        depth=depth,
        kind=kind,
    )


def _is_valid(meta: bytes) -> bool:
    if len(meta) != _META.size:
        return False
    _, _, points, _, _, _, coding, _ = _META.unpack(meta)
    return points > 0 and coding_of(coding) is not None
