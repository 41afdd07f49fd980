"""Deadlines of open batches, in one heap for all sinks.

A batch is armed when its first point arrives and is due ``timeout_s`` later. Riders that wait in
vain for a first point are dropped at a deadline of their own. One that was sealed
meanwhile has another ``generation`` and is skipped, so sealing costs the schedule nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from relay.codec.otlp.batch import OpenBatch, SealedBatch


class FlushSchedule:
    """Deadlines on one monotonic clock, s."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, OpenBatch, int]] = []
        self.armed = 0
        """Deadlines that were set since the start."""
        self._lone_exemplars = 0

    def arm(self, batch: OpenBatch, due: float) -> None:
        """Set the deadline of the batch in its present generation."""
        self.armed += 1
        heapq.heappush(self._heap, (due, self.armed, batch, batch.generation))

    def due(self, now: float) -> Iterator[OpenBatch]:
        """Take out every batch that is due and still in the generation it was armed for."""
        while self._heap and self._heap[0][0] <= now:
            _, _, batch, generation = heapq.heappop(self._heap)
            if batch.generation != generation:
                continue
            if batch.count:
                yield batch
            elif batch.point_buffer.count:
                self._lone_exemplars += batch.drop_riders()

    def next_due(self) -> float | None:
        """Return the next deadline, or None; drops deadlines of sealed batches."""
        while self._heap:
            due, _, batch, generation = self._heap[0]
            if batch.generation == generation and batch.point_buffer.count:
                return due
            heapq.heappop(self._heap)
        return None

    def take_lone_exemplars(self) -> int:
        """Return how many exemplars waited in vain for a point since the last call."""
        count, self._lone_exemplars = self._lone_exemplars, 0
        return count

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
