"""Queues on disk whose sinks do not run: kept for a time, adopted, or given up on record. Pure.

Rules:

* A queue is an orphan from the moment its sink is gone, over restarts too: the directory says since
  when. What start-up finds, and no sink claims, is an orphan from then on.
* A sink adopts what it may (:meth:`relay.sink.spill.owner.Owner.may_adopt`), the newest first
  where there are several.
* Where the disk runs out of room, orphans give way before any sink that runs, the longest gone
  first.
* Ledger, asserted when it is read: ``orphaned = adopted + expired + dropped + damaged + waiting``,
  in points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from relay.sink.queue.cursor import Cursor
from relay.sink.queue.disk_index import DiskIndex
from relay.sink.spill.owner import Owner


@dataclass(slots=True, eq=False)
class StoredQueue:
    """What the disk holds of one sink. ``owner`` is None where its name is lost; ``orphaned_at``
    is the wall clock, s, since which its sink is gone (None: it is not, or that is not known)."""

    directory: Path
    owner: Owner | None
    backlogs: dict[int, DiskIndex] = field(default_factory=dict)
    lows: dict[tuple[int, int], int] = field(default_factory=dict)
    """By lane and how many lanes there were."""
    cursors: dict[int, Cursor] = field(default_factory=dict)
    orphaned_at: float | None = None
    missing_points: int = 0
    """Points that ought to be there, and whose files are gone or shorter than they were."""

    @property
    def points(self) -> int:
        """Points that wait."""
        return sum(backlog.points for backlog in self.backlogs.values())

    @property
    def file_bytes(self) -> int:
        """Bytes of its segments."""
        return sum(backlog.file_bytes for backlog in self.backlogs.values())

    @property
    def names(self) -> tuple[str, str]:
        """Exporter's id and sink's name, for people."""
        return self.owner.key if self.owner is not None else ("unknown", "unknown")


@dataclass(frozen=True, slots=True)
class OrphanReport:
    """One orphan at one moment; times are wall clock, s."""

    exporter: str
    sink: str
    host: str
    points: int
    bytes: int
    orphaned_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class OrphanStatistics:
    """All orphans at one moment. ``orphaned`` points since the start, those found then included,
    and what became of them; those in ``queues`` wait."""

    queues: tuple[OrphanReport, ...] = ()
    orphaned: int = 0
    adopted: int = 0
    expired: int = 0
    dropped: int = 0
    damaged: int = 0

    @property
    def waiting(self) -> int:
        """Points in orphans."""
        return sum(queue.points for queue in self.queues)

    @property
    def bytes(self) -> int:
        """What the orphans' files take."""
        return sum(queue.bytes for queue in self.queues)

    @property
    def balanced(self) -> bool:
        """Whether every orphaned point is accounted for, exactly once."""
        gone = self.adopted + self.expired + self.dropped + self.damaged
        return self.orphaned == gone + self.waiting


NO_ORPHANS = OrphanStatistics()


class Orphans:
    """See the module's rules. ``retention_s`` is how long an orphan is kept."""

    def __init__(self, retention_s: float) -> None:
        self._retention_s = retention_s
        self._queues: list[StoredQueue] = []
        """The longest gone first."""
        self._orphaned = self._adopted = self._expired = self._dropped = self._damaged = 0

    def add(self, queue: StoredQueue, now: float) -> None:
        """Take in a queue whose sink is gone, since ``now`` where it does not say."""
        if queue.orphaned_at is None or queue.orphaned_at > now:
            queue.orphaned_at = now
        self._orphaned += queue.points + queue.missing_points
        self._damaged += queue.missing_points
        queue.missing_points = 0
        self._queues.append(queue)
        self._queues.sort(key=lambda one: one.orphaned_at or 0.0)

    def adopt(self, owner: Owner) -> StoredQueue | None:
        """Give a sink the newest queue that it may have; None where there is none."""
        for queue in reversed(self._queues):
            if queue.owner is not None and owner.may_adopt(queue.owner):
                self._queues.remove(queue)
                self._adopted += queue.points
                return queue
        return None

    def strangers(self, owner: Owner) -> list[StoredQueue]:
        """Queues of a sink of the same name that it may not adopt."""
        return [queue for queue in self._queues if queue.owner and queue.owner.key == owner.key]

    def expire(self, now: float) -> list[StoredQueue]:
        """Let go of those that were kept for long enough, for the caller to delete."""
        gone = [one for one in self._queues if (one.orphaned_at or 0.0) + self._retention_s <= now]
        for queue in gone:
            self._queues.remove(queue)
            self._expired += queue.points
        return gone

    def give_way(self, size: int) -> Iterator[tuple[StoredQueue, dict[int, list[int]], int, int]]:
        """Make room of so many bytes: for each queue that gave something up, the segments to
        delete by lane, the points that were in them, and their bytes. One that has no points left
        is no orphan any more."""
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
        """A snapshot; a ledger that does not balance is a bug."""
        snapshot = OrphanStatistics(
            tuple(self._report(queue) for queue in self._queues),
            self._orphaned,
            self._adopted,
            self._expired,
            self._dropped,
            self._damaged,
        )
        assert snapshot.balanced, snapshot
        return snapshot

    def __iter__(self) -> Iterator[StoredQueue]:
        """The longest gone first."""
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
    """Drop the oldest records until files of so many bytes can be deleted; their numbers by
    lane."""
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
