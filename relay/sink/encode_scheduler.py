"""Decides when batches are encoded and compressed: in order, a few milliseconds per loop turn.

Ten thousand sinks whose batches began together are due together, and one request may fill hundreds
of batches. Encoding all of them at once would delay senders for seconds. Rules:

* A job is done at once while there is time left in this turn of the event loop and no other waits,
  so that a single sink never waits. All others queue, first come first served, and have
  :data:`SLICE_S` of every turn until they are done.
* A job that finds :data:`JOBS_MAX` before it makes its submitter do the first of them, too: work
  does not come in faster than it is done, and senders are slowed down.
* Large bodies are compressed by a thread, which does not need the interpreter's lock meanwhile. Of
  what finds :data:`COMPRESSING_MAX` before it, the event loop compresses the rest itself.
* Batches of a sink are queued in the order in which they were sealed, wherever they are compressed.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import Compression, Sink
from relay.sink.delivery import DeliveryStateMachine
from relay.sink.queue.encoding import BatchBodies, SharedBodyCache, requests_of
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.request_size import configured_bytes_max
from relay.sink.steps import Now
from relay.storage.log.io_thread import IoThread

SLICE_S = 0.005
"""About twenty batches of 500 points."""

JOBS_MAX = 10_000
"""The number of sinks the relay is made for; all their batches take some seconds."""


COMPRESS_BYTES_MIN = 128 * 1024
"""Smallest batch that the thread compresses, before compression; bytes. It takes ISA-L 0.1 ms, five
times what the hand-over takes."""

COMPRESSING_MAX = 4
"""Batches that the thread has or that wait for it: one for each shard of a usual sink, whose
batches become full together."""


class CompressThread:
    """Compresses large bodies beside the event loop. Its thread starts with the first of them."""

    def __init__(self) -> None:
        self._thread: IoThread | None = None
        self._waiting: dict[BatchBodies, list[Callable[[], None]]] = {}

    def try_add(self, bodies: BatchBodies, on_ready: Callable[[], None]) -> bool:
        """Have bodies compressed, then call ``on_ready`` on the loop; False: small, or too many."""
        callbacks = self._waiting.get(bodies)
        if callbacks is not None:  # sinks that share the bodies wait together
            callbacks.append(on_ready)
            return True
        if bodies.plain_bytes < COMPRESS_BYTES_MIN or len(self._waiting) >= COMPRESSING_MAX:
            return False
        if self._thread is None:
            self._thread = IoThread("relay-compress")
            # The thread refers to its jobs alone, so it ends when nobody can add any.
            weakref.finalize(self, self._thread.stop)
        self._waiting[bodies] = [on_ready]
        self._thread.run(bodies.compress).add_done_callback(partial(self._finish, bodies))
        return True

    @property
    def waiting(self) -> int:
        """Number of batches that the thread has or that wait for it."""
        return len(self._waiting)

    def _finish(self, bodies: BatchBodies, _compressed: object) -> None:
        for on_ready in self._waiting.pop(bodies):
            on_ready()

    def __repr__(self) -> str:
        return f"<CompressThread {len(self._waiting)} batches>"


class EncodeScheduler:
    """The jobs of the whole process. ``tick`` is any monotonic clock, in s."""

    def __init__(self, tick: Callable[[], float] = time.perf_counter) -> None:
        self._tick = tick
        self._jobs: deque[Callable[[], None]] = deque()
        self._left_s = SLICE_S
        self._turn_requested = False
        self.compress_thread = CompressThread()
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


class _Encoded:
    """A batch that is encoded, and compressed or not yet.

    ``room``: the bytes that it takes until it is queued.
    """

    __slots__ = ("bodies", "compression", "kind", "room", "sealed", "shard")

    def __init__(
        self,
        sealed: SealedBatch,
        shard: int,
        kind: str,
        compression: Compression,
        bodies: BatchBodies,
        room: int,
    ) -> None:
        self.sealed = sealed
        self.shard = shard
        self.kind = kind
        self.compression: Compression = compression
        self.bodies = bodies
        self.room = room


class EncodeBacklog:
    """The batches of one sink that wait to be encoded and compressed, oldest first.

    Those that are go into the queue of its ``delivery``. ``memory`` counts what they take until
    then.
    """

    __slots__ = (
        "_batches",
        "_bytes_max",
        "_compressing",
        "_config",
        "_delivery",
        "_encode_scheduler",
        "_memory",
        "_target",
    )

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
        self._batches: deque[tuple[SealedBatch, int]] | None = None
        """Made with the first batch, dropped with the last: of thousands of sinks most rest."""
        self._config: Sink | None = None
        """The configuration that ``_bytes_max`` is of."""
        self._bytes_max = 0
        self._compressing: tuple[_Encoded, ...] = ()

    def add(self, sealed: SealedBatch, shard: int) -> None:
        """Have a batch encoded in its turn, which may be now."""
        self._memory.used += sealed.point_buffer.room()
        if self._batches is None:
            self._batches = deque()
        self._batches.append((sealed, shard))
        self._encode_scheduler.submit(self._encode_first)

    def encode_all(self) -> None:
        """Encode and compress all batches now, out of turn."""
        while self._batches is not None:
            self._encode_first()
        for one in self._compressing:
            one.bodies.compress()
        self._queue_ready()

    def end(self) -> None:
        """Drop the reference to the target; nothing may be added afterwards."""
        assert not self
        self._target = None

    def __bool__(self) -> bool:
        return self._batches is not None or bool(self._compressing)

    def __iter__(self) -> Iterator[tuple[SealedBatch, int]]:
        """Iterate over the batches and their shards."""
        for one in self._compressing:
            yield one.sealed, one.shard
        if self._batches is not None:
            yield from self._batches

    def _encode_first(self) -> None:
        batches = self._batches
        if batches is not None:  # else it was encoded out of turn
            sealed, shard = batches.popleft()
            if not batches:
                self._batches = None
            self._memory.used -= sealed.point_buffer.room()
            assert self._target is not None, "a batch for a sink that was removed"
            self._encode(sealed, shard, self._target)

    def _encode(self, sealed: SealedBatch, shard: int, target: EncodeTarget) -> None:
        config, encoder = target.config, self._delivery.encoder
        compression = config.endpoint.compression
        if config is not self._config:
            self._bytes_max = configured_bytes_max(config)
            self._config = config
        try:
            bodies = self._encode_scheduler.bodies.encoded(
                sealed, encoder, compression, self._bytes_max
            )
        except Exception:
            target.on_encode_failed(sealed)
            return
        room = sealed.point_buffer.room() + bodies.plain_bytes
        one = _Encoded(sealed, shard, encoder.kind, compression, bodies, room)
        self._memory.used += room
        self._compressing += (one,)
        compress_thread = self._encode_scheduler.compress_thread
        is_instant = bodies.is_ready or compression == "none"
        if is_instant or not compress_thread.try_add(bodies, self._on_compressed):
            bodies.compress()
            self._queue_ready()

    def _on_compressed(self) -> None:
        # A method that is declared in the .pxd, as the other is, cannot be a callback.
        self._queue_ready()

    def _queue_ready(self) -> None:
        """Queue the oldest batches, as far as they are compressed."""
        while self._compressing:
            one = self._compressing[0]
            if not one.bodies.is_ready:
                break
            self._compressing = self._compressing[1:]
            self._memory.used -= one.room
            assert self._target is not None, "a batch of a sink that was removed"
            self._queue(one, self._target)

    def _queue(self, one: _Encoded, target: EncodeTarget) -> None:
        try:
            requests = requests_of(
                one.sealed, one.bodies.take(), one.kind, one.shard, one.compression
            )
        except Exception:
            target.on_encode_failed(one.sealed)
            return
        is_dropped = self._delivery.enqueue(requests, target.now())
        target.on_queued(one.shard, is_dropped=is_dropped)

    def __repr__(self) -> str:
        return (
            f"<EncodeBacklog {len(self._batches or ())} batches, "
            f"{len(self._compressing)} being compressed>"
        )
