"""Records and logs for tests of the journal."""

from __future__ import annotations

from pathlib import Path

from relay.storage.journal.interface import JournalCursor
from relay.storage.journal.record import Record, encode_record
from relay.storage.journal.segment_log import SegmentLog
from relay.storage.log.filesystem import Disk


def record(position: int, body: bytes = b"body", *, at: float = 1e9) -> Record:
    """A snappy record without a tenant."""
    return Record(position, at, "snappy", None, body)


def segment_log(
    directory: Path, *, segment_bytes_max: int = 1 << 20, disk: Disk | None = None
) -> SegmentLog:
    """A log on a directory, recovered."""
    log = SegmentLog(directory, segment_bytes_max=segment_bytes_max, sync=True, disk=disk)
    log.recover()
    return log


def append(log: SegmentLog, *written: Record) -> None:
    """Write a group of records."""
    frames = [encode_record(each) for each in written]
    log.append(frames, first=written[0].position, last=written[-1].position)


def offsets(log: SegmentLog, *, start: int = 0, bytes_max: int = 1 << 30) -> list[int]:
    """Positions of all records that can be read, in chunks of ``bytes_max``."""
    return [each.position for each in records(log, start=start, bytes_max=bytes_max)]


def records(log: SegmentLog, *, start: int = 0, bytes_max: int = 1 << 30) -> list[Record]:
    """All records that can be read."""
    found: list[Record] = []
    cursor = JournalCursor()
    while True:
        chunk = log.read(cursor, start=start, bytes_max=bytes_max)
        found += chunk.records
        cursor = chunk.cursor
        if chunk.at_end:
            return found
