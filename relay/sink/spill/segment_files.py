"""The files of the sinks' queues: what the store's threads do. Anything may wait for a disk.

Layout below the root: one directory a sink, named after a digest of exporter and sink; in it
``<lane>-<number>.seg``, segments of :mod:`relay.sink.spill.record`; ``sink``, its owner and since
when that is gone; ``cursor``, how far each lane has come and what it still holds. Rules:

* A segment grows by whole saves until it has :data:`SEGMENT_BYTES`; after a restart none is added
  to. Numbers only go up, over restarts too: ``cursor`` remembers them when all files are gone.
* A save is all or nothing: where writing fails, what was written of it is cut off again.
* ``cursor`` is written after the fact, without a flush: losing it repeats deliveries, no more. It
  is written before segments are deleted, so that one that it names and that is not there was taken
  away by somebody else: its points are damaged.
* A directory that was taken away is made again by the next save. Where the whole volume is another
  one than at the start, nothing is made and nothing counts as gone: it may be mounted again.
* A sink that was removed has its directory renamed to ``….removed-<n>`` before it is deleted, so
  that a crash in between does not bring it back.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from relay.sink.queue.cursor import Cursor
from relay.sink.queue.disk_index import DiskIndex, Place
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
"""Small, because a file is only given back whole: this much is the most that a lane wastes."""

_CURSOR_BYTES_MAX = 1 << 20
_DIGEST_CHARS = 32

SinkKey = tuple[str, str]
"""Exporter's id and sink's name."""


class _Identity(Owner, frozen=True):
    """What the file ``sink`` says: the owner, and since when it is gone (wall clock, s)."""

    orphaned_at: float | None = None


@dataclass(slots=True)
class _Tail:
    """The segment that a lane adds to; ``size`` is its good length."""

    number: int
    size: int


def directory_name(key: SinkKey) -> str:
    """The directory of a sink: names are free text, a digest is safe as a file's name."""
    return hashlib.sha256("\0".join(key).encode()).hexdigest()[:_DIGEST_CHARS]


class QueueFiles:
    """See the module's rules. Raises OSError wherever the disk fails."""

    def __init__(self, root: Path, *, disk: Disk, sync: bool) -> None:
        self._root = root
        self._volume = Volume(root.parent)
        self._disk = disk
        self._sync = sync
        self._tails: dict[tuple[Path, int], _Tail] = {}
        self.damaged = DamageCounters()

    def recover(self) -> dict[str, StoredQueue]:
        """Everything on disk, by directory name. Damage is counted and passed over.

        Raises FormatError where a segment is of another build's format.
        """
        found: dict[str, StoredQueue] = {}
        self._volume.remember()
        for directory in sorted(self._root.iterdir()):
            if ".removed-" in directory.name:
                shutil.rmtree(directory, ignore_errors=True)
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
    ) -> list[Place]:
        """Write payloads, each with its low, behind a lane's others; all of them or none."""
        if not directory.exists():
            self._make(directory, owner)
        before = self._tails.setdefault((directory, shard), _Tail(0, 0))
        places: list[Place] = []
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
            places.append(Place(number, offset, size))
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
        """A payload; None where its record is damaged or its file was taken away."""
        path = directory / segment_name(shard, segment)
        try:
            with reading(self._disk, path) as (read, size):
                return read_payload(read, offset, size, shard=shard)
        except FileNotFoundError:
            self._volume.check()
            return None

    def remove(self, directory: Path, shard: int, segments: Sequence[int]) -> None:
        """Delete segments that are dealt with."""
        for number in segments:
            tail = self._tails.get((directory, shard))
            if tail is not None and tail.number == number:
                self._tails[directory, shard] = _Tail(number + 1, 0)
            self._disk.remove(directory / segment_name(shard, number))

    def write_cursors(self, directory: Path, cursors: Mapping[int, Cursor]) -> None:
        """Note how far each lane has come."""
        if directory.exists():
            body = msgspec.json.encode(cursors)
            self._disk.replace(directory / "cursor", encode_frame(b"", body), sync=False)

    def rename(self, directory: Path, retired: Path) -> None:
        """Give a sink's directory the name of one that is removed."""
        if directory.exists():
            directory.rename(retired)
        for at, shard in [place for place in self._tails if place[0] == directory]:
            self._tails[retired, shard] = self._tails.pop((at, shard))

    def delete(self, directory: Path) -> None:
        """Delete a sink's directory with all that is in it."""
        if directory.exists():
            shutil.rmtree(directory)
        for place in [place for place in self._tails if place[0] == directory]:
            del self._tails[place]

    def check(self, directory: Path, sizes: Mapping[tuple[int, int], int]) -> list[tuple[int, int]]:
        """Which of a sink's segments, by lane and number, are gone or shorter than they ought to
        be."""
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
        """Note whose a directory is, and since when that is gone (wall clock, s; None: it is
        not)."""
        if directory.exists():
            self._identify(directory, owner, orphaned_at)

    def _identify(self, directory: Path, owner: Owner, orphaned_at: float | None) -> None:
        identity = _Identity(owner.exporter, owner.sink, owner.host, owner.uid, orphaned_at)
        frame = encode_frame(b"", msgspec.json.encode(identity))
        self._disk.replace(directory / "sink", frame, sync=self._sync)

    def _make(self, directory: Path, owner: Owner) -> None:
        """Make a sink's directory, also where somebody took it away."""
        self._volume.check()
        for shard in [shard for at, shard in self._tails if at == directory]:
            # What was there is gone; numbers only go up.
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
        """Cut off what a failed save wrote. Where even that fails, a restart may repeat it."""
        # The next save begins a segment of its own: what this one's file looks like is not known.
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
        """Compare what is there with what the cursors say ought to be."""
        for shard, cursor in recovered.cursors.items():
            backlog = recovered.backlogs.get(shard)
            there = dict(backlog.held) if backlog is not None else {}
            for number, points in cursor.held:
                lacking = points - there.get(number, 0)
                if lacking > 0:
                    recovered.missing_points += lacking
                    path = recovered.directory / segment_name(shard, number)
                    _log.error("%s is gone or damaged, %d points are lost", path, lacking)

    def _recover_segment(self, recovered: StoredQueue, backlog: DiskIndex, number: int) -> None:
        shard = backlog.shard
        path = recovered.directory / segment_name(shard, number)
        cursor = recovered.cursors.get(shard, Cursor(-1, 0))
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
                    Place(number, item.start, size),
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
            return Owner(*found.key, found.host, found.uid), found.orphaned_at
        with suppress(msgspec.MsgspecError):  # format 1
            return Owner(*msgspec.json.decode(body, type=tuple[str, str])), None
        return None, None

    def _read_cursors(self, directory: Path) -> dict[int, Cursor]:
        body = self._read_framed(directory / "cursor")
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(body, type=dict[int, Cursor])
        return {}

    def _read_framed(self, path: Path) -> bytes:
        """The body of a file of one frame; b"" where it is damaged or there is none."""
        with suppress(OSError), reading(self._disk, path) as (read, size):
            for item in read_frames(read, 0, min(size, _CURSOR_BYTES_MAX)):
                if not isinstance(item, Damage):
                    return item.body
        return b""

    def _segments(self, directory: Path) -> list[tuple[int, int]]:
        names = (parse_segment_name(path.name) for path in directory.iterdir())
        return [name for name in names if name is not None]

    def __repr__(self) -> str:
        return f"<QueueFiles {len(self._tails)} lanes written>"
