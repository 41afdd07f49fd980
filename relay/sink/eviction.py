"""Evicts queued data when the memory or disk budget that all sinks share is exceeded.

Orphans (queues whose sinks do not run) are evicted first, the oldest first. Then the largest tenant
is cut, and of a tenant the largest sink, by :mod:`relay.sink.queue.fair_share`. A sink with
``overflow: block`` is never evicted from: it is the only sink, and holds senders back instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from relay.sink.queue.fair_share import BufferedBytes, max_min_fair_cuts
from relay.sink.worker import SinkWorker

if TYPE_CHECKING:
    from relay.sink.spill.store import QueueStore

_log = logging.getLogger("relay.sink")

MEMORY_SHARE = 0.75
"""Share of the memory limit beyond which the largest queues are spilled, or evicted. At the limit
itself senders are refused: a dead endpoint must not be the reason."""

ROOM_PARTS = 64
"""An eviction makes room for this part of the budget at least, not for a single request."""


class Evictor:
    """Evicts data from sinks that share a memory and a disk budget.

    ``members`` returns all workers, each with the name of its tenant; ``memory`` counts the bytes
    that they hold in memory, of ``memory_bytes_max`` in all (0: no limit).
    """

    def __init__(
        self,
        members: Callable[[], Iterable[tuple[str, SinkWorker]]],
        *,
        store: QueueStore | None,
        memory: BufferedBytes,
        memory_bytes_max: int,
    ) -> None:
        self._members = members
        self._store = store
        self._memory = memory
        self._memory_bytes_max = memory_bytes_max

    def relieve_memory(self) -> None:
        """Spill the largest queues, or evict from them, if sinks hold too much in memory."""
        limit = int(MEMORY_SHARE * self._memory_bytes_max)
        excess = self._memory.used - limit
        if not self._memory_bytes_max or excess <= 0:
            return
        excess += limit // ROOM_PARTS
        # Spilling takes a moment; data is lost only where it does not keep up, or without a disk.
        hopeless = self._memory.used > (limit + self._memory_bytes_max) // 2
        for worker, size in self._cuts(excess, lambda worker: worker.memory_bytes):
            worker.save(at_once=True)
            if self._store is None or hopeless:
                worker.evict(size, "memory_full")

    def make_room(self, asking: SinkWorker, size: int) -> bool:
        """Return whether a sink may store so many bytes; evict from the largest where needed."""
        store = self._store
        assert store is not None
        lacking = store.lacks(size)
        if lacking:
            self._evict_orphans(lacking + store.bytes_max // ROOM_PARTS)
            lacking = store.lacks(size)
        if lacking and asking.config.queue.overflow != "block":

            def usage(worker: SinkWorker) -> int:
                return worker.stored_bytes + (size if worker is asking else 0)

            wanted = lacking + store.bytes_max // ROOM_PARTS
            for worker, part in self._cuts(wanted, usage):
                worker.evict(part, "storage_full")
        return not store.lacks(size)

    def relieve_disk(self) -> None:
        """Evict from the largest where the limit is exceeded: it may have been lowered."""
        store = self._store
        if store is None or not store.lacks(0):
            return
        self._evict_orphans(store.lacks(0))
        if excess := store.lacks(0):
            for worker, part in self._cuts(excess, lambda worker: worker.stored_bytes):
                worker.evict(part, "storage_full")

    def _evict_orphans(self, size: int) -> None:
        assert self._store is not None
        for queue, points in self._store.evict_orphans(size):
            exporter, sink = queue.names
            _log.warning(
                "the disk is full: dropping from a queue whose sink does not run",
                extra={"exporter": exporter, "sink": sink, "points": points},
            )

    def _cuts(
        self, excess: int, usage: Callable[[SinkWorker], int]
    ) -> Iterator[tuple[SinkWorker, int]]:
        """Yield the workers to evict from, and how many bytes from each."""
        groups: dict[str, dict[SinkWorker, int]] = {}
        for group, worker in self._members():
            if worker.config.queue.overflow != "block":
                groups.setdefault(group, {})[worker] = usage(worker)
        totals = {group: sum(members.values()) for group, members in groups.items()}
        for group, part in max_min_fair_cuts(totals, excess).items():
            yield from max_min_fair_cuts(groups[group], part).items()

    def __repr__(self) -> str:
        return f"<Evictor {self._memory.used}/{self._memory_bytes_max} bytes of memory>"
