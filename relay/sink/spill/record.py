"""A payload as a frame of a queue's segment, and a segment's name. Pure.

The frame is that of :mod:`relay.storage.log.frame`; its body is the payload's. Meta: low (i64),
created at (float64, seconds since the epoch), points, bytes before compression, failed attempts
(u32 each), lanes of the sink (u16), encoding and halvings (u8 each). Start-up reads metas alone and
skips the bodies; a body's checksum is looked at when it is read to be sent.

``low`` is a position of the ingest journal: when the record was written, its lane had nothing older
in memory only. So the journal need not be replayed from before the highest low that is found, as
long as the sink has as many lanes as it had then.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from relay.config.exporter.types import Compression
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

_ENCODINGS: tuple[Compression, ...] = ("none", "gzip", "zstd")
"""By their number in a record; append only."""

_META = struct.Struct("<qdIIIHBB")
_NAME = re.compile(r"([0-9]{1,4})-([0-9]{1,12})\.seg")


@dataclass(frozen=True, slots=True)
class Stored:
    """What a record says of its payload, and where its frame begins and ends in the segment."""

    low: int
    shards: int
    created_at: float
    points: int
    body_bytes: int
    start: int
    end: int


def segment_name(shard: int, number: int) -> str:
    """The file of a lane's segment."""
    return f"{shard}-{number}.seg"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """Lane and number; None where the file is no segment."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def encode_record_head(payload: EncodedRequest, low: int, shards: int) -> bytes:
    """What stands before the payload's body; see the module for ``low``."""
    meta = _META.pack(
        low,
        payload.created_at,
        payload.points,
        payload.encoded_bytes,
        payload.attempts,
        shards,
        _ENCODINGS.index(payload.encoding),
        payload.depth,
    )
    return encode_frame_head(meta, payload.body)


def read_index(read: Read, size: int) -> Iterator[Stored | Damage]:
    """Every record of a segment of ``size`` bytes, bodies unread, and the damage between them.

    Raises FormatError where the file is whole and of another format.
    """
    start = check_format(read, SEGMENT_KIND)
    for item in read_headers(read, start, size, is_valid=_is_valid):
        if isinstance(item, Damage):
            yield item
            continue
        low, created_at, points, _, _, shards, _, _ = _META.unpack(item.meta)
        yield Stored(low, shards, created_at, points, item.body_bytes, item.start, item.end)


def read_payload(read: Read, offset: int, size: int, *, shard: int) -> EncodedRequest | None:
    """The payload whose frame begins at ``offset``; None where it is damaged."""
    header = read_header(read, offset, size)
    if header is None or not _is_valid(header.meta):
        return None
    body = read(header.body_start, header.body_bytes)
    if not header.matches(body):
        return None
    _, created_at, points, encoded_bytes, attempts, _, encoding, depth = _META.unpack(header.meta)
    return EncodedRequest(
        body=body,
        encoding=_ENCODINGS[encoding],
        points=points,
        encoded_bytes=encoded_bytes,
        position=STORED,
        shard=shard,
        created_at=created_at,
        attempts=attempts,
        depth=depth,
    )


def _is_valid(meta: bytes) -> bool:
    if len(meta) != _META.size:
        return False
    _, _, points, _, _, _, encoding, _ = _META.unpack(meta)
    return bool(points > 0 and encoding < len(_ENCODINGS))
