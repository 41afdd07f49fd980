"""Puts a sink's payloads on disk and gets them back: the shell between its queue and its store.

Rules:

* What to save is decided by :meth:`relay.sink.delivery.DeliveryStateMachine.shards_to_spill`; here
  it is
  done, one
  save a lane at a time, without holding up what is being sent.
* A save that fails changes nothing: the store says that it is in trouble, the data stays in memory
  with its positions held, and upkeep tries again when the store is ready to.
* Each record says from which position on a crash has to replay: no older than anything of its lane
  that is left in memory, or that the pipeline still holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence

from relay.runtime.errors import StorageError
from relay.sink.delivery import DeliveryStateMachine
from relay.sink.queue.disk_index import Entry
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.spill.owner import Owner
from relay.sink.spill.store import SinkStore
from relay.sink.steps import Now, Send

_log = logging.getLogger("relay.sink")

SAVE_AGAIN_S = 1.0
"""How long to wait, at the end, after the disk refused what is left."""
SAVE_REST_S_MAX = 10.0
"""How long a disk may take for it all."""
CHECK_S = 30.0
"""How often it is looked whether the files are still there."""


class Spooler:
    """See the module's rules.

    ``make_room`` is asked before so many bytes are stored, and says whether they may be;
    ``low_limit`` is the oldest position that the pipeline or a lane's open batch still holds;
    ``ready`` is told of a lane that may have something to do.
    """

    def __init__(
        self,
        store: SinkStore,
        delivery: DeliveryStateMachine,
        *,
        now: Callable[[], Now],
        make_room: Callable[[int], bool],
        low_limit: Callable[[int], int],
        ready: Callable[[int], None],
    ) -> None:
        self._store = store
        self._delivery = delivery
        self._now = now
        self._make_room = make_room
        self._low_limit = low_limit
        self._ready = ready
        self._saves: set[asyncio.Task[None]] = set()
        self._used = delivery.queue.stored_bytes > 0
        self._ended = False
        self._check_at = 0.0

    def lows(self, shards: int) -> tuple[int, ...]:
        """See :meth:`SinkStore.lows`."""
        return self._store.lows(shards)

    def upkeep(self) -> None:
        """What has to be done about once a second."""
        self.save()
        self.tidy()
        if self._ended:
            return
        now = self._now()
        self._store.note(self._delivery.cursors(now))
        if self._used and now.monotonic >= self._check_at:
            self._check_at = now.monotonic + CHECK_S
            self._spawn(self.check())

    def save(self, *, at_once: bool = False) -> None:
        """Begin to write what is due, or everything that is only in memory."""
        if self._ended:
            return
        for shard in self._delivery.shards_to_spill(self._now(), at_once=at_once):
            if not self._store.ready:
                return
            unsaved = self._delivery.queue.shards[shard].unsaved
            if self._make_room(sum(payload.body_bytes for payload in unsaved)):
                self._begin(shard)

    def tidy(self) -> None:
        """Give back files that are done with."""
        queue = self._delivery.queue
        if not (self._used or queue.stored_bytes):
            return
        freed = queue.free()
        if freed:
            # Before the files go: one that the cursor names and that is not there counts as lost.
            self._store.note(self._delivery.cursors(self._now()))
        for shard, segments in freed.items():
            self._store.free(shard, segments)
        self._used = queue.stored_bytes > 0
        self._store.account(queue.stored_bytes)

    async def load(self, entry: Entry) -> Send | None:
        """Read a record; None where that did not work, which is accounted for."""
        try:
            payload = await self._store.load(entry)
        except StorageError as error:
            self._delivery.load_failed(entry, str(error), self._now())
            return None
        except BaseException:
            self._delivery.queue.not_loaded(entry, lost=False)
            raise
        return self._delivery.loaded(entry, payload, self._now())

    async def finish(self) -> None:
        """Wait for the saves that are under way."""
        while self._saves:
            await asyncio.wait(self._saves)

    async def save_rest(self) -> None:
        """Put everything on disk; nothing may be in flight. What the disk refuses, or does not take
        in time, stays in memory, in the ledger, and holds its positions."""
        try:
            async with asyncio.timeout(SAVE_REST_S_MAX):
                await self._save_all()
                if self._delivery.queue.memory_bytes:
                    await asyncio.sleep(SAVE_AGAIN_S)
                    await self._save_all()
        except TimeoutError:
            for task in self._saves:
                task.cancel()
            await self.finish()
        self._store.note(self._delivery.cursors(self._now()))
        self._ended = True

    def resume(self) -> None:
        """Go on after :meth:`save_rest` was called, or cut short."""
        self._ended = False

    def identify(self, owner: Owner) -> None:
        """See :meth:`SinkStore.identify`."""
        self._store.identify(owner)

    def park(self) -> int:
        """The sink is gone, and everything is saved that can be: leave its queue on disk to the
        store. Returns the points in it, which are the sink's no more."""
        assert self._ended
        cursors = self._delivery.cursors(self._now())
        backlogs, points = self._delivery.queue.part()
        self._delivery.ledger.withdraw(points)
        self._store.park(backlogs, cursors, shards=self._delivery.shards)
        return points

    async def check(self) -> None:
        """Account for segments that somebody took away."""
        shards = self._delivery.queue.shards
        sizes = {
            (shard.number, number): size
            for shard in shards
            for number, size in shard.backlog.sizes.items()
        }
        try:
            gone = await self._store.check(sizes)
        except StorageError as error:
            _log.warning("%s", error)
            return
        for shard, number in gone:
            self._delivery.lose(shard, number, self._now())
        if gone:
            self.tidy()

    async def _save_all(self) -> None:
        await self.finish()
        for shard in self._delivery.shards_to_spill(self._now(), at_once=True):
            self._begin(shard)
        await self.finish()

    def _begin(self, shard: int) -> None:
        batch = self._delivery.queue.begin_save(shard)
        if batch:
            self._spawn(self._save(shard, batch))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._saves.add(task)
        task.add_done_callback(self._saves.discard)

    async def _save(self, shard: int, batch: Sequence[EncodedRequest]) -> None:
        try:
            places = await self._store.save(
                shard, self._with_lows(shard, batch), shards=self._delivery.shards
            )
        except StorageError:
            self._delivery.queue.fail_save(shard)  # the store has said so
        except BaseException:
            self._delivery.queue.fail_save(shard)
            raise
        else:
            self._delivery.saved(shard, places)
            self.tidy()
        self._ready(shard)

    def _with_lows(
        self, shard: int, batch: Sequence[EncodedRequest]
    ) -> list[tuple[EncodedRequest, int]]:
        low = self._low_limit(shard)
        flying = self._delivery.queue.shards[shard].flying
        if flying is not None and flying.position != STORED and flying is not batch[0]:
            low = min(low, flying.position)
        lows: list[tuple[EncodedRequest, int]] = []
        for payload in reversed(batch):
            low = min(low, payload.position)
            lows.append((payload, low))
        return lows[::-1]

    def __repr__(self) -> str:
        return f"<Spooler {self._store!r}, {len(self._saves)} saves>"
