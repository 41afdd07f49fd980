"""One accepted request as a frame of the journal. Pure.

Meta: position (u64), received at (float64, seconds since the epoch), encoding (u8), whether a
tenant is named (u8), its account and project (u32 each). The body is the request's, compressed as
it came. Positions only grow within a segment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from relay.journal.frames import (
    FILE_HEADER_BYTES,
    Damage,
    Read,
    decode_file_header,
    encode_frame,
    read_frames,
)

SEGMENT_KIND = b"RELAYJNL"

ENCODINGS = ("snappy", "zstd", "gzip", "none")
"""By their number in a record; append only."""

_META = struct.Struct("<QdBBII")


@dataclass(frozen=True, slots=True)
class Record:
    """One accepted request. ``tenant`` is (account, project) where its path named one."""

    position: int
    received_at: float
    encoding: str
    tenant: tuple[int, int] | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Whole:
    """A record that is whole, and where in its segment it ends."""

    record: Record
    end: int


def encode_record(record: Record) -> bytes:
    """The record's frame."""
    account, project = record.tenant or (0, 0)
    meta = _META.pack(
        record.position,
        record.received_at,
        ENCODINGS.index(record.encoding),
        record.tenant is not None,
        account,
        project,
    )
    return encode_frame(meta, record.body)


def read_segment(read: Read, size: int) -> Iterator[Whole | Damage]:
    """Everything in a segment of ``size`` bytes, in order; raises FormatError."""
    header = decode_file_header(read(0, FILE_HEADER_BYTES), SEGMENT_KIND)
    # A damaged header says nothing that the records behind it do not say themselves.
    return read_records(read, 0 if header is None else FILE_HEADER_BYTES, size)


def read_records(read: Read, start: int, size: int) -> Iterator[Whole | Damage]:
    """The records from ``start`` on, and what lies between them where they are damaged."""
    last = -1

    def sound(meta: bytes) -> bool:
        if len(meta) != _META.size:
            return False
        position, _, encoding, *_ = _META.unpack(meta)
        return bool(position > last and encoding < len(ENCODINGS))

    for item in read_frames(read, start, size, sound=sound):
        if isinstance(item, Damage):
            yield item
            continue
        position, received_at, encoding, named, account, project = _META.unpack(item.meta)
        tenant = (account, project) if named else None
        last = position
        yield Whole(Record(position, received_at, ENCODINGS[encoding], tenant, item.body), item.end)
