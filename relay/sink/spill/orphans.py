"""Queues on disk whose sinks do not run: kept for a time, adopted, or dropped in the ledger. Pure.

Rules:

* A queue is an orphan from the moment its sink is removed, over restarts too: its directory says
  since when. A queue that start-up finds and no sink claims is an orphan from then on.
* A sink adopts an orphan of its own (:meth:`relay.sink.spill.owner.Owner.may_adopt`), the newest if
  there are several.
* When the disk is full, orphans are evicted before any running sink, the oldest orphan first.
* One whose object turns out to be deleted goes at once.
* Ledger, asserted on every read: ``orphaned = adopted + expired + deleted + dropped + damaged +
  waiting``, in points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from relay.sink.queue.cursor import QueueCursor
from relay.sink.queue.disk_index import DiskIndex
from relay.sink.spill.owner import Owner


@dataclass(slots=True, eq=False)
class StoredQueue:
    """The queue of one sink on disk.

    ``owner`` is None if its file is lost; ``orphaned_at`` is when the sink was removed (wall clock,
    s; None: it was not, or that is unknown).
    """

    directory: Path
    owner: Owner | None
    backlogs: dict[int, DiskIndex] = field(default_factory=dict)
    lows: dict[tuple[int, int], int] = field(default_factory=dict)
    """By shard and the number of shards at that time."""
    cursors: dict[int, QueueCursor] = field(default_factory=dict)
    orphaned_at: float | None = None
    missing_points: int = 0
    """Points whose files are deleted or shorter than they were."""

    @property
    def points(self) -> int:
        """Return the waiting points."""
        return sum(backlog.points for backlog in self.backlogs.values())

    @property
    def file_bytes(self) -> int:
        """Return the bytes of its segments."""
        return sum(backlog.file_bytes for backlog in self.backlogs.values())

    @property
    def names(self) -> tuple[str, str]:
        """Return the exporter's id and the sink's name for display."""
        return self.owner.key if self.owner is not None else ("unknown", "unknown")


@dataclass(frozen=True, slots=True)
class OrphanReport:
    """A snapshot of one orphan; times are wall clock, s."""

    exporter: str
    sink: str
    host: str
    points: int
    bytes: int
    orphaned_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class OrphanStatistics:
    """A snapshot of all orphans.

    ``orphaned`` counts points since the start, those found at the start included; the other
    counters are their outcomes; points in ``queues`` wait.
    """

    queues: tuple[OrphanReport, ...] = ()
    orphaned: int = 0
    adopted: int = 0
    expired: int = 0
    dropped: int = 0
    damaged: int = 0
    deleted: int = 0

    @property
    def waiting(self) -> int:
        """Return the points in orphans."""
        return sum(queue.points for queue in self.queues)

    @property
    def bytes(self) -> int:
        """Return the bytes of the orphans' files."""
        return sum(queue.bytes for queue in self.queues)

    @property
    def balanced(self) -> bool:
        """Return whether every orphaned point is accounted for exactly once."""
        gone = self.adopted + self.expired + self.deleted + self.dropped + self.damaged
        return self.orphaned == gone + self.waiting


NO_ORPHANS = OrphanStatistics()


class Orphans:
    """The orphans of one data directory. ``retention_s`` is how long one is kept."""

    def __init__(self, retention_s: float) -> None:
        self._retention_s = retention_s
        self._queues: list[StoredQueue] = []
        """The oldest first."""
        self._orphaned = self._adopted = self._expired = self._dropped = self._damaged = 0
        self._deleted = 0

    def add(self, queue: StoredQueue, now: float) -> None:
        """Add a queue whose sink does not run, orphaned ``now`` unless it says since when."""
        if queue.orphaned_at is None or queue.orphaned_at > now:
            queue.orphaned_at = now
        self._orphaned += queue.points + queue.missing_points
        self._damaged += queue.missing_points
        queue.missing_points = 0
        self._queues.append(queue)
        self._queues.sort(key=lambda one: one.orphaned_at or 0.0)

    def adopt(self, owner: Owner) -> StoredQueue | None:
        """Remove and return the newest queue that a sink may adopt, if any."""
        for queue in reversed(self._queues):
            if queue.owner is not None and owner.may_adopt(queue.owner):
                self._queues.remove(queue)
                self._adopted += queue.points
                return queue
        return None

    def strangers(self, owner: Owner) -> list[StoredQueue]:
        """Return queues of a sink of the same name that it may not adopt."""
        return [queue for queue in self._queues if queue.owner and queue.owner.key == owner.key]

    def expire(self, now: float) -> list[StoredQueue]:
        """Remove and return the queues whose retention has ended; the caller deletes them."""
        gone = [one for one in self._queues if (one.orphaned_at or 0.0) + self._retention_s <= now]
        for queue in gone:
            self._queues.remove(queue)
            self._expired += queue.points
        return gone

    def delete(self, queue: StoredQueue) -> None:
        """Remove a queue whose object is deleted; the caller deletes it."""
        self._queues.remove(queue)
        self._deleted += queue.points

    def evict(self, size: int) -> Iterator[tuple[StoredQueue, dict[int, list[int]], int, int]]:
        """Evict ``size`` bytes; remove queues that become empty.

        Yields for each queue the segments to delete by shard, the points that were dropped and the
        bytes that become free.
        """
        for queue in tuple(self._queues):
            if size <= 0:
                return
            bytes_before, points_before = queue.file_bytes, queue.points
            segments = _shrink(queue, size)
            freed_bytes = bytes_before - queue.file_bytes
            lost = points_before - queue.points
            size -= freed_bytes
            self._dropped += lost
            if not queue.points:
                self._queues.remove(queue)
            yield queue, segments, lost, freed_bytes

    def statistics(self) -> OrphanStatistics:
        """Return a snapshot; asserts that the ledger balances."""
        snapshot = OrphanStatistics(
            tuple(self._report(queue) for queue in self._queues),
            self._orphaned,
            self._adopted,
            self._expired,
            self._dropped,
            self._damaged,
            self._deleted,
        )
        assert snapshot.balanced, snapshot
        return snapshot

    def __iter__(self) -> Iterator[StoredQueue]:
        """Iterate over the queues, the oldest orphan first."""
        return iter(self._queues)

    def __len__(self) -> int:
        return len(self._queues)

    def _report(self, queue: StoredQueue) -> OrphanReport:
        since = queue.orphaned_at or 0.0
        host = queue.owner.host if queue.owner is not None else ""
        return OrphanReport(
            *queue.names, host, queue.points, queue.file_bytes, since, since + self._retention_s
        )

    def __repr__(self) -> str:
        return f"<Orphans {len(self._queues)} queues>"


def _shrink(queue: StoredQueue, size: int) -> dict[int, list[int]]:
    """Drop the oldest records until files of ``size`` bytes can be deleted.

    Returns these by shard.
    """
    freed: dict[int, list[int]] = {}
    goal = max(0, queue.file_bytes - size)
    while queue.points and queue.file_bytes > goal:
        heads = (
            (head.created_at, shard)
            for shard, backlog in queue.backlogs.items()
            if (head := backlog.peek()) is not None
        )
        _, shard = min(heads)
        backlog = queue.backlogs[shard]
        backlog.drop()
        freed.setdefault(shard, []).extend(backlog.free(keep_newest=False))
    return freed
