"""The files of the sinks' queues: the blocking half of the store, run in its threads.

Layout below the root: a directory per sink, named by a digest of exporter and sink, with segments
``<shard>-<number>.seg`` (:mod:`relay.sink.spill.record`); ``sink``, the owner and since when it is
an orphan; ``cursor``, per shard where to continue and how many points each segment holds. Rules:

* A segment grows until it has :data:`SEGMENT_BYTES`; none of an earlier process is appended to.
  Numbers only grow, over restarts too: ``cursor`` keeps them when all segments are deleted.
* A save is written whole or cut off again.
* ``cursor`` is written after the fact and not flushed: losing it repeats deliveries only. It is
  written before segments are deleted, so a segment that it names and that is missing was deleted
  by another process: its points are damaged.
* A deleted directory is created again by the next save, but nothing is created or counts as deleted
  while another volume is mounted.
* A removed sink's directory is renamed to ``….removed-<n>`` and then deleted, so that a crash
  between the two does not restore it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from relay.sink.queue.cursor import QueueCursor
from relay.sink.queue.disk_index import DiskIndex, RecordPlace
from relay.sink.queue.payload import EncodedRequest
from relay.sink.spill.orphans import StoredQueue
from relay.sink.spill.owner import Owner
from relay.sink.spill.record import (
    SEGMENT_KIND,
    encode_record_head,
    parse_segment_name,
    read_index,
    read_payload,
    segment_name,
)
from relay.storage.log.filesystem import Disk
from relay.storage.log.frame import (
    FILE_HEADER_BYTES,
    Damage,
    encode_frame,
    read_frames,
)
from relay.storage.log.segment import DamageCounters, SegmentWriter, Volume, reading

_log = logging.getLogger("relay.sink")

SEGMENT_BYTES = 256 * 1024
"""Small, because only whole files are deleted: the most that a shard wastes."""

_CURSOR_BYTES_MAX = 1 << 20
_DIGEST_CHARS = 32

SinkKey = tuple[str, str]
"""Exporter's id and sink's name."""


class _Identity(Owner, frozen=True):
    """The content of ``sink``: the owner and since when it is an orphan (wall clock, s)."""

    orphaned_at: float | None = None


@dataclass(slots=True)
class _Tail:
    """The segment that a shard appends to; ``size`` counts whole records, 0: create it."""

    number: int
    size: int


def directory_name(key: SinkKey) -> str:
    """Return the directory name of a sink: a digest, because names are free text."""
    return hashlib.sha256("\0".join(key).encode()).hexdigest()[:_DIGEST_CHARS]


class QueueFiles:
    """The queues below one directory. Every method raises OSError if the disk fails."""

    def __init__(self, root: Path, *, disk: Disk, sync: bool) -> None:
        self._root = root
        self._volume = Volume(root.parent)
        self._disk = disk
        self._sync = sync
        self._tails: dict[tuple[Path, int], _Tail] = {}
        self.damaged = DamageCounters()

    def recover(self) -> dict[str, StoredQueue]:
        """Find all queues, by directory name; count damage. Raises FormatError."""
        found: dict[str, StoredQueue] = {}
        self._volume.remember()
        for directory in sorted(self._root.iterdir()):
            if ".removed-" in directory.name:
                _remove_tree(directory, ignore_errors=True)
            elif directory.is_dir():
                try:
                    found[directory.name] = self._recover_sink(directory)
                except OSError as error:
                    self.damaged.count_unreadable(directory, error)
        return found

    def append(
        self,
        directory: Path,
        owner: Owner,
        shard: int,
        payloads: Sequence[tuple[EncodedRequest, int]],
        shards: int,
    ) -> list[RecordPlace]:
        """Append requests, each with its low, to a shard; all of them or none."""
        if not directory.exists():
            self._make(directory, owner)
        before = self._tails.setdefault((directory, shard), _Tail(0, 0))
        places: list[RecordPlace] = []
        groups: list[tuple[_Tail, list[bytes]]] = [(before, [])]
        number, size = before.number, before.size
        for payload, low in payloads:
            if size >= SEGMENT_BYTES:
                number, size = number + 1, 0
                groups.append((_Tail(number, 0), []))
            head = encode_record_head(payload, low, shards)
            groups[-1][1].extend((head, payload.body))
            offset = max(size, FILE_HEADER_BYTES)
            size = offset + len(head) + payload.body_bytes
            places.append(RecordPlace(number, offset, size))
        try:
            for tail, pieces in groups:
                if pieces:
                    self._write(directory, shard, tail, pieces)
        except OSError:
            self._undo(directory, shard, before, number)
            raise
        self._tails[directory, shard] = _Tail(number, size)
        return places

    def read(self, directory: Path, shard: int, segment: int, offset: int) -> EncodedRequest | None:
        """Read a request; None if its record is damaged or its file was deleted."""
        path = directory / segment_name(shard, segment)
        try:
            with reading(self._disk, path) as (read, size):
                return read_payload(read, offset, size, shard=shard)
        except FileNotFoundError:
            self._volume.check()
            return None

    def remove(self, directory: Path, shard: int, segments: Sequence[int]) -> None:
        """Delete finished segments."""
        for number in segments:
            tail = self._tails.get((directory, shard))
            if tail is not None and tail.number == number:
                self._tails[directory, shard] = _Tail(number + 1, 0)
            self._disk.remove(directory / segment_name(shard, number))

    def write_cursors(self, directory: Path, cursors: Mapping[int, QueueCursor]) -> None:
        """Save where each shard continues."""
        if directory.exists():
            body = msgspec.json.encode(cursors)
            self._disk.replace(directory / "cursor", encode_frame(b"", body), sync=False)

    def rename(self, directory: Path, retired: Path) -> None:
        """Rename a sink's directory before it is deleted."""
        if directory.exists():
            directory.rename(retired)
        for at, shard in [place for place in self._tails if place[0] == directory]:
            self._tails[retired, shard] = self._tails.pop((at, shard))

    def delete(self, directory: Path) -> None:
        """Delete a sink's directory."""
        if directory.exists():
            _remove_tree(directory)
        for place in [place for place in self._tails if place[0] == directory]:
            del self._tails[place]

    def check(self, directory: Path, sizes: Mapping[tuple[int, int], int]) -> list[tuple[int, int]]:
        """Return the segments, by shard and number, that are deleted or shorter than ``sizes``."""
        gone = []
        for (shard, number), size in sizes.items():
            path = directory / segment_name(shard, number)
            try:
                found = path.stat().st_size
            except FileNotFoundError:
                self._volume.check()
                found = -1
            if found < size:
                gone.append((shard, number))
        return gone

    def identify(self, directory: Path, owner: Owner, orphaned_at: float | None) -> None:
        """Save the owner of a directory and since when it is an orphan.

        ``orphaned_at`` is wall clock, s; None: it is not.
        """
        if directory.exists():
            self._identify(directory, owner, orphaned_at)

    def _identify(self, directory: Path, owner: Owner, orphaned_at: float | None) -> None:
        identity = _Identity(**msgspec.structs.asdict(owner), orphaned_at=orphaned_at)
        frame = encode_frame(b"", msgspec.json.encode(identity))
        self._disk.replace(directory / "sink", frame, sync=self._sync)

    def _make(self, directory: Path, owner: Owner) -> None:
        """Create a sink's directory, also after it was deleted."""
        self._volume.check()
        for shard in [shard for at, shard in self._tails if at == directory]:
            # Its segments are deleted, and numbers only grow.
            self._tails[directory, shard] = _Tail(self._tails[directory, shard].number + 1, 0)
        directory.mkdir(mode=0o700, parents=True)
        self._identify(directory, owner, None)
        if self._sync:
            self._disk.sync_directory(self._root)

    def _write(self, directory: Path, shard: int, tail: _Tail, pieces: Sequence[bytes]) -> None:
        """Append to a segment, or create it if it is empty. Raises OSError."""
        path = directory / segment_name(shard, tail.number)
        if tail.size:
            writer = SegmentWriter.extend(self._disk, path, tail.size)
        else:
            writer = SegmentWriter.create(
                self._disk, path, SEGMENT_KIND, tail.number, sync=self._sync
            )
        writer.append(pieces)
        if self._sync:
            writer.flush()
        writer.close()

    def _undo(self, directory: Path, shard: int, before: _Tail, last: int) -> None:
        """Cut off what a failed save wrote. If that fails too, a restart may send it again."""
        # The next save begins another segment: what a failed write left in this one is unknown.
        self._tails[directory, shard] = _Tail(last + 1, 0)
        with suppress(OSError):
            for number in range(before.number + 1, last + 1):
                self._disk.remove(directory / segment_name(shard, number))
            path = directory / segment_name(shard, before.number)
            if before.size:
                self._disk.shorten(path, before.size)
            else:
                self._disk.remove(path)

    def _recover_sink(self, directory: Path) -> StoredQueue:
        owner, orphaned_at = self._read_owner(directory)
        recovered = StoredQueue(directory, owner, orphaned_at=orphaned_at)
        recovered.cursors = self._read_cursors(directory)
        for shard, cursor in recovered.cursors.items():
            self._tails[directory, shard] = _Tail(cursor.segment + 1, 0)
        for shard, number in sorted(self._segments(directory)):
            backlog = recovered.backlogs.setdefault(shard, DiskIndex(shard))
            tail = self._tails.get((directory, shard), _Tail(0, 0))
            self._tails[directory, shard] = _Tail(max(tail.number, number + 1), 0)
            try:
                self._recover_segment(recovered, backlog, number)
            except OSError as error:
                self.damaged.count_unreadable(directory / segment_name(shard, number), error)
        self._count_missing(recovered)
        return recovered

    def _count_missing(self, recovered: StoredQueue) -> None:
        """Count the points that cursors name and segments lack."""
        for shard, cursor in recovered.cursors.items():
            backlog = recovered.backlogs.get(shard)
            there = dict(backlog.held) if backlog is not None else {}
            for number, points in cursor.held:
                lacking = points - there.get(number, 0)
                if lacking > 0:
                    recovered.missing_points += lacking
                    path = recovered.directory / segment_name(shard, number)
                    _log.error("%s is deleted or damaged: %d points are lost", path, lacking)

    def _recover_segment(self, recovered: StoredQueue, backlog: DiskIndex, number: int) -> None:
        shard = backlog.shard
        path = recovered.directory / segment_name(shard, number)
        cursor = recovered.cursors.get(shard, QueueCursor(-1, 0))
        waiting = 0
        with reading(self._disk, path) as (read, size):
            for item in read_index(read, size):
                if isinstance(item, Damage):
                    if item.tail:
                        self.damaged.count_torn(path, item.end - item.start)
                    else:
                        self.damaged.count(path, item)
                    continue
                place = (shard, item.shards)
                recovered.lows[place] = max(item.low, recovered.lows.get(place, -1))
                if (number, item.start) < (cursor.segment, cursor.offset):
                    continue
                waiting += 1
                backlog.append(
                    RecordPlace(number, item.start, size),
                    points=item.points,
                    body_bytes=item.body_bytes,
                    created_at=item.created_at,
                )
        if not waiting:
            self._disk.remove(path)

    def _read_owner(self, directory: Path) -> tuple[Owner | None, float | None]:
        body = self._read_framed(directory / "sink")
        with suppress(msgspec.MsgspecError):
            found = msgspec.json.decode(body, type=_Identity)
            owner = Owner(*found.key, found.host, found.uid, found.control_plane)
            return owner, found.orphaned_at
        with suppress(msgspec.MsgspecError):  # format 1
            return Owner(*msgspec.json.decode(body, type=tuple[str, str])), None
        return None, None

    def _read_cursors(self, directory: Path) -> dict[int, QueueCursor]:
        body = self._read_framed(directory / "cursor")
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(body, type=dict[int, QueueCursor])
        return {}

    def _read_framed(self, path: Path) -> bytes:
        """Return the body of a file of one frame; b"" if it is damaged or missing."""
        with suppress(OSError), reading(self._disk, path) as (read, size):
            for item in read_frames(read, 0, min(size, _CURSOR_BYTES_MAX)):
                if not isinstance(item, Damage):
                    return item.body
        return b""

    def _segments(self, directory: Path) -> list[tuple[int, int]]:
        names = (parse_segment_name(path.name) for path in directory.iterdir())
        return [name for name in names if name is not None]

    def __repr__(self) -> str:
        return f"<QueueFiles {len(self._tails)} shards written>"


def _remove_tree(directory: Path, *, ignore_errors: bool = False) -> None:
    """Delete a directory and all that is in it."""
    import shutil  # noqa: PLC0415 - for removed sinks alone

    shutil.rmtree(directory, ignore_errors=ignore_errors)
