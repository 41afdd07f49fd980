"""Wakes the event loop when open batches are due, and hands sealed batches to their sinks.

Where more is due than one turn of the loop sends, requests go first: what is due takes a fifth of a
busy loop (:func:`relay.runtime.event_loop.give_way`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.control.time_slicing import Turns
from relay.pipeline.signal import Accepted, Signal
from relay.runtime.event_loop import give_way

FLUSH_MAX = 500
"""Batches that are sealed in a turn of the event loop, where more are due: 3 ms."""


class FlushTimer:
    """Flush timer of one pipeline, on the running event loop.

    ``tick`` is the pipeline's monotonic clock, s.
    """

    def __init__(self, signal: Signal, turns: Turns, *, tick: Callable[[], float]) -> None:
        self._signal = signal
        self._turns = turns
        self._tick = tick
        self._timer: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._due = float("inf")
        self._closed = False
        self._armed = -1
        """The signal's deadlines when the timer was planned last."""

    def deliver(self, sealed: Iterable[tuple[OpenBatch, SealedBatch]]) -> None:
        """Offer sealed batches to their owners, and be ready for the next one that is due."""
        _offer(sealed)
        self._arm()

    def on_accepted(self, accepted: Accepted) -> None:
        """Deliver what a request sealed; :meth:`Turns.run` calls this when it is committed."""
        if accepted.sealed:
            self.deliver(accepted.sealed)
        elif self._signal.armed != self._armed:
            self._arm()

    def close(self) -> None:
        """Wake up no more; :meth:`deliver` may still be called."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, *, worked_s: float = 0.0) -> None:
        """Wake up when the next open batch is due, unless that is planned already.

        ``worked_s``: CPU time of sending what was due, s.
        """
        self._armed = self._signal.armed
        due = self._signal.next_due()
        if due is None or due >= self._due or self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        loop = asyncio.get_running_loop()
        wait_s = due - self._tick()
        if worked_s and wait_s <= 0:
            self._timer = loop.create_task(self._go_on(worked_s))
        else:
            self._timer = loop.call_later(max(0.0, wait_s), self._on_due)

    async def _go_on(self, worked_s: float) -> None:
        """Send more of what is due, after others."""
        await give_way(worked_s)
        self._on_due()

    def _on_due(self) -> None:
        self._timer, self._due, self._armed = None, float("inf"), -1
        self._turns.soon(self._flush)

    def _flush(self) -> None:
        before = time.thread_time()
        _offer(self._signal.flush_due(self._tick(), most=FLUSH_MAX))
        self._arm(worked_s=time.thread_time() - before)

    def __repr__(self) -> str:
        return f"<FlushTimer due {self._due:.3f}>"


def _offer(sealed: Iterable[tuple[OpenBatch, SealedBatch]]) -> None:
    for batch, points in sealed:
        assert batch.sink is not None, "a removed sink has no points in open batches"
        batch.sink.offer(points, batch.shard)
