"""When open batches are due.

One heap for all sinks: a batch is armed when its first point arrives and is due ``timeout`` later.
A batch that was sealed meanwhile is recognised by its changed opening mark and skipped, so that
sealing costs the schedule nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from relay.codec.otlp.batch import OpenBatch, SealedBatch


class FlushSchedule:
    """Deadlines in any clock, as long as it is always the same one."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, OpenBatch, int]] = []
        self._tie = 0

    def arm(self, batch: OpenBatch, due: float) -> None:
        """Remember that the batch in its present filling must leave at ``due``."""
        self._tie += 1
        heapq.heappush(self._heap, (due, self._tie, batch, batch.generation))

    def due(self, now: float) -> Iterator[OpenBatch]:
        """Take out every batch that is due and still in the filling it was armed for."""
        while self._heap and self._heap[0][0] <= now:
            _, _, batch, filling = heapq.heappop(self._heap)
            if batch.generation == filling and batch.count:
                yield batch

    def next_due(self) -> float | None:
        """The next deadline, or None. Deadlines of batches already sealed are dropped on the
        way."""
        while self._heap:
            due, _, batch, filling = self._heap[0]
            if batch.generation == filling and batch.count:
                return due
            heapq.heappop(self._heap)
        return None

    def __len__(self) -> int:
        return len(self._heap)

    def __repr__(self) -> str:
        return f"<FlushSchedule {len(self._heap)} armed>"


def seal_all(batches: Iterable[OpenBatch]) -> Iterator[tuple[OpenBatch, SealedBatch]]:
    """Seal those of the batches that hold points."""
    for batch in batches:
        sealed = batch.seal()
        if sealed is not None:
            yield batch, sealed
