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
    FILE_HEADER_BYTES,
    Damage,
    FrameHeader,
    Read,
    decode_file_header,
    encode_frame_head,
    find_magic,
    read_header,
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
    whole = decode_file_header(read(0, FILE_HEADER_BYTES), SEGMENT_KIND) is not None
    # A damaged header says nothing that the records behind it do not say themselves.
    offset = good = FILE_HEADER_BYTES if whole else 0
    while offset < size:
        header = _record_at(read, offset, size)
        if header is None:
            offset = find_magic(read, offset + 1, size)
            continue
        if header.end < size and _record_at(read, header.end, size) is None:
            # Where bytes were torn out of a body, the next record begins before its end.
            within = _next_record(read, header.body_start, header.end, size)
            if within is not None:
                offset = within
                continue
        if good < offset:
            yield Damage(good, offset, tail=False)
        low, created_at, points, _, _, shards, _, _ = _META.unpack(header.meta)
        yield Stored(low, shards, created_at, points, header.body_bytes, offset, header.end)
        offset = good = header.end
    if good < size:
        yield Damage(good, size, tail=True)


def read_payload(read: Read, offset: int, size: int, *, shard: int) -> EncodedRequest | None:
    """The payload whose frame begins at ``offset``; None where it is damaged."""
    header = _record_at(read, offset, size)
    if header is None:
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


def _record_at(read: Read, offset: int, size: int) -> FrameHeader | None:
    """The header of the record that begins at ``offset``; None where none does."""
    header = read_header(read, offset, size)
    return header if header is not None and _sound(header.meta) else None


def _next_record(read: Read, start: int, stop: int, size: int) -> int | None:
    """The first offset from ``start`` and before ``stop`` at which a record begins."""
    offset = find_magic(read, start, size)
    while offset < stop:
        if _record_at(read, offset, size) is not None:
            return offset
        offset = find_magic(read, offset + 1, size)
    return None


def _sound(meta: bytes) -> bool:
    if len(meta) != _META.size:
        return False
    _, _, points, _, _, _, encoding, _ = _META.unpack(meta)
    return bool(points > 0 and encoding < len(_ENCODINGS))
