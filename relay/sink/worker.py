"""One sink at work: a thin shell of tasks around :class:`relay.sink.delivery.DeliveryStateMachine`.

Rules:

* One task per lane. Whatever happens to a task, a payload in flight is settled or goes back.
* :meth:`SinkWorker.reconfigure` keeps the queue, the ledger and what is under way. An attempt that
  began before ends before the next begins.
* :meth:`SinkWorker.offer` is synchronous and always takes the batch.
* A batch is in the ledger when it is offered, and *unpacked* until its turn to be encoded and
  compressed has come (:mod:`relay.sink.encode_scheduler`). What concerns all of them packs the
  rest first.
* A bug in a task is logged with its traceback and counted; the data is kept and the sink goes on.
* Log lines come from :mod:`relay.sink.reporting.health` alone: never one per batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from functools import partial

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import Sink
from relay.runtime.errors import SecretError
from relay.sink.delivery import MEMORY_BYTES_MAX, DeliveryStateMachine
from relay.sink.encode_scheduler import EncodeBacklog, EncodeScheduler
from relay.sink.http.credentials import SecretLookup
from relay.sink.http.interface import HttpClient
from relay.sink.open_batches import open_batches
from relay.sink.otlp_http import Endpoint
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.queue.payload import EncodedRequest
from relay.sink.queue.queue import POSITION_MAX
from relay.sink.reporting.log import log_note, logger, sink_name
from relay.sink.reporting.statistics import SinkStatistics, take_statistics
from relay.sink.reporting.throughput import Throughput
from relay.sink.retry.circuit_breaker import CircuitBreakers
from relay.sink.retry.classify import Delivered, Retry, Unauthorized, Verdict
from relay.sink.spill.owner import Owner
from relay.sink.spill.store import SinkStore
from relay.sink.spooler import Spooler
from relay.sink.steps import Load, Now, Send, Sleep
from relay.sink.wakeup import WakeupEvent

BUG_PAUSE_S = 1.0
"""How long a lane rests after a bug, lest it fill the log."""

EMPTY_LOOK_S = 0.2
"""How often to look whether sending still makes sense, while the process waits to end."""

GIVEN_UP_BYTES_MIN = 256 * 1024
"""The least that is given up at a time, so that a sink is not asked for each payload."""


MakeRoom = Callable[["SinkWorker", int], bool]


class SinkWorker:
    """One sink of one exporter.

    ``secrets`` looks up the exporter's secrets afresh each time; ``hold`` and ``release`` count
    holders of ingest positions; ``clock`` is wall time, ``tick`` monotonic, in s. ``store`` is its
    part of the disk (None: memory only), ``make_room`` is asked before bytes are stored there;
    ``low_limit`` is the oldest position that the pipeline holds; ``awake`` is told when
    :meth:`upkeep` is needed again.
    """

    def __init__(  # noqa: PLR0913 - a composition point: every collaborator is named once, here
        self,
        sink_id: str,
        exporter_id: str,
        config: Sink,
        *,
        transport: HttpClient,
        secrets: SecretLookup,
        hold: Callable[[int], None],
        release: Callable[[int], None],
        rng: random.Random,
        clock: Callable[[], float] = time.time,
        tick: Callable[[], float] = time.monotonic,
        circuit_breakers: CircuitBreakers | None = None,
        memory: BufferedBytes | None = None,
        store: SinkStore | None = None,
        make_room: MakeRoom | None = None,
        low_limit: Callable[[], int] | None = None,
        awake: Callable[[SinkWorker], None] | None = None,
        encode_scheduler: EncodeScheduler | None = None,
    ) -> None:
        self.sink_id = sink_id
        self.exporter_id = exporter_id
        self._name = sink_name(sink_id, exporter_id)
        self.config = config
        self._endpoint = Endpoint(config.otlp, transport=transport, secrets=secrets, clock=clock)
        self._clock = clock
        self._tick = tick
        self._circuit_breakers = circuit_breakers or CircuitBreakers(rng)
        self._pipeline_low = low_limit
        self._awake = awake
        memory = memory or BufferedBytes()
        encode_scheduler = encode_scheduler or EncodeScheduler()
        self._bodies = encode_scheduler.bodies
        self._encode_backlog = EncodeBacklog(encode_scheduler, memory, self._pack)
        self.shards = open_batches(self, self.config)
        self._delivery = DeliveryStateMachine(
            config,
            rng=rng,
            release=release,
            hold=hold,
            say=partial(log_note, sink_id, exporter_id),
            circuit=self._circuit_breakers.acquire(config.otlp.url, self._resume),
            memory=memory,
            backlogs=store.backlogs if store else None,
        )
        self._spooler: Spooler | None = None
        if store is not None:
            self._delivery.restore(
                store.cursors,
                self._now(),
                regrouped=store.regrouped(config.otlp.concurrency),
                missing_points=store.missing_points,
            )
            self._spooler = self._stow(store, make_room)
        self._bells = [WakeupEvent() for _ in self._delivery.queue.shards]
        self._emptied = asyncio.Event()
        self._generation = 0
        self._idle = False
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: list[asyncio.Task[None]] = []
        self._has_joined = True
        self.parted = False
        """Whether the sink is gone: its queue is another's, or nobody's."""
        self._internal_errors = 0
        self._throughput = Throughput()

    def _stow(self, store: SinkStore, make_room: MakeRoom | None) -> Spooler:
        return Spooler(
            store,
            self._delivery,
            now=self._now,
            make_room=lambda size: make_room is None or make_room(self, size),
            low_limit=self._low_limit,
            ready=lambda shard: self._bells[shard].set(),
        )

    def reconfigure(self, config: Sink) -> None:
        """Go on with another configuration and the same queue. Flush :attr:`lanes` before: they are
        new ones afterwards."""
        self._encode_backlog.pack_all()
        self._leave_circuit()
        self.config = config
        self._endpoint.reconfigure(config.otlp)
        self.shards = open_batches(self, self.config)
        circuit = self._circuit_breakers.acquire(config.otlp.url, self._resume)
        self._has_joined = True
        self._delivery.reconfigure(config, circuit, self._now())
        while len(self._bells) < len(self._delivery.queue.shards):
            self._bells.append(WakeupEvent())
        if self._tasks:
            self._begin()

    def identify(self, owner: Owner) -> None:
        """Note whose the queue on disk is."""
        if self._spooler is not None:
            self._spooler.identify(owner)

    def come_back(self, config: Sink) -> None:
        """Go on after :meth:`leave`, which has to be cancelled before, with another
        configuration."""
        assert not self.parted
        if self._spooler is not None:
            self._spooler.resume()
        self.reconfigure(config)
        if not self._tasks:
            self._begin()

    @property
    def full(self) -> bool:
        """Whether senders must be held back (only with ``overflow: block``)."""
        return self._delivery.queue.full

    @property
    def memory_bytes(self) -> int:
        """Bytes of payloads in memory."""
        return self._delivery.queue.memory_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of files on disk."""
        return self._delivery.queue.stored_bytes

    @property
    def restored_points(self) -> int:
        """Points that were on disk at the start; they count as offered."""
        return self._delivery.restored

    @property
    def restored_lows(self) -> tuple[int, ...]:
        """For each lane the position before which, by its queue on disk, a crash lost nothing; -1
        where the disk does not say."""
        count = len(self.shards)
        return self._spooler.lows(count) if self._spooler else (-1,) * count

    def oldest_positions(self, following: int) -> tuple[int, ...]:
        """For each of :attr:`lanes`, the oldest position that is neither dealt with nor on disk;
        ``following`` where there is none. Open batches are not looked at."""
        if not self.memory_bytes and not self._encode_backlog:
            return (following,) * len(self.shards)
        oldest = [
            following if (position := shard.oldest_position()) is None else position
            for shard in self._delivery.queue.shards
        ]
        for sealed, number in self._encode_backlog:
            oldest[number] = min(oldest[number], sealed.oldest)
        if self._delivery.queue.resharding:
            # Each lane may hold points of series that any other has now.
            oldest = [min(oldest)] * len(oldest)
        return tuple(oldest[: len(self.shards)])

    def unkept_points(self, keeps: Callable[[int, int], bool]) -> int:
        """Points in memory only, in payloads of which the journal does not have everything."""
        return self._delivery.queue.unkept_points(keeps)

    def offer(self, sealed: SealedBatch, shard: int) -> None:
        """Take over a batch of one of :attr:`lanes`; its outcome shows in the ledger."""
        if self._idle:
            self._idle = False
            if self._awake is not None:
                self._awake(self)
        self._delivery.ledger.offer(sealed.count)
        self._encode_backlog.add(sealed, shard)

    def reread_secrets(self) -> None:
        """Read credentials and TLS material afresh before the next request, and try at once."""
        self._endpoint.reread_secrets()
        if self._delivery.paused:
            self._delivery.credentials_changed()
            self._wake()

    def start(self) -> None:
        """Begin to send. Needs a running loop."""
        assert not self._tasks, "started twice"
        self._begin()

    def tick(self) -> bool:
        """What has to be done about once a second: expire, save, note, look ahead. False: there is
        nothing to do, nor will be until ``awake`` is told."""
        empty = self._is_empty
        if empty and self._idle:
            return False
        self._idle = empty
        now = self._now()
        self._delivery.expire(now)
        self._delivery.watch(now)
        self._throughput.watch(
            now.monotonic,
            offered=self._delivery.ledger.offered,
            queued=self._delivery.ledger.queued,
            oldest_age_s=self._oldest_age_s() or 0.0,
            batch_timeout_s=self.config.batch.timeout_s,
        )
        if self._spooler is not None:
            self._spooler.upkeep()
        return True

    def save(self, *, at_once: bool = False) -> None:
        """Begin to write to disk what has waited for long or is too much for memory; ``at_once``:
        everything that is only in memory."""
        if at_once:
            self._encode_backlog.pack_all()
        if self._spooler is not None:
            self._spooler.save(at_once=at_once)

    def evict_from_disk(self, size: int) -> None:
        """Give up the oldest on disk, for others: about so many bytes."""
        assert self.config.queue.overflow != "block"
        items = self._delivery.queue.drop_stored(max(size, GIVEN_UP_BYTES_MIN))
        self._delivery.drop(items, "storage_full", self._now())
        if self._spooler is not None:
            self._spooler.tidy()

    def evict_from_memory(self, size: int) -> None:
        """Give up what waits in memory, for others: about so many bytes."""
        assert self.config.queue.overflow != "block"
        items = self._delivery.queue.drop_unsaved(size)
        self._delivery.drop(items, "memory_full", self._now())

    async def drain(self, timeout_s: float) -> None:
        """Go on sending until nothing is left or the time is over, then stop.

        What is left then is stored; without a disk it is dropped as "shutdown". With one, a sink
        whose endpoint does not take anything is not waited for. Where the disk fails, what is left
        stays in memory, in the ledger and in the journal.
        """
        await self._empty(timeout_s, patient=self._spooler is None)
        if self._spooler is None:
            await self.close()
            return
        await self._stop_tasks()
        self._encode_backlog.pack_all()
        await self._spooler.save_rest()

    async def remove(self, timeout_s: float) -> int:
        """The sink is removed: send what is left until the time is over.

        With a disk the rest is stored, and left as an orphan; returns its points, which are out of
        the ledger then. What is only in memory is given up. Until :attr:`parted` this may be
        cancelled, for :meth:`come_back`; afterwards nothing may be asked but :meth:`statistics`.
        """
        await self._empty(timeout_s, patient=self._spooler is None)
        await self._stop_tasks()
        self._encode_backlog.pack_all()
        left = 0
        if self._spooler is not None:
            await self._spooler.save_rest()
        self.parted = True
        if self._spooler is not None:
            left = self._spooler.park()
        self._delivery.close(self._now(), "removed")
        # What refers back to us, so that we go at once with the last reference, without the
        # collector of garbage: it would have to look at everything for that.
        self._spooler = None
        self._encode_backlog.end()
        for batch in self.shards:
            batch.sink = None
        return left

    async def close(self, reason: str = "shutdown") -> None:
        """Stop sending at once; whatever is left, or offered from now on, is dropped for that
        reason.

        A request cut off half-way may have arrived: its points count as dropped all the same.
        """
        await self._stop_tasks()
        if self._spooler is not None:
            await self._spooler.finish()
        self._encode_backlog.pack_all()
        self._delivery.close(self._now(), reason)

    def statistics(self) -> SinkStatistics:
        """A snapshot; asserts that the ledger balances."""
        return take_statistics(
            (self.exporter_id, self.sink_id),
            self._delivery,
            self._endpoint,
            self._throughput,
            shards=self.config.otlp.concurrency,
            oldest_point_age_s=self._oldest_age_s(),
            internal_errors=self._internal_errors,
            tick=self._tick(),
        )

    def __repr__(self) -> str:
        return f"<SinkWorker {self.exporter_id} {self.sink_id} {self._delivery.health.state}>"

    def _oldest_age_s(self) -> float | None:
        oldest = self._delivery.queue.oldest_created_at()
        for batch, _ in self._encode_backlog:
            oldest = batch.opened_at if oldest is None else min(oldest, batch.opened_at)
        return None if oldest is None else max(0.0, self._clock() - oldest)

    @property
    def _is_empty(self) -> bool:
        return self._delivery.queue.empty and not self._encode_backlog

    def _pack(self, sealed: SealedBatch, shard: int) -> None:
        try:
            payloads = self._delivery.pack(sealed, shard, self._bodies)
        except Exception:
            self._internal_errors += 1
            logger.exception("%s: bug in the relay, %d points are lost", self._name, sealed.count)
            self._delivery.fail_encode(sealed)
            return
        is_dropped = self._delivery.push(payloads, self._now())
        if is_dropped and self._spooler is not None:
            # What is older goes to disk, or a crash would replay, and count, what was dropped.
            self._spooler.save(at_once=True)
        elif self.memory_bytes > MEMORY_BYTES_MAX:
            self.save()
        self._bells[shard].set()

    def _now(self) -> Now:
        return Now(self._clock(), self._tick())

    def _begin(self) -> None:
        """Begin to send with this configuration, as soon as those with the last have ended."""
        self._generation += 1
        before = [task for task in (*self._ending, *self._tasks) if not task.done()]
        self._ending = []
        self._tasks = before + [
            asyncio.create_task(
                self._serve(shard, self._generation, before), name=f"sink {self!r} lane {shard}"
            )
            for shard in range(len(self._bells))
        ]
        self._wake()

    def _wake(self) -> None:
        for wakeup in self._bells:
            wakeup.set()

    def _low_limit(self, shard: int) -> int:
        """The oldest position of a lane that has not come as far as its queue."""
        limits = [self._pipeline_low()] if self._pipeline_low is not None else []
        limits += [batch.oldest_offset for batch in self.shards[shard : shard + 1] if batch.count]
        limits += [sealed.oldest for sealed, number in self._encode_backlog if number == shard]
        if self._delivery.queue.resharding:
            limits += self.oldest_positions(POSITION_MAX)
        return min(limits, default=POSITION_MAX)

    def _resume(self) -> None:
        """The endpoint can be reached again."""
        self._delivery.resume()
        self._wake()

    async def _stop_tasks(self) -> None:
        self._ending += self._tasks
        self._tasks = []
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        self._ending = []
        self._leave_circuit()

    def _leave_circuit(self) -> None:
        if self._has_joined:
            self._has_joined = False
            self._circuit_breakers.release(self.config.otlp.url, self._resume)

    async def _empty(self, timeout_s: float, *, patient: bool) -> None:
        """Wait until everything is sent, for so long at most; no longer than it makes sense, unless
        ``patient``."""
        self._emptied.clear()
        deadline = self._tick() + timeout_s
        while not self._is_empty and (left_s := deadline - self._tick()) > 0:
            if not patient and self._delivery.health.state != "healthy":
                return
            with contextlib.suppress(TimeoutError):  # look again, or the time is over
                async with asyncio.timeout(left_s if patient else min(left_s, EMPTY_LOOK_S)):
                    await self._emptied.wait()

    async def _serve(
        self, shard: int, generation: int, before: Sequence[asyncio.Task[None]]
    ) -> None:
        if before:
            await asyncio.wait(before)
        while generation == self._generation:
            try:
                await self._step(shard, generation)
            except Exception:
                self._internal_errors += 1
                logger.exception("%s: bug in the relay", self._name)
                await asyncio.sleep(BUG_PAUSE_S)

    async def _step(self, shard: int, generation: int) -> None:
        wakeup = self._bells[shard]
        wakeup.hush()
        step = self._delivery.next_step(shard, self._now())
        if self._is_empty:
            self._emptied.set()
        if isinstance(step, Sleep):
            await wakeup.wait(step.delay_s)
            return
        ready: Send | None
        if isinstance(step, Load):
            assert self._spooler is not None
            ready = await self._spooler.load(step.entry)
        else:
            ready = step
        if ready is None:
            return
        try:
            verdict = await self._attempt(ready.payload)
            if isinstance(verdict, Delivered):
                self._throughput.delivered(self._clock() - ready.payload.created_at)
            if generation == self._generation or not isinstance(verdict, Retry | Unauthorized):
                self._delivery.on_response(ready.payload, verdict, self._now())
        finally:
            # Also where the configuration has changed: it is tried again with the new one.
            self._delivery.give_back(ready.payload)
        if self._spooler is not None:
            self._spooler.tidy()
        if self._delivery.queue.resharding:
            self._wake()

    async def _attempt(self, payload: EncodedRequest) -> Verdict:
        began = self._tick()
        try:
            return await self._endpoint.exchange(payload)
        except SecretError as error:
            return Unauthorized(str(error))
        except Exception:
            self._internal_errors += 1
            logger.exception("%s: bug in the relay, its data is kept", self._name)
            return Retry("internal_error", "internal error of the relay")
        finally:
            self._throughput.answered(self._tick() - began, payload.points)
