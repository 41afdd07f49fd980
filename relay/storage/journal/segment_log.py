"""The journal's files: appended to, read, trimmed. Synchronous; called by one thread at a time.

Rules:

* A segment is named after the first position that it may hold, so the names tell which segments
  can be trimmed.
* After any error the next group begins another segment (:mod:`relay.storage.log.segment`).
* A segment of an earlier process is never appended to. The torn tail of the last one is cut.
* Reading never raises for damage: it is skipped and counted, like an unreadable segment.
* :meth:`SegmentLog.verify` detects deleted segments; after that the next group begins another one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.storage.journal.interface import Chunk, JournalCursor, LogRange
from relay.storage.journal.record import (
    SEGMENT_KIND,
    FullRead,
    Record,
    read_records,
    read_segment,
)
from relay.storage.log.filesystem import Disk, reason
from relay.storage.log.frame import FILE_HEADER_BYTES, check_format
from relay.storage.log.segment import DamageCounters, SegmentWriter, Volume, reading, try_remove

_log = logging.getLogger("relay.storage")

_SUFFIX = ".seg"


@dataclass(slots=True)
class Segment:
    """One file: ``first`` is the first position that it may hold, ``size`` the bytes that count."""

    path: Path
    first: int
    size: int


class SegmentLog:
    """All segments of one journal. ``damage`` counts since the start."""

    def __init__(
        self, directory: Path, *, segment_bytes_max: int, sync: bool, disk: Disk | None = None
    ) -> None:
        self._directory = directory
        self._volume = Volume(directory.parent)
        self._segment_bytes_max = segment_bytes_max
        self._sync = sync
        self._disk = disk or Disk()
        self._segments: list[Segment] = []
        self._writer: SegmentWriter | None = None
        """Of the last segment, while that is open."""
        self.damage = DamageCounters()
        self.next_position = 0

    def extent(self) -> LogRange:
        """Return a snapshot of what the log holds."""
        spans = tuple((segment.first, segment.size) for segment in self._segments)
        return LogRange(spans, self.next_position)

    def recover(self) -> None:
        """Find the segments of earlier processes. Raises FormatError, with nothing changed."""
        self._volume.remember()
        found = sorted(path for path in self._directory.glob(f"*{_SUFFIX}") if path.stem.isdigit())
        for path in found:
            self._check_format(path)
        for path in found:
            try:
                size = path.stat().st_size
            except OSError as error:
                self.damage.count_unreadable(path, error)
                continue
            self._segments.append(Segment(path, int(path.stem), size))
        while self._segments and not self._recover_last():
            try_remove(self._disk, self._segments.pop().path)

    def advance(self, position: int) -> None:
        """Raise the next position to at least ``position``."""
        self.next_position = max(self.next_position, position)

    def append(self, pieces: Sequence[bytes], *, first: int, last: int) -> None:
        """Append a group of records with positions ``first`` to ``last``, whole or not at all.

        ``pieces`` are their frames, cut anywhere. Raises OSError.
        """
        size = sum(map(len, pieces))
        assert self.next_position <= first <= last, (self.next_position, first, last)
        if self._writer is not None and self._writer.size + size > self._segment_bytes_max:
            self.finish()
        writer = self._open(first)
        try:
            writer.append(pieces)
        except OSError:
            self._forget_writer()
            raise
        self._segments[-1].size = writer.size
        self.next_position = last + 1

    def verify(self) -> list[tuple[int, int]]:
        """Forget deleted segments; return the first and last position of each.

        These are the positions that it may have held. Raises OSError.
        """
        gone: list[tuple[int, int]] = []
        for segment, end in list(zip(self._segments, self._ends(), strict=True)):
            writer = self._writer if segment is self._segments[-1] else None
            if writer.is_linked() if writer is not None else self._disk.is_linked(segment.path):
                continue
            if writer is not None:
                self._writer = None
                writer.release()
            self._segments.remove(segment)
            if segment.size > FILE_HEADER_BYTES:
                self.damage.files += 1
                gone.append((segment.first, max(segment.first, end - 1)))
            _log.error("%s was deleted by another process, %d bytes", segment.path, segment.size)
        return gone

    def begin(self, first: int) -> None:
        """Begin a segment at position ``first`` unless one is open. Raises OSError."""
        self._open(first)

    def flush(self) -> bool:
        """Make appended groups durable; return False if there were none. Raises OSError."""
        if self._writer is None:
            return False
        try:
            return self._writer.flush()
        except OSError:
            self._forget_writer()
            raise

    def probe(self) -> None:
        """Check that the disk has room and works, leaving nothing behind. Raises OSError."""
        assert self._writer is not None
        try:
            self._writer.probe()
        except OSError:
            self._forget_writer()
            raise

    def finish(self) -> None:
        """End the open segment, if there is one. Raises OSError."""
        if self._sync:
            self.flush()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def trim(self, low: int) -> None:
        """Remove closed segments that hold only positions below ``low``. Raises OSError."""
        closed = len(self._segments) - (self._writer is not None)
        for segment, end in list(zip(self._segments[:closed], self._ends(), strict=False)):
            if end > low:
                return
            self._disk.remove(segment.path)
            self._segments.remove(segment)

    def read(self, cursor: JournalCursor, *, start: int, bytes_max: int) -> Chunk:
        """Read the next records at or above position ``start``.

        At least one if there is one, and at most one more than fits into ``bytes_max``.
        """
        records: list[Record] = []
        size = 0
        for segment, end in list(zip(self._segments, self._ends(), strict=True)):
            if segment.first < cursor.first or end <= start:
                continue
            offset = cursor.offset if segment.first == cursor.first else 0
            cursor = JournalCursor(segment.first, offset)
            for found in self._read_from(segment, offset):
                cursor = JournalCursor(segment.first, found.end)
                if found.record.position < start:
                    continue
                records.append(found.record)
                size += len(found.record.body)
                if size >= bytes_max:
                    return Chunk(tuple(records), cursor, at_end=False)
            cursor = JournalCursor(segment.first, segment.size)
        return Chunk(tuple(records), cursor, at_end=True)

    def _open(self, first: int) -> SegmentWriter:
        """Return the writer of the last segment; begin one at ``first`` if none is open."""
        if self._writer is not None:
            return self._writer
        if not self._directory.exists():
            self._volume.check()
            self._disk.make_directory(self._directory)
        path = self._directory / f"{first:020d}{_SUFFIX}"
        # A file of this name can only be left from a failed attempt, without a whole record.
        self._segments = [segment for segment in self._segments if segment.path != path]
        self._disk.remove(path)
        writer = SegmentWriter.create(self._disk, path, SEGMENT_KIND, first, sync=self._sync)
        self._segments.append(Segment(path, first, writer.size))
        self._writer = writer
        return writer

    def _forget_writer(self) -> None:
        """Keep a segment that failed only if it has records."""
        writer, self._writer = self._writer, None
        if writer is not None and writer.is_empty:
            self._segments.pop()

    def _ends(self) -> list[int]:
        """Return for each segment the position that all of its records are below."""
        firsts = [segment.first for segment in self._segments]
        return [*firsts[1:], self.next_position][: len(firsts)]

    def _check_format(self, path: Path) -> None:
        try:
            with reading(self._disk, path) as (read, _):
                check_format(read, SEGMENT_KIND)
        except OSError as error:
            _log.error("%s cannot be read: %s", path, reason(error))

    def _recover_last(self) -> bool:
        """Find the end of the last segment and cut what is torn; return False if it is empty."""
        segment = self._segments[-1]
        self.advance(segment.first)
        last, end = -1, 0
        try:
            with reading(self._disk, segment.path) as (read, _):
                for item in read_segment(read, segment.size):
                    if isinstance(item, FullRead):
                        last, end = item.record.position, item.end
        except OSError as error:
            self.damage.count_unreadable(segment.path, error)
            return True  # keep it: the next start may be able to read it
        self.advance(last + 1)
        if last < 0:
            self.damage.torn_bytes += max(0, segment.size - FILE_HEADER_BYTES)
            return False
        if end < segment.size:
            self.damage.count_torn(segment.path, segment.size - end)
            segment.size = end
            try:
                self._disk.shorten(segment.path, end)
            except OSError as error:  # harmless: it is skipped again at the next start
                _log.warning("%s: torn bytes cannot be cut: %s", segment.path, reason(error))
        return True

    def _read_from(self, segment: Segment, offset: int) -> Iterator[FullRead]:
        """Yield the records of a segment from byte ``offset``; count damage."""
        try:
            with reading(self._disk, segment.path) as (read, _):
                for item in (
                    read_records(read, offset, segment.size)
                    if offset
                    else read_segment(read, segment.size)
                ):
                    if isinstance(item, FullRead):
                        yield item
                    else:
                        self.damage.count(segment.path, item)
        except OSError as error:
            self.damage.count_unreadable(segment.path, error)

    def __repr__(self) -> str:
        return f"<SegmentLog {len(self._segments)} segments, next {self.next_position}>"
