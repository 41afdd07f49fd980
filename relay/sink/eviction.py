"""Who gives way when memory or the disk runs out. See :mod:`relay.sink.queue.fair_share` for the
rule.

Queues whose sinks do not run go first, the longest gone before others. Then it is first between
customers, then between a customer's sinks. A sink with ``overflow: block`` never
gives way: it is alone, and makes senders wait instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from relay.sink.queue.fair_share import BufferedBytes, max_min_fair_cuts
from relay.sink.spill.store import QueueStore
from relay.sink.worker import SinkWorker

_log = logging.getLogger("relay.sink")

MEMORY_SHARE = 0.75
"""Of the memory limit; beyond it the largest queues go to disk, or give way. Above it, senders are
turned away in the end: a dead endpoint must not be the reason."""

ROOM_PARTS = 64
"""When others have to make room, it is for this part of the whole, not for one request."""


class Evictor:
    """``members`` are all workers, each with the name of the customer whose it is; ``memory`` is
    what they have there, of ``memory_bytes_max`` that may be used in all (0: no limit)."""

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
        """Where sinks have too much in memory, the largest store it, or give way."""
        limit = int(MEMORY_SHARE * self._memory_bytes_max)
        excess = self._memory.used - limit
        if not self._memory_bytes_max or excess <= 0:
            return
        excess += limit // ROOM_PARTS
        # Storing takes a moment; only where it does not keep up, or there is no disk, is data lost.
        hopeless = self._memory.used > (limit + self._memory_bytes_max) // 2
        for worker, size in self._concessions(excess, lambda worker: worker.memory_bytes):
            worker.save(at_once=True)
            if self._store is None or hopeless:
                worker.evict_from_memory(size)

    def make_room(self, asking: SinkWorker, size: int) -> bool:
        """Whether so many bytes may be stored, after the largest made room where they must."""
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
            for worker, part in self._concessions(wanted, usage):
                worker.evict_from_disk(part)
        return not store.lacks(size)

    def relieve_disk(self) -> None:
        """Where more is stored than may be, because less is allowed than before, the largest give
        way."""
        store = self._store
        if store is None or not store.lacks(0):
            return
        self._evict_orphans(store.lacks(0))
        if excess := store.lacks(0):
            for worker, part in self._concessions(excess, lambda worker: worker.stored_bytes):
                worker.evict_from_disk(part)

    def _evict_orphans(self, size: int) -> None:
        assert self._store is not None
        for queue, points in self._store.evict_orphans(size):
            exporter, sink = queue.names
            _log.warning(
                "the disk is full: a queue whose sink does not run gives way",
                extra={"exporter": exporter, "sink": sink, "points": points},
            )

    def _concessions(
        self, excess: int, usage: Callable[[SinkWorker], int]
    ) -> Iterator[tuple[SinkWorker, int]]:
        """Who gives up how much."""
        groups: dict[str, dict[SinkWorker, int]] = {}
        for group, worker in self._members():
            if worker.config.queue.overflow != "block":
                groups.setdefault(group, {})[worker] = usage(worker)
        totals = {group: sum(members.values()) for group, members in groups.items()}
        for group, part in max_min_fair_cuts(totals, excess).items():
            yield from max_min_fair_cuts(groups[group], part).items()

    def __repr__(self) -> str:
        return f"<Evictor {self._memory.used}/{self._memory_bytes_max} bytes of memory>"
