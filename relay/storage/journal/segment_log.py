"""The journal's files: appended to, read, trimmed. Synchronous; called by one thread at a time.

Rules:

* A segment is named after the first position that may stand in it, so the names alone say which
  segments hold nothing that anybody still needs.
* A group of records is written whole or cut off again. After any error the segment is left alone
  and the next group begins another one: what a failed write or flush has left in a file is not to
  be built upon.
* A segment of an earlier run is never appended to. Its torn tail, where it has one, is cut.
* Reading never raises for damage, and an unreadable segment is skipped: both are counted.
* A segment that somebody takes away while we write to it goes on existing, but nobody will ever
  find it: :meth:`SegmentLog.verify` notices, and the next group begins another one.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.storage.journal.interface import Chunk, Cursor, LogRange
from relay.storage.journal.record import (
    SEGMENT_KIND,
    FullRead,
    Record,
    read_records,
    read_segment,
)
from relay.storage.log.filesystem import PIECES_MAX, Disk
from relay.storage.log.frame import (
    FILE_HEADER_BYTES,
    Damage,
    Read,
    decode_file_header,
    encode_file_header,
)

_log = logging.getLogger("relay.storage")

_SUFFIX = ".seg"

PROBE_BYTES = 256 * 1024
"""A disk with less room than this has none."""


@dataclass(slots=True)
class Segment:
    """One file: ``size`` is how much of it counts, ``first`` the first position it may hold."""

    path: Path
    first: int
    size: int


@dataclass(slots=True)
class DamageCounters:
    """What could not be read. ``torn_bytes`` were cut from the end of the last segment,
    ``corrupt_bytes`` skipped in ``corrupt_stretches`` between whole records."""

    torn_bytes: int = 0
    corrupt_stretches: int = 0
    corrupt_bytes: int = 0
    unreadable_segments: int = 0


class SegmentLog:
    """All segments of one journal. ``damage`` counts since the start."""

    def __init__(
        self, directory: Path, *, segment_bytes_max: int, sync: bool, disk: Disk | None = None
    ) -> None:
        self._directory = directory
        self._segment_bytes_max = segment_bytes_max
        self._sync = sync
        self._disk = disk or Disk()
        self._segments: list[Segment] = []
        self._descriptor = -1
        self._dirty = False
        self._volume: int | None = None
        """The device of the data directory, as of :meth:`recover`."""
        self.damage = DamageCounters()
        self.next_position = 0

    def extent(self) -> LogRange:
        """A snapshot of what there is."""
        spans = tuple((segment.first, segment.size) for segment in self._segments)
        return LogRange(spans, self.next_position)

    def recover(self) -> None:
        """Take stock of what earlier runs have left; raises FormatError, having touched nothing."""
        self._volume = self._directory.parent.stat().st_dev
        found = sorted(path for path in self._directory.glob(f"*{_SUFFIX}") if path.stem.isdigit())
        for path in found:
            self._check_format(path)
        for path in found:
            try:
                size = path.stat().st_size
            except OSError as error:
                self._unreadable(path, error)
                continue
            self._segments.append(Segment(path, int(path.stem), size))
        while self._segments and not self._recover_last():
            empty = self._segments.pop()
            self._try_remove(empty)

    def advance(self, position: int) -> None:
        """Let no record have a position below this one."""
        self.next_position = max(self.next_position, position)

    def append(self, pieces: Sequence[bytes], *, first: int, last: int) -> None:
        """Write a group of encoded records at the end, from position ``first`` to ``last``: their
        frames, cut into pieces anywhere. Raises OSError, after which nothing of it counts."""
        size = sum(map(len, pieces))
        assert self.next_position <= first <= last, (self.next_position, first, last)
        if self._descriptor >= 0 and self._active.size + size > self._segment_bytes_max:
            self.finish()
        if self._descriptor < 0:
            self.begin(first)
        active = self._active
        self._dirty = True
        try:
            self._write_pieces(pieces, size)
        except OSError:
            self._abandon(cut_to=active.size)
            raise
        active.size += size
        self.next_position = last + 1

    def verify(self) -> list[tuple[int, int]]:
        """Notice segments that are not there any more, and forget them; returns the first and last
        position that each may have held."""
        gone: list[tuple[int, int]] = []
        for segment, end in list(zip(self._segments, self._ends(), strict=True)):
            is_active = self._descriptor >= 0 and segment is self._segments[-1]
            descriptor = self._descriptor if is_active else -1
            if self._disk.is_linked(segment.path, descriptor):
                continue
            if is_active:
                self._descriptor, self._dirty = -1, False
                self._try_close(descriptor)
            self._segments.remove(segment)
            if segment.size > FILE_HEADER_BYTES:
                self.damage.unreadable_segments += 1
                gone.append((segment.first, max(segment.first, end - 1)))
            _log.error("%s was taken away, with %d bytes", segment.path, segment.size)
        return gone

    def _make_directory(self) -> None:
        """Make the directory again where somebody took it away, on the volume that it was on."""
        if self._directory.exists():
            return
        home = self._directory.parent
        if self._volume is not None and (not home.exists() or home.stat().st_dev != self._volume):
            raise OSError(errno.ENODEV, f"the volume of {home} is gone")
        self._disk.make_directory(self._directory)

    def begin(self, first: int) -> None:
        """Start a segment, where none is open; raises OSError."""
        if self._descriptor >= 0:
            return
        self._make_directory()
        path = self._directory / f"{first:020d}{_SUFFIX}"
        # Only a failed attempt, without a record that counts, can have had the same name.
        self._segments = [segment for segment in self._segments if segment.path != path]
        self._disk.remove(path)
        self._descriptor = self._disk.create(path)
        self._segments.append(Segment(path, first, FILE_HEADER_BYTES))
        try:
            self._write(encode_file_header(SEGMENT_KIND, first))
            if self._sync:
                self._disk.sync_directory(self._directory)
        except OSError:
            self._abandon(cut_to=0)
            raise

    def flush(self) -> bool:
        """Make what was written safe against a power cut; False where nothing was to be done.
        Raises OSError."""
        if not self._dirty or self._descriptor < 0:
            return False
        try:
            self._disk.sync(self._descriptor)
        except OSError:
            # What the kernel could not write it may have forgotten: never rely on this file again.
            self._abandon(cut_to=None)
            raise
        self._dirty = False
        return True

    def probe(self) -> None:
        """Find out whether data could be written, leaving none; raises OSError."""
        assert self._descriptor >= 0
        size = self._active.size
        try:
            self._write(bytes(PROBE_BYTES))
            self._disk.sync(self._descriptor)
            self._disk.cut(self._descriptor, size)
        except OSError:
            self._abandon(cut_to=size)
            raise

    def finish(self) -> None:
        """End the open segment, if there is one; raises OSError."""
        if self._descriptor < 0:
            return
        if self._sync:
            self.flush()
        descriptor, self._descriptor = self._descriptor, -1
        self._dirty = False
        self._disk.close(descriptor)

    def trim(self, low: int) -> None:
        """Remove every closed segment that holds positions below ``low`` only; raises OSError."""
        closed = len(self._segments) - (self._descriptor >= 0)
        for segment, end in list(zip(self._segments[:closed], self._ends(), strict=False)):
            if end > low:
                return
            self._disk.remove(segment.path)
            self._segments.remove(segment)

    def read(self, cursor: Cursor, *, start: int, bytes_max: int) -> Chunk:
        """The next records at or after position ``start``: at least one where there is one, and
        little more than ``bytes_max`` bytes."""
        records: list[Record] = []
        size = 0
        for segment, end in list(zip(self._segments, self._ends(), strict=True)):
            if segment.first < cursor.first or end <= start:
                continue
            offset = cursor.offset if segment.first == cursor.first else 0
            cursor = Cursor(segment.first, offset)
            for whole in self._read_from(segment, offset):
                cursor = Cursor(segment.first, whole.end)
                if whole.record.position < start:
                    continue
                records.append(whole.record)
                size += len(whole.record.body)
                if size >= bytes_max:
                    return Chunk(tuple(records), cursor, at_end=False)
            cursor = Cursor(segment.first, segment.size)
        return Chunk(tuple(records), cursor, at_end=True)

    @property
    def _active(self) -> Segment:
        assert self._descriptor >= 0
        return self._segments[-1]

    def _ends(self) -> list[int]:
        """For each segment, the position that all of its own are below."""
        firsts = [segment.first for segment in self._segments]
        return [*firsts[1:], self.next_position][: len(firsts)]

    def _check_format(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                decode_file_header(file.read(FILE_HEADER_BYTES), SEGMENT_KIND)
        except OSError as error:
            _log.error("%s cannot be read: %s", path, error.strerror)

    def _recover_last(self) -> bool:
        """Find the end of the last segment, cut what is torn; False where it holds no record."""
        segment = self._segments[-1]
        self.next_position = max(self.next_position, segment.first)
        last = -1
        end = 0
        try:
            with segment.path.open("rb") as file:
                for item in read_segment(_reader(file.fileno()), segment.size):
                    if isinstance(item, FullRead):
                        last, end = item.record.position, item.end
        except OSError as error:
            self._unreadable(segment.path, error)
            return True  # perhaps readable next time: keep it
        if last < 0:
            self.damage.torn_bytes += max(0, segment.size - FILE_HEADER_BYTES)
            return False
        self.next_position = max(self.next_position, last + 1)
        if end < segment.size:
            self._cut_tail(segment, end)
        return True

    def _cut_tail(self, segment: Segment, end: int) -> None:
        torn = segment.size - end
        self.damage.torn_bytes += torn
        segment.size = end
        _log.warning("%s: %d torn bytes cut behind the last whole record", segment.path, torn)
        try:
            self._disk.shorten(segment.path, end)
        except OSError as error:
            _log.warning("%s cannot be cut, which does no harm: %s", segment.path, error.strerror)

    def _read_from(self, segment: Segment, offset: int) -> Iterator[FullRead]:
        """The records of a segment from ``offset`` on; what is no record is counted."""
        try:
            with segment.path.open("rb") as file:
                read = _reader(file.fileno())
                items = (
                    read_records(read, offset, segment.size)
                    if offset
                    else read_segment(read, segment.size)
                )
                for item in items:
                    if isinstance(item, FullRead):
                        yield item
                    else:
                        self._count_corrupt(segment, item)
        except OSError as error:
            self._unreadable(segment.path, error)

    def _count_corrupt(self, segment: Segment, damage: Damage) -> None:
        self.damage.corrupt_stretches += 1
        self.damage.corrupt_bytes += damage.end - damage.start
        _log.error(
            "%s: no record can be read from byte %d to %d; skipped",
            segment.path,
            damage.start,
            damage.end,
        )

    def _write_pieces(self, pieces: Sequence[bytes], size: int) -> None:
        """Write them as they are: putting bodies together first would copy all of them."""
        written = 0
        if len(pieces) <= PIECES_MAX:
            written = self._disk.gather(self._descriptor, pieces)
        if written < size:
            self._write(b"".join(pieces)[written:])

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._disk.write(self._descriptor, left) :]

    def _abandon(self, *, cut_to: int | None) -> None:
        """Leave the open segment alone after an error; cut it, where that is still possible."""
        descriptor, self._descriptor = self._descriptor, -1
        self._dirty = False
        segment = self._segments[-1]
        try:
            if cut_to is not None:
                self._disk.cut(descriptor, cut_to)
        except OSError as error:
            _log.warning("%s cannot be cut, which does no harm: %s", segment.path, error.strerror)
        finally:
            self._try_close(descriptor)
        if segment.size <= FILE_HEADER_BYTES:
            self._segments.pop()
            self._try_remove(segment)

    def _try_close(self, descriptor: int) -> None:
        try:
            self._disk.close(descriptor)
        except OSError as error:
            _log.warning("a segment closed with an error: %s", error.strerror)

    def _try_remove(self, segment: Segment) -> None:
        try:
            self._disk.remove(segment.path)
        except OSError as error:
            _log.warning("%s cannot be removed: %s", segment.path, error.strerror)

    def _unreadable(self, path: Path, error: OSError) -> None:
        self.damage.unreadable_segments += 1
        _log.error("%s cannot be read and is skipped: %s", path, error.strerror)

    def __repr__(self) -> str:
        return f"<SegmentLog {len(self._segments)} segments, next {self.next_position}>"


def _reader(descriptor: int) -> Read:
    return lambda offset, size: os.pread(descriptor, size, offset)
