"""Segment files, under the journal and the sinks' queues alike. Synchronous.

Rules:

* A group of frames is appended whole or cut off again.
* After any error a segment is closed and never appended to again: what a failed write or flush
  left in the file is unknown. The caller begins another segment.
* Damage never raises while reading: it is counted. An unreadable file is skipped and counted.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from relay.storage.log.filesystem import PIECES_MAX, Disk, reason
from relay.storage.log.frame import FILE_HEADER_BYTES, Damage, Read, encode_file_header

_log = logging.getLogger("relay.storage")

PROBE_BYTES = 256 * 1024
"""A disk with less room than this counts as full."""


@dataclass(slots=True)
class DamageCounters:
    """Unreadable data since the start.

    ``records`` ranges of ``bytes`` between whole records, ``torn_bytes`` at the end of segments,
    and unreadable ``files``.
    """

    records: int = 0
    bytes: int = 0
    torn_bytes: int = 0
    files: int = 0

    def count(self, path: Path, damage: Damage) -> None:
        """Count and log damage inside a segment."""
        self.records += 1
        self.bytes += damage.end - damage.start
        _log.error("%s: skipped damaged bytes %d to %d", path, damage.start, damage.end)

    def count_torn(self, path: Path, size: int) -> None:
        """Count and log bytes at the end of a segment that are not a whole record."""
        self.torn_bytes += size
        _log.warning("%s: dropped %d torn bytes at the end", path, size)

    def count_unreadable(self, path: Path, error: OSError) -> None:
        """Count and log a file that is skipped because reading it failed."""
        self.files += 1
        _log.error("%s cannot be read and is skipped: %s", path, reason(error))


class Volume:
    """The file system of a directory.

    While another one is mounted there, or none, its files do not count as deleted, and nothing may
    be created.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._device: int | None = None

    def remember(self) -> None:
        """Take what is mounted now for the right one; raises OSError."""
        self._device = self._directory.stat().st_dev

    @property
    def is_mounted(self) -> bool:
        """Return whether the directory is on the remembered file system; raises OSError."""
        if self._device is None:
            return True
        try:
            return self._directory.stat().st_dev == self._device
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Raise OSError unless :attr:`is_mounted`."""
        if not self.is_mounted:
            raise OSError(errno.ENODEV, f"the volume of {self._directory} is gone")

    def __repr__(self) -> str:
        return f"<Volume of {self._directory}>"


@contextmanager
def reading(disk: Disk, path: Path) -> Iterator[tuple[Read, int]]:
    """Open a segment for reading; yield its read function and size in bytes. Raises OSError."""
    descriptor = disk.open(path)
    try:
        yield lambda offset, size: disk.read(descriptor, offset, size), path.stat().st_size
    finally:
        disk.close(descriptor)


class SegmentWriter:
    """A segment that is open for appending. ``size`` counts the bytes of whole groups.

    Every method that raises OSError has closed the segment.
    """

    __slots__ = ("_descriptor", "_disk", "_is_dirty", "path", "size")

    def __init__(self, disk: Disk, path: Path, descriptor: int, size: int) -> None:
        self._disk = disk
        self._descriptor = descriptor
        self._is_dirty = False
        self.path = path
        self.size = size

    @classmethod
    def create(cls, disk: Disk, path: Path, kind: bytes, number: int, *, sync: bool) -> Self:
        """Create a segment with its file header; ``sync``: make its name durable.

        Raises OSError.
        """
        writer = cls(disk, path, disk.create(path), 0)
        writer.append([encode_file_header(kind, number)])
        writer._is_dirty = False  # a header alone is worth no flush
        if sync:
            try:
                disk.sync_directory(path.parent)
            except OSError:
                writer.abandon(cut=True)
                raise
        return writer

    @classmethod
    def extend(cls, disk: Disk, path: Path, size: int) -> Self:
        """Open a segment of ``size`` bytes again. Raises OSError."""
        return cls(disk, path, disk.extend(path), size)

    def append(self, pieces: Sequence[bytes]) -> None:
        """Append a group of frames, cut into pieces anywhere. Raises OSError."""
        size = sum(map(len, pieces))
        self._is_dirty = True
        try:
            # Written as they are: joining them would copy every body.
            written = 0
            if len(pieces) <= PIECES_MAX:
                written = self._disk.gather(self._descriptor, pieces)
            if written < size:
                self._disk.write_all(self._descriptor, b"".join(pieces)[written:])
        except OSError:
            self.abandon(cut=True)
            raise
        self.size += size

    def flush(self) -> bool:
        """Make appended groups durable; return False if none was appended. Raises OSError."""
        if not self._is_dirty:
            return False
        try:
            self._disk.sync(self._descriptor)
        except OSError:
            self.abandon(cut=False)
            raise
        self._is_dirty = False
        return True

    def probe(self) -> None:
        """Write, flush and cut off :data:`PROBE_BYTES`. Raises OSError."""
        try:
            self._disk.write_all(self._descriptor, bytes(PROBE_BYTES))
            self._disk.sync(self._descriptor)
            self._disk.cut(self._descriptor, self.size)
        except OSError:
            self.abandon(cut=True)
            raise

    def is_linked(self) -> bool:
        """Return whether the open file still has its name. Raises OSError, still open."""
        return self._disk.is_linked(self.path, self._descriptor)

    def close(self) -> None:
        """Close the segment. Raises OSError."""
        self._disk.close(self._descriptor)

    def release(self) -> None:
        """Close the segment; log an error instead of raising it."""
        try:
            self.close()
        except OSError as error:
            _log.warning("%s closed with an error: %s", self.path, reason(error))

    def abandon(self, *, cut: bool) -> None:
        """Close the segment after an error.

        ``cut`` it to whole groups, remove it if it has none. Errors are logged: a restart skips a
        tail that could not be cut.
        """
        try:
            if cut:
                self._disk.cut(self._descriptor, self.size)
        except OSError as error:
            _log.warning("%s: torn bytes cannot be cut: %s", self.path, reason(error))
        self.release()
        if self.is_empty:
            try_remove(self._disk, self.path)

    @property
    def is_empty(self) -> bool:
        """Return whether the segment has no frame."""
        return self.size <= FILE_HEADER_BYTES

    def __repr__(self) -> str:
        return f"<SegmentWriter {self.path} {self.size} bytes>"


def try_remove(disk: Disk, path: Path) -> None:
    """Remove a segment; log an error instead of raising it."""
    try:
        disk.remove(path)
    except OSError as error:
        _log.warning("%s cannot be removed: %s", path, reason(error))
