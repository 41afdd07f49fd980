"""One accepted request as a frame of the journal. Pure.

Meta: position (u64), received at (float64, seconds since the epoch), encoding, protocol, whether
the path names a tenant and whether it says that the labels do (u8 each), the tenant's account and
project (u32 each). The body is the request's, compressed as it came. Positions only grow within a
segment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from relay.storage.log.frame import (
    Damage,
    Frame,
    Read,
    check_format,
    encode_frame_head,
    read_frames,
)

SEGMENT_KIND = b"RELAYJNL"

ENCODINGS = ("snappy", "zstd", "gzip", "none")
"""By their number in a record; append only."""

PROTOCOLS = ("remote_write_v1", "remote_write_v2")
"""By their number in a record; append only."""

_META = struct.Struct("<QdBBBBII")


@dataclass(frozen=True, slots=True)
class Record:
    """One accepted request. ``tenant`` is (account, project) where its path named one;
    ``tenant_by_labels`` where it said that each series' labels do."""

    position: int
    received_at: float
    encoding: str
    tenant: tuple[int, int] | None
    body: bytes
    protocol: str = PROTOCOLS[0]
    tenant_by_labels: bool = False


@dataclass(frozen=True, slots=True)
class FullRead:
    """A record that is whole, and where in its segment it ends."""

    record: Record
    end: int


def encode_record(record: Record) -> bytes:
    """The record's frame."""
    return encode_record_head(record) + record.body


def encode_record_head(record: Record) -> bytes:
    """What stands before the body in the record's frame, for writers that do not want it copied."""
    account, project = record.tenant or (0, 0)
    meta = _META.pack(
        record.position,
        record.received_at,
        ENCODINGS.index(record.encoding),
        PROTOCOLS.index(record.protocol),
        record.tenant is not None,
        record.tenant_by_labels,
        account,
        project,
    )
    return encode_frame_head(meta, record.body)


def read_segment(read: Read, size: int) -> Iterator[FullRead | Damage]:
    """Everything in a segment of ``size`` bytes, in order; raises FormatError."""
    return read_records(read, check_format(read, SEGMENT_KIND), size)


def read_records(read: Read, start: int, size: int) -> Iterator[FullRead | Damage]:
    """The records from ``start`` on, and what lies between them where they are damaged."""
    last = -1

    def is_valid(meta: bytes) -> bool:
        if len(meta) != _META.size:
            return False
        position, _, encoding, protocol, *_ = _META.unpack(meta)
        return bool(position > last and encoding < len(ENCODINGS) and protocol < len(PROTOCOLS))

    for item in read_frames(read, start, size, is_valid=is_valid):
        if isinstance(item, Damage):
            yield item
            continue
        record = _record(item)
        last = record.position
        yield FullRead(record, item.end)


def _record(frame: Frame) -> Record:
    position, received_at, encoding, protocol, named, by_labels, *tenant = _META.unpack(frame.meta)
    return Record(
        position,
        received_at,
        ENCODINGS[encoding],
        (tenant[0], tenant[1]) if named else None,
        frame.body,
        PROTOCOLS[protocol],
        bool(by_labels),
    )
