"""Decides which points of accepted requests are still needed, and by which batches.

The rules hold in memory, over an orderly stop and over ``kill -9``:

* A batch needs the requests from its *low position* on. Earlier points are delivered, dropped in
  the ledger, on the sink's disk, or waited.
* A sample without a point *waits*, for the rest of its histogram or for its metric's type.
  :class:`WaitingList` has it under the position of its oldest sample, and a checkpoint lists it
  (:class:`WaitingEntry`), so it holds back no sink. A point that leaves after its last sample came
  gets the position of that moment, and is listed with it until everything up to it is delivered.
  A batch whose low position is beyond it has it.
* A point of several requests is read again from the first of them on, or not at all; see
  :meth:`relay.pipeline.batching.watermark.OffsetTracker.tie`.
* A replay begins at the oldest listed position. Up to the *ceiling*, from which on every batch
  needs every point, it only collects components. Then :class:`ReplayGate` passes listed points, and
  those that a batch needs by its low position.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple, Protocol

from relay.codec.otlp.batch import OpenBatch
from relay.pipeline.batching.transaction import IngestMark
from relay.pipeline.batching.watermark import OffsetTracker

LISTED_MAX = 5_000
"""Entries that one checkpoint names: some 300 kB. More of them hold back all sinks."""

WAITING = (1 << 62) - 1
"""``needed_until`` of a waiter that still waits."""

_SPARE = 1_000
"""Entries that ended, beyond as many as did not, before they are swept."""


class WaitingEntry(NamedTuple):
    """A waiter as a checkpoint stores it.

    Positions of its oldest sample and of its point (:data:`WAITING`: more samples may come), and
    its key.
    """

    first: int
    last: int
    key: bytes


class Waiter(Protocol):
    """Samples that wait to become a point.

    ``origin`` is the mark of the oldest sample; it is needed while a request or a batch holds any
    position up to ``needed_until``.
    """

    origin: IngestMark
    needed_until: int

    def waiting_key(self) -> bytes:
        """Return its key, the same in every process."""
        ...


class WaitingList:
    """Waiters, and points that waited and are not delivered, by position."""

    def __init__(self, offsets: OffsetTracker) -> None:
        self._offsets = offsets
        self._heap: list[tuple[int, int, Waiter]] = []
        self._tie = 0
        self._sweep_at = _SPARE

    def add(self, waiter: Waiter) -> None:
        """Add a waiter."""
        self._tie += 1
        heapq.heappush(self._heap, (waiter.origin.position, self._tie, waiter))
        if len(self._heap) > self._sweep_at:
            # In a transaction points have left that batches hold from its commit on: until then
            # only their own holds tell.
            self._sweep(self._offsets.low)

    @property
    def full(self) -> bool:
        """True if there is no room to list further points until some are delivered."""
        return len(self._heap) > 2 * LISTED_MAX

    @property
    def low(self) -> int | None:
        """The oldest position of an entry, or None."""
        heap = self._heap
        low = self._offsets.undelivered
        while heap and heap[0][2].needed_until < low:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def waiters(self) -> list[Waiter]:
        """Return all entries, the oldest first."""
        low = self._offsets.undelivered
        return [entry[2] for entry in sorted(self._heap) if entry[2].needed_until >= low]

    def snapshot(self, *, only_waited: bool = False) -> tuple[list[WaitingEntry], int | None]:
        """Return the entries for a checkpoint and the oldest position that it does not list.

        That position holds back all sinks; None if every entry is listed. ``only_waited``: a replay
        collects; list only entries that were listed before, as they were.
        """
        self._sweep(self._offsets.undelivered)
        if self.full and not only_waited:
            listed = [entry for entry in self._heap if entry[2].origin.named_until >= 0]
            return [_entry(entry) for entry in listed], self.low
        chosen: list[tuple[int, int, Waiter]] = []
        rest: list[tuple[int, int, Waiter]] = []
        for entry in self._heap:
            named = entry[2].origin.named_until >= 0 or not only_waited
            (chosen if named else rest).append(entry)
        if len(chosen) > LISTED_MAX:
            # An entry listed once stays listed to its end: sinks went on without it.
            chosen.sort(key=lambda entry: (entry[2].origin.named_until < 0, *entry[:2]))
            most = max(LISTED_MAX, sum(entry[2].origin.named_until >= 0 for entry in chosen))
            rest += chosen[most:]
            del chosen[most:]
        held = min((entry[0] for entry in rest), default=None)
        return [_entry(entry, collecting=only_waited) for entry in chosen], held

    def _sweep(self, low: int) -> None:
        """Remove the entries that are not needed from position ``low`` on."""
        self._heap = [entry for entry in self._heap if entry[2].needed_until >= low]
        heapq.heapify(self._heap)
        self._sweep_at = 2 * len(self._heap) + _SPARE

    def __repr__(self) -> str:
        return f"<WaitingList {len(self._heap)} entries>"


class ReplayGate:
    """Decides which points of replayed requests a batch still needs.

    ``low`` returns a batch's low position; ``waited`` is what the last checkpoint named. From
    ``ceiling`` on every batch needs every point, and all that had left is collected; ``crossed``
    once it is reached. Before ``floor``
    no batch needs any. From ``unlisted`` on samples may have waited that the checkpoint had no room
    for: it held back all sinks to before them.
    """

    def __init__(
        self,
        low: Callable[[OpenBatch], int],
        waited: Iterable[WaitingEntry],
        *,
        floor: int,
        ceiling: int,
        unlisted: int = WAITING,
    ) -> None:
        self.low = low
        self.floor = floor
        self.unlisted = unlisted
        self.crossed = False
        self._waited: dict[bytes, WaitingEntry] = {}
        for entry in waited:
            known = self._waited.get(entry.key, entry)
            self._waited[entry.key] = WaitingEntry(
                min(entry.first, known.first), max(entry.last, known.last), entry.key
            )
        self._lasts = sorted(e.last for e in self._waited.values() if e.last < WAITING)
        # They are beyond the ceiling if an earlier replay did not end.
        self.ceiling = max([ceiling, *(last + 1 for last in self._lasts[-1:])])

    def needs(self, batch: OpenBatch, origin: IngestMark) -> bool:
        """Return whether a batch still needs a point."""
        came = origin.position if origin.came < 0 else origin.came
        return max(came, origin.named_until) >= self.low(batch)

    def mark(self, origin: IngestMark, key: bytes) -> IngestMark:
        """Return the mark of a sample, with how long it was named under this key."""
        entry = self._waited.get(key)
        if entry is None or not entry.first <= origin.position <= entry.last:
            return origin
        return replace(origin, named_until=max(origin.named_until, entry.last))

    def low_max(self, low: int) -> int:
        """Return how far a batch may have come by now whose low position was ``low``.

        Until the ceiling it does not have what had left from there on.
        """
        at = len(self._lasts) if self.crossed else bisect_left(self._lasts, low)
        return self._lasts[at] if at < len(self._lasts) else WAITING

    def had_left(self, origin: IngestMark) -> bool:
        """Return whether what waits by now had left by the checkpoint."""
        if origin.named_until < 0:
            return origin.position < self.unlisted
        return origin.named_until != WAITING

    def knows(self, key: bytes) -> bool:
        """Return whether something was named under this key."""
        return key in self._waited

    def left(self, following: int) -> list[WaitingEntry]:
        """Return what was named and is not in the requests replayed so far."""
        return [
            entry._replace(first=max(entry.first, following))
            for entry in self._waited.values()
            if following < self.ceiling and entry.last >= following
        ]

    def __repr__(self) -> str:
        return f"<ReplayGate below {self.ceiling}, {len(self._waited)} named>"


def _entry(entry: tuple[int, int, Waiter], *, collecting: bool = False) -> WaitingEntry:
    position, _, waiter = entry
    # What a replay collects may have left before; then it leaves again when all is collected.
    last = waiter.origin.named_until if collecting else waiter.needed_until
    return WaitingEntry(position, last, waiter.waiting_key())
