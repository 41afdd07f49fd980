"""Spills a sink's requests to disk and reads them back: the shell between its queue and its store.

Rules:

* :meth:`relay.sink.delivery.DeliveryStateMachine.shards_to_spill` decides what to spill; here it is
  done, one spill per shard at a time, without delaying what is being sent.
* A spill that fails changes nothing: the store reports the trouble, the data stays in memory with
  its positions held, and the next tick tries again once the store is ready.
* Each record names the position from which a crash has to replay: no newer than anything of its
  shard that is in memory only, or that the pipeline still holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Protocol

from relay.runtime.errors import StorageError
from relay.sink.delivery import DeliveryStateMachine
from relay.sink.queue.disk_index import Entry
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.spill.owner import Owner
from relay.sink.steps import Now, Send

if TYPE_CHECKING:
    from relay.sink.spill.store import SinkStore

_log = logging.getLogger("relay.sink")

SPILL_AGAIN_S = 1.0
"""Delay before the second and last try to spill the rest of a sink that ends."""
SPILL_REST_S_MAX = 10.0
"""Longest time for spilling that rest."""
CHECK_S = 30.0
"""Interval between checks of the files on disk, s."""


class SpoolHost(Protocol):
    """The parts of a sink that its spooler uses."""

    def now(self) -> Now:
        """Read both clocks."""

    def may_store(self, size: int) -> bool:
        """Return whether so many more bytes may be stored, after making room where possible."""

    def low_position(self, shard: int) -> int:
        """Return the oldest position of a shard that has not come as far as its queue."""

    def wake(self, shard: int) -> None:
        """Let a shard look for something to do."""


class Spooler:
    """Moves the requests of one sink between memory and disk."""

    def __init__(self, store: SinkStore, delivery: DeliveryStateMachine, host: SpoolHost) -> None:
        self._store = store
        self._delivery = delivery
        self._host = host
        self._spills: set[asyncio.Task[None]] = set()
        self._used = delivery.queue.stored_bytes > 0
        self._ended = False
        self._check_at = 0.0

    def low_watermarks(self, shards: int) -> tuple[int, ...]:
        """Return the low of each of ``shards`` shards on disk; -1 if unknown."""
        return self._store.lows(shards)

    def tick(self) -> None:
        """Spill what is due and tidy up; to be called about once a second."""
        self.spill()
        self.tidy()
        if self._ended:
            return
        now = self._host.now()
        self._store.note(self._delivery.cursors(now))
        if self._used and now.monotonic >= self._check_at:
            self._check_at = now.monotonic + CHECK_S
            self._spawn(self.check())

    def spill(self, *, at_once: bool = False) -> None:
        """Begin to write what is due; ``at_once``: everything that is only in memory."""
        if self._ended:
            return
        for shard in self._delivery.shards_to_spill(self._host.now(), at_once=at_once):
            if not self._store.ready:
                return
            waiting = self._delivery.queue.shards[shard].unspilled
            if self._host.may_store(sum(request.body_bytes for request in waiting)):
                self._begin(shard)

    def tidy(self) -> None:
        """Delete files whose records are all settled."""
        queue = self._delivery.queue
        if not (self._used or queue.stored_bytes):
            return
        freed = queue.free()
        if freed:
            # Before the files go: one that the cursor names and that is not there counts as lost.
            self._store.note(self._delivery.cursors(self._host.now()))
        for shard, segments in freed.items():
            self._store.free(shard, segments)
        self._used = queue.stored_bytes > 0
        self._store.account(queue.stored_bytes)

    async def load(self, entry: Entry) -> Send | None:
        """Read a record; None where that failed, which is accounted for."""
        try:
            request = await self._store.load(entry)
        except StorageError as error:
            self._delivery.load_failed(entry, str(error), self._host.now())
            return None
        except BaseException:
            self._delivery.queue.shards[entry.shard].load_failed(lost=False)
            raise
        return self._delivery.loaded(entry, request, self._host.now())

    async def finish(self) -> None:
        """Wait for the spills that run."""
        while self._spills:
            await asyncio.wait(self._spills)

    async def spill_rest(self) -> None:
        """Put everything on disk; nothing may be in flight.

        What the disk refuses, or does not take in time, stays in memory, in the ledger, and holds
        its positions.
        """
        try:
            async with asyncio.timeout(SPILL_REST_S_MAX):
                await self._spill_all()
                if self._delivery.queue.memory_bytes:
                    await asyncio.sleep(SPILL_AGAIN_S)
                    await self._spill_all()
        except TimeoutError:
            await self._cancel()
        self._store.note(self._delivery.cursors(self._host.now()))
        self._ended = True

    def resume(self) -> None:
        """Go on after :meth:`spill_rest`, ended or cancelled."""
        self._ended = False

    def identify(self, owner: Owner) -> None:
        """Save a changed owner: another endpoint or another object."""
        self._store.identify(owner)

    def park(self) -> int:
        """Leave the queue on disk to the store, as an orphan, after :meth:`spill_rest`.

        Returns the points in it, which leave the sink's ledger.
        """
        assert self._ended
        cursors = self._delivery.cursors(self._host.now())
        backlogs, points = self._delivery.queue.detach_disk()
        self._delivery.ledger.withdraw(points)
        self._store.park(backlogs, cursors, shards=self._delivery.shards)
        return points

    async def discard(self) -> int:
        """Delete the queue on disk, for good; nothing may be in flight.

        Returns the points that were in it, which are still in the sink's ledger.
        """
        self._ended = True
        await self._cancel()
        _, points = self._delivery.queue.detach_disk()
        self._store.discard()
        return points

    async def check(self) -> None:
        """Account for segments whose files are gone."""
        shards = self._delivery.queue.shards
        sizes = {
            (shard.number, number): size
            for shard in shards
            for number, size in shard.disk.sizes.items()
        }
        try:
            gone = await self._store.check(sizes)
        except StorageError as error:
            _log.warning("%s", error)
            return
        for shard, number in gone:
            self._delivery.lose(shard, number, self._host.now())
        if gone:
            self.tidy()

    async def _cancel(self) -> None:
        for task in self._spills:
            task.cancel()
        await self.finish()

    async def _spill_all(self) -> None:
        await self.finish()
        for shard in self._delivery.shards_to_spill(self._host.now(), at_once=True):
            self._begin(shard)
        await self.finish()

    def _begin(self, shard: int) -> None:
        batch = self._delivery.queue.shards[shard].begin_spill()
        if batch:
            self._spawn(self._spill(shard, batch))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._spills.add(task)
        task.add_done_callback(self._spills.discard)

    async def _spill(self, shard: int, batch: Sequence[EncodedRequest]) -> None:
        try:
            places = await self._store.save(
                shard, self._with_positions(shard, batch), shards=self._delivery.shards
            )
        except StorageError:
            self._delivery.queue.shards[shard].fail_spill()  # the store has reported it
        except BaseException:
            self._delivery.queue.shards[shard].fail_spill()
            raise
        else:
            self._delivery.spilled(shard, places)
            self.tidy()
        self._host.wake(shard)

    def _with_positions(
        self, shard: int, batch: Sequence[EncodedRequest]
    ) -> list[tuple[EncodedRequest, int]]:
        low = self._host.low_position(shard)
        request = self._delivery.queue.shards[shard].in_flight
        if request is not None and request.position != STORED and request is not batch[0]:
            low = min(low, request.position)
        lows: list[tuple[EncodedRequest, int]] = []
        for request in reversed(batch):
            low = min(low, request.position)
            lows.append((request, low))
        return lows[::-1]

    def __repr__(self) -> str:
        return f"<Spooler {self._store!r}, {len(self._spills)} spills>"
