"""Back up a data directory, whether a relay runs on it or not. Synchronous.

The order in which files are read makes the copy consistent without stopping or asking the relay:

* Journal first, then the checkpoint, then the queues. What a sink had not finished at the
  checkpoint was in the journal while that was read; what it had finished by then and not delivered
  is in its queue, which is read afterwards. So a file that vanishes while it is waited for holds
  nothing that is needed. Nothing acknowledged before the backup began is missing from it.
* What was delivered meanwhile may be in the copy: it is sent again after a restore.
* The state saved beside the checkpoint (learned types, histogram layouts) is read after it: it may
  be newer, never older.
* A segment that is being appended to is cut after its last whole record, as a start would do.
* A queue's cursor is read before its segments. Segments that it names and the relay has deleted
  since are struck out of it; otherwise their points would count as damaged.
* The cache of objects of Kubernetes is left out: it holds Secrets, and is filled again.
* ``deltas`` exists only while no relay runs; :mod:`relay.control.durability.restore` decides.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from relay import __version__
from relay.config.settings.api import DATABASE_FILE, SESSIONS_FILE
from relay.config.yaml.document import read_bounded
from relay.control.durability.backup_archive import VERSION, BackupWriter, Head, is_name, writing
from relay.control.kubernetes.cache_file import CACHE_DIRECTORY
from relay.runtime.errors import BackupError
from relay.sink.queue.cursor import QueueCursor
from relay.sink.spill import record as queue_record
from relay.sink.spill.record import parse_segment_name, segment_name
from relay.storage.journal import record as journal_record
from relay.storage.log.data_directory import read_format
from relay.storage.log.frame import (
    FORMAT,
    Damage,
    FormatError,
    check_format,
    encode_frame,
    frame_version,
    read_frames,
)

FILE_BYTES_MAX = 2 << 30
"""Longest file that is read: a segment has one record more than 64 MiB at most."""
_JOURNAL, _QUEUES = "journal", "queues"
_CHECKPOINT = "checkpoint"
_RETIRED = ".removed-"
_TEMPORARY = ".new"
_LEFT_OUT = (
    *("lock", "lost+found", CACHE_DIRECTORY, SESSIONS_FILE),
    *(f"{DATABASE_FILE}{end}" for end in ("", "-wal", "-shm", ".lock")),
)
"""``CACHE_DIRECTORY`` has a cache of objects and of the Secrets that they refer to; the database of
the API is copied as it is at one moment; sessions that have ended since would be valid again."""

Cursors = dict[int, QueueCursor]


@dataclass(slots=True)
class BackupReport:
    """Count the files of a backup, their bytes, and what was wrong with them.

    ``torn_bytes`` at the ends of segments were left out. ``damaged_bytes`` of segments are copied
    as they are, and skipped by the relay.
    """

    files: int = 0
    bytes: int = 0
    torn_bytes: int = 0
    damaged_bytes: int = 0


def back_up(data: Path, target: Path | BinaryIO, *, now: float) -> BackupReport:
    """Copy a data directory to a new file or directory, or a stream; ``now`` is Unix s.

    Raises ConfigError and BackupError for a directory that cannot be backed up and a target that
    exists, and OSError.
    """
    if not data.is_dir():
        raise BackupError(f"{data} is no directory")
    number = read_format(data)
    if number is None and not (data / _JOURNAL).is_dir():
        raise BackupError(f"{data} is not a relay's data directory: it has no format and journal")
    if isinstance(target, Path) and target.resolve().is_relative_to(data.resolve()):
        raise BackupError(f"{target} is inside {data}: the next backup would have it, too")
    report = BackupReport()
    with writing(target, Head(VERSION, __version__, number or FORMAT, now)) as writer:
        copier = _Copier(data, writer, report)
        copier.copy_journal()
        copier.copy_file(_CHECKPOINT)
        copier.copy_others()
        copier.copy_database()
        copier.copy_queues()
    report.files = len(writer.files)
    report.bytes = sum(entry.size for entry in writer.files.values())
    return report


class _Copier:
    """A copy of one data directory, file by file."""

    def __init__(self, data: Path, writer: BackupWriter, report: BackupReport) -> None:
        self._data = data
        self._writer = writer
        self._report = report

    def copy_journal(self) -> None:
        """Copy the journal's segments, the oldest first."""
        for name in sorted(_names(self._data / _JOURNAL)):
            if name.endswith(".seg"):
                self._copy_segment(f"{_JOURNAL}/{name}", journal_record.SEGMENT_KIND)

    def copy_queues(self) -> None:
        """Copy the queue of each sink."""
        for directory in sorted(_names(self._data / _QUEUES)):
            if _RETIRED not in directory and (self._data / _QUEUES / directory).is_dir():
                self._copy_queue(f"{_QUEUES}/{directory}")

    def copy_others(self) -> None:
        """Copy all other files as they are; each is replaced atomically by the relay."""
        for top in sorted(_names(self._data)):
            if top not in (_JOURNAL, _QUEUES, _CHECKPOINT, *_LEFT_OUT):
                path = self._data / top
                for found in [path, *sorted(path.rglob("*"))]:
                    self._copy_other(found)

    def copy_database(self) -> None:
        """Copy the database of the API, if there is one, with all that was acknowledged."""
        path = self._data / DATABASE_FILE
        if not path.is_file():
            return
        try:
            with closing(sqlite3.connect(path)) as database:
                content = database.serialize()
        except sqlite3.Error as error:
            raise BackupError(f"{path} cannot be copied: {error}") from error
        self._writer.add(DATABASE_FILE, content)

    def _copy_other(self, path: Path) -> None:
        if path.suffix == _TEMPORARY or path.is_symlink() or not path.is_file():
            return
        name = path.relative_to(self._data).as_posix()
        if not is_name(name):
            raise BackupError(f"{path} is not a file of the relay: move it elsewhere")
        self.copy_file(name)

    def copy_file(self, name: str) -> None:
        """Copy a file as it is, if it is there."""
        data = self._read(name)
        if data is not None:
            self._writer.add(name, data)

    def _copy_queue(self, directory: str) -> None:
        cursors_before = self._read(f"{directory}/cursor")
        self.copy_file(f"{directory}/sink")
        found = [parse_segment_name(name) for name in _names(self._data / directory)]
        copied = set()
        for shard, number in sorted(place for place in found if place is not None):
            name = f"{directory}/{segment_name(shard, number)}"
            if self._copy_segment(name, queue_record.SEGMENT_KIND):
                copied.add((shard, number))
        if cursors_before is not None:
            after = _decode_cursors(self._read(f"{directory}/cursor") or b"")
            kept = _without_finished(cursors_before, copied, after or {})
            self._writer.add(f"{directory}/cursor", kept)

    def _copy_segment(self, name: str, kind: bytes) -> bool:
        """Copy the whole records of a segment; return whether it was there."""
        data = self._read(name)
        if data is None:
            return False
        end = self._end_of(data, kind, name)
        self._report.torn_bytes += len(data) - end
        self._writer.add(name, data[:end])
        return True

    def _end_of(self, data: bytes, kind: bytes, name: str) -> int:
        """Return where the last whole record ends, and count the damage before."""

        def read(offset: int, size: int) -> bytes:
            return data[offset : offset + size]

        try:
            start = end = check_format(read, kind)
        except FormatError as error:
            raise BackupError(f"{name}: {error}") from error
        for item in read_frames(read, start, len(data)):
            if not isinstance(item, Damage):
                end = item.end
            elif not item.tail:
                self._report.damaged_bytes += item.end - item.start
        return end

    def _read(self, name: str) -> bytes | None:
        """Return a file's content; None if it is not there, or not any more. Raises OSError."""
        try:
            return read_bounded(self._data / name, bytes_max=FILE_BYTES_MAX)
        except FileNotFoundError:
            return None


def _names(directory: Path) -> Iterator[str]:
    """Yield what a directory has; nothing if it is not there, or not any more."""
    try:
        yield from [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return


def _without_finished(before: bytes, copied: set[tuple[int, int]], after: Cursors) -> bytes:
    """Strike out of a cursor file the segments that the relay has finished since.

    ``copied`` are those of the copy, ``after`` the cursors read later. Segments that are missing
    and that the later cursors still name were deleted by another process: they stay, and count as
    lost.
    """
    cursors = _decode_cursors(before)
    if cursors is None:
        return before
    kept: Cursors = {}
    for shard, cursor in cursors.items():
        later = after.get(shard)
        named = {number for number, _ in later.held} if later is not None else set()
        held = tuple(
            (number, points)
            for number, points in cursor.held
            if (shard, number) in copied or number in named
        )
        kept[shard] = msgspec.structs.replace(cursor, held=held)
    if kept == cursors:
        return before
    # In the format in which it was, so that the version that wrote it reads the copy as well.
    return encode_frame(b"", msgspec.json.encode(kept), version=frame_version(before))


def _decode_cursors(data: bytes) -> Cursors | None:
    """Decode a file of one frame; None if it is damaged."""
    for item in read_frames(lambda offset, size: data[offset : offset + size], 0, len(data)):
        if not isinstance(item, Damage):
            try:
                return msgspec.json.decode(item.body, type=Cursors)
            except msgspec.MsgspecError:
                return None
    return None
