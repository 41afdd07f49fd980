"""The journal's record: one accepted request as a frame. Pure.

Meta: position (u64), received at (float64, Unix s), encoding, protocol, whether the path names a
tenant, whether it leaves that to labels (u8 each), the tenant's account and project (u32 each). The
body is the request's, compressed as received. Positions grow within a segment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from relay.storage.log.frame import (
    HEADER_BYTES,
    Damage,
    Frame,
    Read,
    check_format,
    encode_frame_head,
    read_frames,
)

SEGMENT_KIND = b"RELAYJNL"

ENCODINGS = ("snappy", "zstd", "gzip", "none")
"""Indexed by their number in a record; only ever append."""

PROTOCOLS = ("remote_write_v1", "remote_write_v2", "otlp_logs", "otlp_traces", "otlp_metrics")
"""Indexed by their number in a record; only ever append."""

_META = struct.Struct("<QdBBBBII")


class Record(msgspec.Struct, frozen=True):
    """One accepted request.

    ``tenant`` is (account, project) if its path names one; ``tenant_by_labels``: the labels of each
    series name it. Raise ValueError for an encoding or protocol without a number.
    """

    position: int
    received_at: float
    encoding: str
    tenant: tuple[int, int] | None
    body: bytes
    protocol: str = PROTOCOLS[0]
    tenant_by_labels: bool = False

    def __post_init__(self) -> None:
        # Here and not where it is written: the records written with it must not fail for it.
        for name, numbered in ((self.encoding, ENCODINGS), (self.protocol, PROTOCOLS)):
            if name not in numbered:
                raise ValueError(f"{name!r} has no number in the journal")

    @property
    def frame_bytes(self) -> int:
        """Return the size of its frame in bytes."""
        return HEADER_BYTES + _META.size + len(self.body)


class FullRead(msgspec.Struct, frozen=True):
    """An undamaged record and the offset of its end."""

    record: Record
    end: int


def encode_record(record: Record) -> bytes:
    """Encode a record as a frame."""
    return encode_record_head(record) + record.body


def encode_record_head(record: Record) -> bytes:
    """Encode all of a record's frame but the body, so that the body need not be copied."""
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
    """Yield the records and the damage of a segment of ``size`` bytes. Raises FormatError."""
    return read_records(read, check_format(read, SEGMENT_KIND), size)


def read_records(read: Read, start: int, size: int) -> Iterator[FullRead | Damage]:
    """Yield the records from ``start`` on and the damage between them."""
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
