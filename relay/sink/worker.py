"""One sink at work: the tasks around :class:`relay.sink.delivery.DeliveryStateMachine`.

Rules:

* One task for each shard that has something to do or to wait for; it ends when there is nothing,
  because of thousands of sinks most rest. Whatever happens to a task, a request in flight is
  settled or put back.
* :meth:`SinkWorker.reconfigure` keeps queue, ledger and what is in flight. An attempt that began
  before it ends before the next begins.
* :meth:`SinkWorker.offer` never raises and never blocks. A batch is in the ledger at once, and in
  the queue once it is encoded (:mod:`relay.sink.encode_scheduler`).
* A bug in a task is logged with its traceback and counted; the data is kept and the sink goes on.
* Log lines come from :mod:`relay.sink.reporting.health` alone: never one per batch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import Sink
from relay.runtime.errors import SecretError
from relay.sink.delivery import MEMORY_BYTES_MAX, DeliveryStateMachine
from relay.sink.encode_scheduler import EncodeBacklog, EncodeScheduler
from relay.sink.http.credentials import SecretLookup
from relay.sink.interface import Client, ClientDependencies, SinkHost
from relay.sink.kinds import encoders_for, kind_of
from relay.sink.open_batches import open_batches
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.queue.queue import POSITION_MAX, SharedLimit
from relay.sink.reporting.log import logger, sink_name
from relay.sink.reporting.outcomes import DeliveryReading
from relay.sink.reporting.statistics import SinkStatistics, read_delivery, take_statistics
from relay.sink.reporting.throughput import Throughput
from relay.sink.retry.circuit_breaker import CircuitBreakers
from relay.sink.retry.verdict import Bisect, Delivered, Retry, Split, Unauthorized
from relay.sink.spill.owner import Owner
from relay.sink.spooler import Spooler
from relay.sink.steps import Clock, Load, Now, Send, Sleep
from relay.sink.wakeup import ShardTasks, WakeupEvent

if TYPE_CHECKING:
    from relay.sink.spill.store import SinkStore

BUG_PAUSE_S = 1.0
"""Delay of a shard after a bug, so that it does not fill the log, s."""
EMPTY_LOOK_S = 0.2
"""Interval at which an impatient drain checks that the endpoint still accepts data, s."""
DROP_BYTES = 64 * 1024
"""Bytes of its queue that a removed sink drops in each turn of the loop."""


class WorkerParts(NamedTuple):
    """The parts of a sink that :func:`relay.sink.build.build_worker` makes, or passes on."""

    client: Client
    client_dependencies: ClientDependencies
    delivery: DeliveryStateMachine
    circuit_breakers: CircuitBreakers
    encode_scheduler: EncodeScheduler
    memory: BufferedBytes
    clock: Clock
    store: SinkStore | None
    host: SinkHost | None


class SinkWorker:
    """One sink of one exporter, made by :func:`relay.sink.build.build_worker`."""

    def __init__(self, sink_id: str, exporter_id: str, config: Sink, parts: WorkerParts) -> None:
        self.sink_id = sink_id
        self.exporter_id = exporter_id
        self.config = config
        self._kind = kind_of(config.endpoint)
        self._client = parts.client
        self._client_dependencies = parts.client_dependencies
        self._delivery = parts.delivery
        self._circuit_breakers = parts.circuit_breakers
        self._circuit_breakers.acquire(config.endpoint.url, self._resume)
        self._subscribed = True
        self._clock = parts.clock
        self._host = parts.host
        self._encode_backlog = EncodeBacklog(
            parts.encode_scheduler, parts.memory, parts.delivery, self
        )
        self._spooler = Spooler(parts.store, parts.delivery, self) if parts.store else None
        self.shards = open_batches(self, config)
        self._tasks = ShardTasks()
        self._emptied: asyncio.Event | None = None  # made by whatever waits: it takes 0.9 KiB
        self._internal_errors = 0
        self._idle = False
        self.tap: Callable[[SealedBatch], None] | None = None  # looks at batches; must not raise
        self.deleted = self.removed = False
        """True once :meth:`remove` has handed over the queue on disk."""
        self._throughput = Throughput(sink_id)

    def reconfigure(self, config: Sink) -> None:
        """Use another configuration, with new :attr:`shards`: flush the old ones before."""
        self._encode_backlog.encode_all()
        self._unsubscribe()
        self.config = config
        kind = kind_of(config.endpoint)
        if kind.make_client is self._kind.make_client:
            self._kind = kind
            self._client.reconfigure(config.endpoint)
        else:
            self._kind = kind
            self._client = kind.make_client(config.endpoint, self._client_dependencies)
        self.shards = open_batches(self, config)
        circuit = self._circuit_breakers.acquire(config.endpoint.url, self._resume)
        self._subscribed = True
        self._delivery.reconfigure(config, encoders_for(config.endpoint), circuit, self.now())
        if self._tasks.running:
            self._begin()

    def pause_sending(self, paused: bool) -> None:
        """Stop or continue to send, and change nothing else; a request in flight is finished."""
        self.config = replace(self.config, paused=paused)
        self._delivery.pause_sending(paused)
        logger.info("%s: %s", self._name, "paused by its owner" if paused else "no longer paused")
        self._wake_all()

    def identify(self, owner: Owner) -> None:
        """Note on disk whose queue it is."""
        if self._spooler is not None:
            self._spooler.identify(owner)

    def come_back(self, config: Sink) -> None:
        """Continue with another configuration after :meth:`remove`, which must be cancelled."""
        assert not self.removed
        assert not self.deleted
        if self._spooler is not None:
            self._spooler.resume()
        self.reconfigure(config)
        if not self._tasks.running:
            self._begin()

    @property
    def full(self) -> bool:
        """True if senders must be held back (only with ``overflow: block``)."""
        return self._delivery.queue.full

    @property
    def memory_bytes(self) -> int:
        """Bytes of bodies in memory."""
        return self._delivery.queue.memory_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of files on disk."""
        return self._delivery.queue.stored_bytes

    @property
    def queue_bytes(self) -> int:
        """Bytes of bodies in memory and on disk."""
        return self._delivery.queue.bytes

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes sent, and points sent again; of the present kind of endpoint."""
        return self._client.bytes_sent, self._client.points_resent

    @property
    def restored_points(self) -> int:
        """Points that were on disk at the start; they count as offered."""
        return self._delivery.restored

    def read_delivery(self) -> DeliveryReading:
        """Return what its delivery is judged by; cheap."""
        return read_delivery(self._delivery, self._throughput, self.shards)

    @property
    def low_watermarks(self) -> tuple[int, ...]:
        """Per shard, the position before which a crash loses nothing by its disk; -1: unknown."""
        count = len(self.shards)
        return self._spooler.low_watermarks(count) if self._spooler else (-1,) * count

    def oldest_positions(self, following: int) -> tuple[int, ...]:
        """Return per shard the oldest position neither settled nor on disk, or ``following``.

        Open batches are not considered.
        """
        if not self.memory_bytes and not self._encode_backlog:
            return (following,) * len(self.shards)
        oldest = [
            following if (position := shard.oldest_position()) is None else position
            for shard in self._delivery.queue.shards
        ]
        for sealed, number in self._encode_backlog:
            oldest[number] = min(oldest[number], sealed.oldest)
        if self._delivery.queue.resharding:
            # Each shard may hold points of series that any other has now.
            oldest = [min(oldest)] * len(oldest)
        return tuple(oldest[: len(self.shards)])

    def unkept_points(self, keeps: Callable[[int, int], bool]) -> int:
        """Return the points in memory only, in requests that the journal does not have whole."""
        return self._delivery.queue.unkept_points(keeps)

    def offer(self, sealed: SealedBatch, shard: int) -> None:
        """Take over a batch of one of :attr:`shards`; its outcome shows in the ledger."""
        if self._idle:
            self._idle = False
            if self._host is not None:
                self._host.on_wake(self)
        self._delivery.ledger.offer(sealed.count)
        if self.tap is not None:
            self.tap(sealed)
        self._encode_backlog.add(sealed, shard)

    def on_encode_failed(self, sealed: SealedBatch) -> None:
        """Give up a batch that cannot be encoded: a bug; :class:`EncodeBacklog` calls this."""
        self._internal_errors += 1
        logger.exception("%s: bug in the relay, %d points are lost", self._name, sealed.count)
        self._delivery.fail_encode(sealed)

    def on_queued(self, shard: int, *, is_dropped: bool) -> None:
        """Have the shard sent, and spilled where needed; :class:`EncodeBacklog` calls this."""
        if is_dropped and self._spooler is not None:
            # Spill what is older, or a crash would replay, and count again, what was dropped.
            self._spooler.spill(at_once=True)
        elif self._delivery.queue.usage.memory_bytes > MEMORY_BYTES_MAX:
            self.save()
        self.wake(shard)

    def reread_secrets(self) -> None:
        """Read credentials and TLS material again before the next request, and try at once."""
        self._client.reread_secrets()
        if self._delivery.paused:
            self._delivery.credentials_changed()
            self._wake_all()

    def start(self) -> None:
        """Begin to send. Needs a running loop."""
        assert not self._tasks.running, "started twice"
        self._begin()

    def tick(self) -> bool:
        """Expire, spill and update the statistics; to be called about once a second.

        False: nothing to do, until :meth:`SinkHost.on_wake` is called.
        """
        empty = self._is_empty
        if empty and self._idle:
            return False
        self._idle = empty
        now = self.now()
        self._delivery.expire(now)
        self._delivery.watch(now)
        self._throughput.watch(
            now.monotonic,
            offered=self._delivery.ledger.offered,
            queued=self._delivery.ledger.queued,
            oldest_age_s=0.0 if self.config.paused else self._oldest_age_s() or 0.0,
            batch_timeout_s=self.config.batch.timeout_s,
        )
        if self._spooler is not None:
            self._spooler.tick()
        return True

    def save(self, *, at_once: bool = False) -> None:
        """Begin to spill what is old or too much for memory; ``at_once``: all that is in memory."""
        if at_once:
            self._encode_backlog.encode_all()
        if self._spooler is not None:
            self._spooler.spill(at_once=at_once)

    def evict(self, size: int, limit: SharedLimit) -> None:
        """Drop about so many bytes, the oldest, from a queue that is too large beside others."""
        assert self.config.queue.overflow != "block"
        items = self._delivery.queue.evict(size, limit)
        self._delivery.drop(items, limit, self.now())
        if self._spooler is not None:
            self._spooler.tidy()

    async def drain(self, timeout_s: float) -> None:
        """Go on sending until nothing is left or the time is over, then stop.

        The rest is stored; without a disk it is dropped as "shutdown". With a disk, the drain ends
        early where the endpoint takes nothing. Where the disk fails, the rest stays in memory, in
        the ledger and in the journal.
        """
        await self._empty(timeout_s, patient=self._spooler is None)
        if self._spooler is None:
            await self.close()
            return
        await self._stop_tasks()
        self._encode_backlog.encode_all()
        await self._spooler.spill_rest()

    async def remove(self, timeout_s: float) -> int:
        """Send what is left until the time is over, then give up the sink.

        With a disk the rest is stored and left as an orphan; returns its points, which leave the
        ledger. What is only in memory is dropped, and all after :meth:`delete`. Until it is
        :attr:`removed` it may :meth:`come_back`, this cancelled; then it has its statistics only.
        """
        await self._empty(timeout_s, patient=self._spooler is None)
        await self._stop_tasks()
        self._encode_backlog.encode_all()
        left = stored = 0
        if (spooler := self._spooler) is not None and not self.deleted:
            await spooler.spill_rest()
        self.removed = True
        if spooler is not None and self.deleted:
            stored = await spooler.discard()
        elif spooler is not None:
            left = spooler.park()
        reason = "deleted" if self.deleted else "removed"
        while not left and (dropped := self._delivery.queue.drop_oldest(DROP_BYTES)):
            self._delivery.drop(dropped, reason, self.now())
            await asyncio.sleep(0)
        self._delivery.close(self.now(), reason, stored)
        # Break the reference cycles: it is freed at once, without a scan of millions of objects.
        self._spooler = None
        self._encode_backlog.end()
        for batch in self.shards:
            batch.sink = None
        return left

    def delete(self, secrets: SecretLookup) -> None:
        """Have :meth:`remove` use all of its time, then drop the rest; ``secrets`` of before."""
        self.deleted = True
        self._client.keep_secrets(secrets)
        self.reread_secrets()

    async def close(self, reason: str = "shutdown") -> None:
        """Stop sending at once; drop what is left, or offered from now on, for that reason.

        A request cut off half-way counts as dropped, although it may have arrived.
        """
        await self._stop_tasks()
        if self._spooler is not None:
            await self._spooler.finish()
        self._encode_backlog.encode_all()
        self._delivery.close(self.now(), reason)

    def statistics(self) -> SinkStatistics:
        """Return a snapshot; asserts that the ledger balances."""
        return take_statistics(
            (self.exporter_id, self.sink_id),
            self._delivery,
            self._client,
            self._throughput,
            config=self.config,
            oldest_point_age_s=self._oldest_age_s(),
            internal_errors=self._internal_errors,
            tick=self._clock.monotonic(),
        )

    def now(self) -> Now:
        """Read both clocks."""
        return Now(self._clock.wall(), self._clock.monotonic())

    def may_store(self, size: int) -> bool:
        """Return whether so many more bytes may be stored; the spooler asks."""
        return self._host is None or self._host.make_room(self, size)

    def low_position(self, shard: int) -> int:
        """Return the oldest position of a shard that has not come as far as its queue."""
        limits = [self._host.low_watermark()] if self._host is not None else []
        limits += [batch.oldest_offset for batch in self.shards[shard : shard + 1] if batch.count]
        limits += [sealed.oldest for sealed, number in self._encode_backlog if number == shard]
        if self._delivery.queue.resharding:
            limits += self.oldest_positions(POSITION_MAX)
        return min(limits, default=POSITION_MAX)

    def wake(self, shard: int) -> None:
        """Let a shard look for something to do."""
        self._tasks.wake(shard, self._serve, self.exporter_id)

    def __repr__(self) -> str:
        return f"<SinkWorker {self.exporter_id} {self.sink_id} {self._delivery.health.state}>"

    def _oldest_age_s(self) -> float | None:
        oldest = self._delivery.queue.oldest_created_at()
        for batch, _ in self._encode_backlog:
            oldest = batch.opened_at if oldest is None else min(oldest, batch.opened_at)
        return None if oldest is None else max(0.0, self._clock.wall() - oldest)

    @property
    def _is_empty(self) -> bool:
        return self._delivery.queue.empty and not self._encode_backlog

    @property
    def _name(self) -> str:
        return sink_name(self.sink_id, self.exporter_id)

    def _begin(self) -> None:
        """Begin to send with this configuration, once all attempts with the last one have ended."""
        self._tasks.begin(len(self._delivery.queue.shards))
        self._wake_all()

    def _wake_all(self) -> None:
        """Let every shard look for something to do, where there is anything."""
        if not self._delivery.queue.empty:
            for shard in range(len(self._delivery.queue.shards)):
                self.wake(shard)

    def _resume(self) -> None:
        """End the waits for the endpoint: the circuit breaker has closed."""
        self._delivery.resume()
        self._wake_all()

    async def _stop_tasks(self) -> None:
        await self._tasks.stop()
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        if self._subscribed:
            self._subscribed = False
            self._circuit_breakers.release(self.config.endpoint.url, self._resume)

    async def _empty(self, timeout_s: float, *, patient: bool) -> None:
        """Wait until everything is sent, for ``timeout_s``; if not ``patient``, while healthy.

        Of a paused sink, wait only for what is in flight.
        """
        emptied = self._emptied = self._emptied or asyncio.Event()
        emptied.clear()
        deadline = self._clock.monotonic() + timeout_s
        while not self._is_empty and (left_s := deadline - self._clock.monotonic()) > 0:
            waits = patient or self.deleted
            if not waits and self._delivery.health.state != "healthy":
                return
            if self.config.paused and not self._delivery.queue.statistics().in_flight:
                return
            with contextlib.suppress(TimeoutError):  # look again, or the time is over
                look_s = left_s if waits and not self.config.paused else min(left_s, EMPTY_LOOK_S)
                async with asyncio.timeout(look_s):
                    await emptied.wait()

    async def _serve(self, shard: int, generation: int, wakeup: WakeupEvent) -> None:
        """Work until the shard has nothing to do, or another configuration is in use."""
        if self._tasks.earlier:
            await self._tasks.earlier_ended(generation)
        while generation == self._tasks.generation:
            try:
                if await self._step(shard, generation, wakeup):
                    continue
            except Exception:
                self._internal_errors += 1
                logger.exception("%s: bug in the relay", self._name)
                await asyncio.sleep(BUG_PAUSE_S)
                continue
            # Nothing runs between the look at the queue and this: no call to wake it is missed.
            self._tasks.rest(shard, generation)
            return

    async def _step(self, shard: int, generation: int, wakeup: WakeupEvent) -> bool:
        """Do what is next; return False if there is nothing until the shard is woken."""
        wakeup.clear()
        step = self._delivery.next_step(shard, self.now())
        if self._emptied is not None and self._is_empty:
            self._emptied.set()
        if isinstance(step, Sleep):
            if step.delay_s is None:
                return False
            await wakeup.wait(step.delay_s)
            return True
        ready: Send | None = step if isinstance(step, Send) else None
        if isinstance(step, Load):
            assert self._spooler is not None
            ready = await self._spooler.load(step.entry)
        if ready is None:
            return True
        request = ready.request
        try:
            if generation != self._tasks.generation:
                return True  # since it was read: the next task sends it
            began = self._clock.monotonic()
            try:
                verdict = await self._client.send(request)
            except SecretError as error:
                verdict = Unauthorized(str(error))
            except Exception:
                self._internal_errors += 1
                logger.exception("%s: bug in the relay, its data is kept", self._name)
                verdict = Retry("internal_error", "internal error of the relay")
            finally:
                now = self.now()
                self._throughput.answered(now.monotonic - began, request.points)
            if isinstance(verdict, Delivered):
                self._throughput.delivered(now.wall - request.created_at)
            if generation == self._tasks.generation or not isinstance(
                verdict, Retry | Split | Bisect | Unauthorized
            ):
                self._delivery.on_response(request, verdict, now)
        finally:
            # Also where the configuration has changed: it is tried again with the new one.
            self._delivery.give_back(request)
        if self._spooler is not None:
            self._spooler.tidy()
        if self._delivery.queue.resharding:
            self._wake_all()
        return True
