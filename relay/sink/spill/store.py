"""The sinks' queues on disk, as the event loop sees them.

Rules:

* One thread writes and one reads, so that a slow flush does not delay what is ready to be sent.
  Nothing here blocks the loop.
* A failed disk raises :class:`StorageError` instead of OSError, upon which the caller keeps the
  data in memory. :attr:`QueueStore.trouble` says why until a write succeeds; meanwhile one save at
  a time is tried, with backoff.
* The limit counts the bytes of files and of running saves. The caller makes room.
* A queue whose sink does not run is an orphan (:mod:`relay.sink.spill.orphans`) and counts too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from relay.runtime.errors import StorageError
from relay.sink.queue.cursor import QueueCursor
from relay.sink.queue.disk_index import DiskIndex, Entry, RecordPlace
from relay.sink.queue.payload import EncodedRequest
from relay.sink.spill.orphans import NO_ORPHANS, Orphans, OrphanStatistics, StoredQueue
from relay.sink.spill.owner import Owner
from relay.sink.spill.segment_files import QueueFiles, directory_name
from relay.storage.log.filesystem import Disk, reason
from relay.storage.log.io_thread import IoThread
from relay.storage.log.segment import DamageCounters

_log = logging.getLogger("relay.sink")

SLOW_S = 5.0
"""A write that takes longer counts as trouble."""

TRY_AGAIN_S = (1.0, 10.0)
"""The shortest and the longest wait after a failure."""

CLOSE_S_MAX = 5.0
"""Longest wait of closing for background deletions, s."""

ORPHAN_RETENTION_S = 24 * 3600.0

WAITING_SAVES_MAX = 256
"""The most saves in the writing thread; further requests stay in memory."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """A snapshot; counters since the start."""

    used_bytes: int
    bytes_max: int
    trouble: str
    errors: int
    saves: int
    saved_payloads: int
    saved_bytes: int
    loads: int
    damaged: DamageCounters
    orphans: OrphanStatistics = NO_ORPHANS


class QueueStore:
    """All queues below one directory. Call :meth:`open` first; the rest on the event loop.

    ``orphan_retention_s`` is how long the queue of a removed sink is kept; ``clock`` is wall time,
    s.
    """

    def __init__(
        self,
        root: Path,
        *,
        bytes_max: int,
        sync: bool = True,
        disk: Disk | None = None,
        tick: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
        orphan_retention_s: float = ORPHAN_RETENTION_S,
    ) -> None:
        self._root = root
        self._clock = clock
        self._files = QueueFiles(root, disk=disk or Disk(), sync=sync)
        self._tick = tick
        self._writer = IoThread("queue-writer")
        self._reader = IoThread("queue-reader")
        self._recovered: dict[str, StoredQueue] = {}
        """Queues that start-up found and no sink has claimed yet."""
        self._directories: set[Path] = set()
        self._orphans = Orphans(orphan_retention_s)
        self._background: set[asyncio.Future[None]] = set()
        self._writes_since: dict[int, float] = {}
        self._serial = 0
        self._failure = ""
        self._logged_failure = ""
        self._failures = 0
        self._try_at = 0.0
        self.bytes_max = bytes_max
        self.used_bytes = 0
        self.highest_position = -1
        self._errors = 0
        self._saves = 0
        self._saved_payloads = 0
        self._saved_bytes = 0
        self._loads = 0

    def open(self) -> None:
        """Find all queues on disk; may take seconds, so call it in a thread.

        Raises FormatError, and OSError if the directory cannot be read.
        """
        self._recovered = self._files.recover()
        for found in self._recovered.values():
            self._directories.add(found.directory)
            self.used_bytes += found.file_bytes
            self.highest_position = max(self.highest_position, *found.lows.values(), -1)

    def claim(self, owner: Owner) -> SinkStore:
        """Return the store of one sink, with the queue that start-up found or an adopted orphan."""
        found = self._take(owner)
        if found is None:
            found = StoredQueue(self._free_directory(owner), owner)
            self._directories.add(found.directory)
        elif found.owner != owner or found.orphaned_at is not None:
            self.spawn(self._files.identify, found.directory, owner, None)
        return SinkStore(self, owner, found)

    def keep_orphans(self) -> list[StoredQueue]:
        """Make orphans of the queues that no sink has claimed, and return them."""
        now, left = self._clock(), list(self._recovered.values())
        self._recovered.clear()
        for queue in left:
            self._keep(queue, now)
        return left

    def park(self, queue: StoredQueue) -> None:
        """Make an orphan of a removed sink's queue; no job of it may be running."""
        self._keep(queue, self._clock())

    def discard(self, directory: Path) -> None:
        """Delete a queue whose bytes count no more; no job of it may be running."""
        self._directories.discard(directory)
        self.spawn(self._discard, directory, self._retired_name(directory))

    def delete_orphan(self, queue: StoredQueue) -> None:
        """Delete an orphan whose object is deleted."""
        self._orphans.delete(queue)
        self._delete(queue)

    def expire_orphans(self) -> list[StoredQueue]:
        """Delete the orphans whose retention has ended, and return them."""
        gone = self._orphans.expire(self._clock())
        for queue in gone:
            self._delete(queue)
        return gone

    def evict_orphans(self, size: int) -> list[tuple[StoredQueue, int]]:
        """Evict ``size`` bytes of orphans; return these and the points that each lost."""
        evicted = []
        for queue, segments, points, freed_bytes in self._orphans.evict(size):
            self.used_bytes -= freed_bytes
            for shard, numbers in segments.items():
                self.spawn(self._files.remove, queue.directory, shard, numbers)
            if not queue.points:
                self._delete(queue)
            evicted.append((queue, points))
        return evicted

    def strangers(self, owner: Owner) -> list[StoredQueue]:
        """Return orphans of a sink of the same name that it may not adopt."""
        return self._orphans.strangers(owner)

    @property
    def orphans(self) -> Iterator[StoredQueue]:
        """Return the orphans, the oldest first."""
        return iter(self._orphans)

    def _take(self, owner: Owner) -> StoredQueue | None:
        for name, found in self._recovered.items():
            # If the owner's file is lost, the directory's name still tells it.
            is_ours = found.owner is None and name == directory_name(owner.key)
            if is_ours or (found.owner is not None and owner.may_adopt(found.owner)):
                return self._recovered.pop(name)
        return self._orphans.adopt(owner)

    def _free_directory(self, owner: Owner) -> Path:
        """Return an unused directory for a sink, numbered if that of its name is in use."""
        path = self._root / directory_name(owner.key)
        number = 1
        while path in self._directories:
            number += 1
            path = self._root / f"{directory_name(owner.key)}-{number}"
        return path

    def _keep(self, queue: StoredQueue, now: float) -> None:
        if not queue.points and not queue.missing_points:
            self._delete(queue)
            return
        known = queue.orphaned_at
        self._orphans.add(queue, now)
        if known is None and queue.owner is not None:
            self.spawn(self._files.identify, queue.directory, queue.owner, queue.orphaned_at)

    def _delete(self, queue: StoredQueue) -> None:
        self.used_bytes -= queue.file_bytes
        self.discard(queue.directory)

    @property
    def trouble(self) -> str:
        """Return what is wrong with the disk, or ""."""
        if self._failure:
            return self._failure
        oldest = min(self._writes_since.values(), default=None)
        slow = oldest is not None and self._tick() - oldest > SLOW_S
        return f"the disk is slow: a write takes longer than {SLOW_S:g} s" if slow else ""

    @property
    def ready(self) -> bool:
        """Return whether a save may be tried now."""
        if len(self._writes_since) >= WAITING_SAVES_MAX:
            return False
        if not self._failure:
            return True
        return not self._writes_since and self._tick() >= self._try_at

    async def write(self, work: Callable[[], Result]) -> Result:
        """Run a job in the writing thread. Raises StorageError."""
        self._serial += 1
        serial = self._serial
        self._writes_since[serial] = self._tick()
        try:
            result = await self._writer.run(work)
        except OSError as error:
            raise self._fail(error) from error
        finally:
            del self._writes_since[serial]
        if self._failure:
            _log.info("queues on disk: writable again")
        self._failure = ""
        self._failures = 0
        self._logged_failure = ""
        return result

    async def read(self, work: Callable[[], Result]) -> Result:
        """Run a job in the reading thread. Raises StorageError."""
        try:
            result = await self._reader.run(work)
        except OSError as error:
            self._errors += 1
            raise StorageError(f"queues on disk: cannot read: {reason(error)}") from error
        self._loads += 1
        return result

    def spawn(self, work: Callable[..., object], *arguments: object) -> None:
        """Run a job in the writing thread in the background; failures are counted and logged."""
        future = asyncio.ensure_future(self._run(work, arguments))
        self._background.add(future)
        future.add_done_callback(self._background.discard)

    def lacks(self, size: int) -> int:
        """Return by how many bytes a save of this size would exceed the limit."""
        return max(0, self.used_bytes + size - self.bytes_max)

    def saved(self, payloads: int, size: int) -> None:
        """Count a save."""
        self._saves += 1
        self._saved_payloads += payloads
        self._saved_bytes += size

    def lost(self, size: int) -> None:
        """Count a record that was found damaged when it was read."""
        self._files.damaged.records += 1
        self._files.damaged.bytes += size

    def _retired_name(self, directory: Path) -> Path:
        """Return the name of a directory while it is being deleted."""
        self._serial += 1
        return directory.with_name(f"{directory.name}.removed-{self._serial}")

    async def close(self) -> None:
        """Finish background jobs within :data:`CLOSE_S_MAX`, and end the threads."""
        if self._background:
            _, hanging = await asyncio.wait(self._background, timeout=CLOSE_S_MAX)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
        self._writer.stop()
        self._reader.stop()

    @property
    def files(self) -> QueueFiles:
        """Return the files, for jobs in the threads."""
        return self._files

    def statistics(self) -> StoreStatistics:
        """Return a snapshot."""
        return StoreStatistics(
            self.used_bytes,
            self.bytes_max,
            self.trouble,
            self._errors,
            self._saves,
            self._saved_payloads,
            self._saved_bytes,
            self._loads,
            replace(self._files.damaged),
            self._orphans.statistics(),
        )

    async def _run(self, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
        try:
            await self._writer.run(lambda: work(*arguments))
        except OSError as error:
            self._errors += 1
            text = f"queues on disk: cannot update or delete files: {reason(error)}"
            if text != self._logged_failure:
                _log.warning("%s", text)
            self._logged_failure = text

    def _discard(self, directory: Path, retired: Path) -> None:
        self._files.rename(directory, retired)
        self._files.delete(retired)

    def _fail(self, error: OSError) -> StorageError:
        failure = f"queues on disk: cannot write: {reason(error)}"
        if failure != self._failure:
            _log.error("%s; new data is kept in memory", failure)
        first, longest = TRY_AGAIN_S
        self._errors += 1
        self._failure = failure
        self._try_at = self._tick() + min(longest, first * 2 ** min(self._failures, 8))
        self._failures += 1
        return StorageError(failure)

    def __repr__(self) -> str:
        return f"<QueueStore {self.used_bytes}/{self.bytes_max} bytes {self.trouble}>"


class SinkStore:
    """One sink's part of the store."""

    def __init__(self, store: QueueStore, owner: Owner, found: StoredQueue) -> None:
        self._store = store
        self._files = store.files
        self._owner = owner
        self._directory = found.directory
        self._cursors: Mapping[int, QueueCursor] = dict(found.cursors)
        self._cursors_due = False
        self._used_bytes = found.file_bytes
        self.backlogs: Mapping[int, DiskIndex] = found.backlogs
        self.missing_points = found.missing_points
        """Points of segments that another process deleted while this one did not run."""
        self._lows = found.lows

    @property
    def cursors(self) -> Mapping[int, QueueCursor]:
        """Return where each shard continues, as saved last."""
        return self._cursors

    @property
    def ready(self) -> bool:
        """Return whether a save may be tried now."""
        return self._store.ready

    def lows(self, shards: int) -> tuple[int, ...]:
        """Return the low of each of ``shards`` shards; -1 if unknown.

        :mod:`relay.sink.spill.record` defines it.
        """
        return tuple(self._lows.get((shard, shards), -1) for shard in range(shards))

    def regrouped(self, shards: int) -> bool:
        """Return whether a record was written under another number of shards."""
        return any(count != shards for _, count in self._lows)

    async def save(
        self, shard: int, batch: Sequence[tuple[EncodedRequest, int]], *, shards: int
    ) -> list[RecordPlace]:
        """Write requests of one of ``shards`` shards, oldest first, each with its low.

        Raises StorageError, with nothing written.
        """
        size = sum(payload.body_bytes for payload, _ in batch)
        self._store.used_bytes += size  # until the caller calls account()
        try:
            places = await self._store.write(
                lambda: self._files.append(self._directory, self._owner, shard, batch, shards)
            )
        finally:
            self._store.used_bytes -= size
        self._store.saved(len(batch), size)
        return places

    async def load(self, entry: Entry) -> EncodedRequest | None:
        """Read a request; None if its record is damaged. Raises StorageError."""
        payload = await self._store.read(
            lambda: self._files.read(self._directory, entry.shard, entry.segment, entry.offset)
        )
        if payload is None:
            self._store.lost(entry.body_bytes)
        return payload

    def account(self, used_bytes: int) -> None:
        """Set the bytes of this sink's files."""
        self._store.used_bytes += used_bytes - self._used_bytes
        self._used_bytes = used_bytes

    def free(self, shard: int, segments: Sequence[int]) -> None:
        """Delete finished segments in the background."""
        if segments:
            self._store.spawn(self._files.remove, self._directory, shard, segments)

    def note(self, cursors: Mapping[int, QueueCursor]) -> None:
        """Save where each shard continues, in the background; the last call wins."""
        # Keep the cursors of empty shards: the numbers of their segments must not be used again, or
        # an older cursor would point behind new records.
        cursors = {**self._cursors, **cursors}
        if cursors == self._cursors:
            return
        self._cursors = cursors
        if not self._cursors_due:
            self._cursors_due = True
            self._store.spawn(self._write_cursors)

    def identify(self, owner: Owner) -> None:
        """Save a changed owner: another endpoint or another object."""
        if owner != self._owner:
            self._owner = owner
            self._store.spawn(self._files.identify, self._directory, owner, None)

    async def check(self, sizes: Mapping[tuple[int, int], int]) -> list[tuple[int, int]]:
        """Return the segments, by shard and number, that are deleted or shorter than ``sizes``.

        Raises StorageError.
        """
        return await self._store.read(lambda: self._files.check(self._directory, sizes))

    def park(
        self, backlogs: dict[int, DiskIndex], cursors: Mapping[int, QueueCursor], *, shards: int
    ) -> None:
        """Make an orphan of the queue of a removed sink with ``shards`` shards.

        No job may be running, and this object must not be used afterwards.
        """
        self.note(cursors)
        queue = StoredQueue(self._directory, self._owner, backlogs, cursors=dict(self._cursors))
        queue.lows = {(shard, shards): -1 for shard in range(shards)}
        self.account(queue.file_bytes)
        self._store.park(queue)

    def discard(self) -> None:
        """Delete the queue; no job may be running, and this object must not be used afterwards."""
        self.account(0)
        self._store.discard(self._directory)

    def _write_cursors(self) -> None:
        self._cursors_due = False
        self._files.write_cursors(self._directory, self._cursors)

    def __repr__(self) -> str:
        return f"<SinkStore {self._owner.key} {self._used_bytes} bytes>"
