"""Decides when batches are encoded and compressed: in order, a few milliseconds per loop turn.

Ten thousand sinks whose batches began together are due together, and one request may fill hundreds
of batches. Encoding all of them at once would delay senders for seconds. Rules:

* A job is done at once while there is time left in this turn of the event loop and no other waits,
  so that a single sink never waits. All others queue, first come first served, and have
  :data:`SLICE_S` of every turn until they are done.
* A job that finds :data:`JOBS_MAX` before it makes its submitter do the first of them, too: work
  does not come in faster than it is done, and senders are slowed down.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import Sink
from relay.runtime.frugal_deque import FrugalDeque
from relay.sink.delivery import DeliveryStateMachine
from relay.sink.queue.encoding import SharedBodyCache, encode_batch
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.request_size import configured_bytes_max
from relay.sink.steps import Now

SLICE_S = 0.005
"""About twenty batches of 500 points."""

JOBS_MAX = 10_000
"""The number of sinks the relay is made for; all their batches take some seconds."""


class EncodeScheduler:
    """The jobs of the whole process. ``tick`` is any monotonic clock, in s."""

    def __init__(self, tick: Callable[[], float] = time.perf_counter) -> None:
        self._tick = tick
        self._jobs: deque[Callable[[], None]] = deque()
        self._left_s = SLICE_S
        self._turn_requested = False
        self.bodies = SharedBodyCache()
        """Bodies of the last batch, kept while other sinks may be given the same."""

    def submit(self, job: Callable[[], None]) -> None:
        """Do ``job`` now or soon; it must not raise. Needs a running loop."""
        self._jobs.append(job)
        if (len(self._jobs) == 1 and self._left_s > 0) or len(self._jobs) > JOBS_MAX:
            self._do_first()
        self._await_turn()

    @property
    def waiting(self) -> int:
        """Number of waiting jobs."""
        return len(self._jobs)

    def _do_first(self) -> None:
        began = self._tick()
        self._jobs.popleft()()
        self._left_s -= self._tick() - began

    def _await_turn(self) -> None:
        if not self._turn_requested:
            self._turn_requested = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_requested = False
        self._left_s = SLICE_S
        try:
            while self._jobs and self._left_s > 0:
                self._do_first()
        finally:
            if not self._jobs:
                self.bodies.forget()
            if self._jobs or self._left_s <= 0:
                self._await_turn()

    def __repr__(self) -> str:
        return f"<EncodeScheduler {len(self._jobs)} jobs>"


class EncodeTarget(Protocol):
    """The sink that batches are encoded for."""

    config: Sink

    def now(self) -> Now:
        """Read both clocks."""

    def on_queued(self, shard: int, *, is_dropped: bool) -> None:
        """Go on after a batch of one of the sink's shards was queued. Must not raise.

        ``is_dropped``: the queue was full, and something was dropped.
        """

    def on_encode_failed(self, sealed: SealedBatch) -> None:
        """Give up a batch that cannot be encoded; called while the exception is handled."""


class EncodeBacklog:
    """The batches of one sink that wait to be encoded, oldest first.

    Encoded ones go into the queue of its ``delivery``. ``memory`` counts what they take until then.
    """

    __slots__ = ("_batches", "_delivery", "_encode_scheduler", "_memory", "_target")

    def __init__(
        self,
        encode_scheduler: EncodeScheduler,
        memory: BufferedBytes,
        delivery: DeliveryStateMachine,
        target: EncodeTarget,
    ) -> None:
        self._encode_scheduler = encode_scheduler
        self._memory = memory
        self._delivery = delivery
        self._target: EncodeTarget | None = target
        self._batches: FrugalDeque[tuple[SealedBatch, int]] = FrugalDeque()

    def add(self, sealed: SealedBatch, shard: int) -> None:
        """Have a batch encoded in its turn, which may be now."""
        self._memory.used += sealed.point_buffer.room()
        self._batches.append((sealed, shard))
        self._encode_scheduler.submit(self._encode_first)

    def encode_all(self) -> None:
        """Encode all batches now, out of turn."""
        while self._batches:
            self._encode_first()

    def end(self) -> None:
        """Drop the reference to the target; nothing may be added afterwards."""
        assert not self._batches
        self._target = None

    def __bool__(self) -> bool:
        return bool(self._batches)

    def __iter__(self) -> Iterator[tuple[SealedBatch, int]]:
        """Iterate over the batches and their shards."""
        return iter(self._batches)

    def _encode_first(self) -> None:
        if self._batches:  # else it was encoded out of turn
            sealed, shard = self._batches.popleft()
            self._memory.used -= sealed.point_buffer.room()
            assert self._target is not None, "a batch for a sink that was removed"
            self._encode(sealed, shard, self._target)

    def _encode(self, sealed: SealedBatch, shard: int, target: EncodeTarget) -> None:
        config = target.config
        try:
            requests = encode_batch(
                sealed,
                self._delivery.encoder,
                shard=shard,
                compression=config.endpoint.compression,
                bytes_max=configured_bytes_max(config),
                bodies=self._encode_scheduler.bodies,
            )
        except Exception:
            target.on_encode_failed(sealed)
            return
        is_dropped = self._delivery.enqueue(requests, target.now())
        target.on_queued(shard, is_dropped=is_dropped)

    def __repr__(self) -> str:
        return f"<EncodeBacklog {len(self._batches)} batches>"
